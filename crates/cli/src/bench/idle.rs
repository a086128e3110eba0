//! `symphony bench idle`: what a server costs that has nothing to do, or little.

use super::client::{Payload, Protocol, RemoteClient};
use super::load::{self, Pacing, Plan};
use super::process::cpu_time;
use super::report::{Report, percent, titles};
use super::repository::Emulated;
use super::seconds;
use super::server::Server;
use anyhow::{Context, Result};
use serde::Serialize;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use symphony_core::ModelId;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// Seconds watched.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that, for the server to settle.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Accelerators of the server.
    #[arg(long, default_value_t = 8)]
    accelerators: u32,
    /// Requests per second meanwhile, by gRPC, Poisson.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct IdleReport {
    accelerators: u32,
    /// Requests answered meanwhile.
    answered: u64,
    watched_s: f64,
    cpu_s: f64,
}

pub(crate) fn command(args: &IdleArgs) -> Result<()> {
    let repository = Emulated::INSTANT.repository()?;
    let flags = ["--accelerators".to_owned(), args.accelerators.to_string()];
    let server = Server::start(repository.path(), &flags)?;
    let watched = seconds(args.seconds)?;
    sleep(seconds(args.warmup)?);
    let payload = Payload::new(&repository.model, &Emulated::signature());
    let (start, before) = (Instant::now(), cpu_time(server.pid())?);
    let answered = match args.rate > 0.0 {
        true => answered(&server, &payload, args.rate, watched)?,
        false => {
            sleep(watched);
            0
        }
    };
    let (watched, after) = (start.elapsed(), cpu_time(server.pid())?);
    let report = IdleReport {
        accelerators: args.accelerators,
        answered,
        watched_s: watched.as_secs_f64(),
        cpu_s: after.saturating_sub(before).as_secs_f64(),
    };
    report.show(args.json)
}

/// Sends requests at this rate for so long: how many were answered.
fn answered(server: &Server, payload: &Payload, rate: f64, time: Duration) -> Result<u64> {
    let plan =
        Plan::new(&[Stream::steady(ModelId(0), Process::Poisson, rate)], 1, Duration::ZERO, time)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tallies = runtime.context("cannot start the client")?.block_on(async {
        let client = RemoteClient::connect(Protocol::Grpc, server.ports, 1, payload).await?;
        load::open(&[Arc::new(client)], plan, Pacing::Sleep, Duration::MAX).await
    })?;
    let tally = tallies.first().context("one client has one tally")?;
    tally.expect_no_failure()?;
    Ok(tally.counts.good)
}

impl Report for IdleReport {
    fn columns(&self) -> Vec<String> {
        let columns = ["accelerators", "requests", "watched s", "processor time s"];
        titles(columns).into_iter().chain(titles(["share of a core %"])).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.accelerators.to_string(),
            self.answered.to_string(),
            format!("{:.1}", self.watched_s),
            format!("{:.2}", self.cpu_s),
            percent(self.cpu_s / self.watched_s),
        ]]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
