//! `symphony bench soak`: memory against requests served, both protocols at once.

use super::client::{Client, Payload, Protocol, RemoteClient};
use super::figures::seconds;
use super::line::slope;
use super::load;
use super::process::resident_bytes;
use super::repository::Emulated;
use super::server::Server;
use crate::report::Report;
use anyhow::{Context, Result};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use symphony_client::table::titles;
use symphony_client::tally::Outcome;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// Seconds of load.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Times that memory is looked at; the slope is that of the second half.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    steps: u32,
    /// Requests under way, and connections, of each protocol.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct SoakReport {
    steps: Vec<Step>,
    answered: u64,
    /// Growth over the second half; none when nothing was served in it.
    bytes_per_million: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Step {
    served: u64,
    resident_bytes: u64,
}

pub(crate) fn command(args: &SoakArgs) -> Result<()> {
    let repository = Emulated::INSTANT.repository()?;
    // Clients that wait for their answers: deferral would make them wait for each other.
    let flags = ["--mode", "eager"].map(str::to_owned);
    let server = Server::start(repository.path(), &flags)?;
    let payload = Payload::new(&repository.model, &Emulated::INSTANT.signature());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?
        .block_on(soak(args, &server, &payload))?
        .show(args.json)
}

async fn soak(args: &SoakArgs, server: &Server, payload: &Payload) -> Result<SoakReport> {
    let concurrency = args.concurrency;
    let duration = seconds(args.seconds)?;
    let served = Arc::new(AtomicU64::new(0));
    let connect = async |protocol| {
        let client = RemoteClient::connect(protocol, server.ports, concurrency, payload).await?;
        anyhow::Ok(Arc::new(Counted { client, served: Arc::clone(&served) }))
    };
    let grpc = connect(Protocol::Grpc).await?;
    let http = connect(Protocol::HttpBinary).await?;
    let (grpc, http, steps) = tokio::join!(
        load::closed(&grpc, concurrency, duration),
        load::closed(&http, concurrency, duration),
        watch(server.pid(), &served, duration, args.steps),
    );
    let (grpc, http, steps) = (grpc?, http?, steps?);
    grpc.expect_no_failure()?;
    http.expect_no_failure()?;
    let half: Vec<_> = steps.iter().skip(steps.len() / 2).map(Step::point).collect();
    Ok(SoakReport {
        answered: grpc.counts.good + http.counts.good,
        bytes_per_million: slope(&half).map(|bytes| bytes * 1e6),
        steps,
    })
}

async fn watch(pid: u32, served: &AtomicU64, duration: Duration, steps: u32) -> Result<Vec<Step>> {
    let mut seen = Vec::new();
    for _ in 0..steps {
        tokio::time::sleep(duration / steps).await;
        let served = served.load(Ordering::Relaxed);
        seen.push(Step { served, resident_bytes: resident_bytes(pid)? });
    }
    Ok(seen)
}

impl Step {
    fn point(&self) -> (f64, f64) {
        (self.served as f64, self.resident_bytes as f64)
    }
}

/// Counts what another client sends.
struct Counted {
    client: RemoteClient,
    served: Arc<AtomicU64>,
}

impl Client for Counted {
    async fn infer(&self) -> Outcome {
        let outcome = self.client.infer().await;
        self.served.fetch_add(1, Ordering::Relaxed);
        outcome
    }
}

impl Report for SoakReport {
    fn columns(&self) -> Vec<String> {
        titles(["requests served", "resident MiB"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mebibytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0 / 1024.0);
        let row = |step: &Step| vec![step.served.to_string(), mebibytes(step.resident_bytes)];
        self.steps.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        match self.bytes_per_million {
            Some(bytes) => {
                vec![format!("slope over the second half: {bytes:.0} bytes per million requests")]
            }
            None => vec!["no slope: nothing was served in the second half".to_owned()],
        }
    }
}
