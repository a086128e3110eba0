//! `symphony bench idle`: what a server costs when it has little or nothing to do.

use super::bare;
use super::client::{Payload, Protocol, RemoteClient};
use super::figures::seconds;
use super::load::{self, Pacing, Plan};
use super::process::{Used, cpu_time, threads, used_since};
use super::repository::Emulated;
use super::server::Server;
use crate::report::Report;
use anyhow::{Context, Result};
use serde::Serialize;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use symphony_client::table::{percent, titles};
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
    /// Requests per second meanwhile, Poisson.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// What the client speaks.
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    protocol: Protocol,
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
    /// By name, what the server's threads used of it.
    threads: Vec<Used>,
    /// Two threads that woke each other as often and did nothing else; nothing without requests.
    bare: Option<Used>,
}

pub(crate) fn command(args: &IdleArgs) -> Result<()> {
    let repository = Emulated::INSTANT.repository()?;
    let flags = ["--accelerators".to_owned(), args.accelerators.to_string()];
    let server = Server::start(repository.path(), &flags)?;
    let watched = seconds(args.seconds)?;
    sleep(seconds(args.warmup)?);
    let payload = Payload::new(&repository.model, &Emulated::INSTANT.signature());
    let is_asked = args.rate > 0.0;
    let bare = is_asked.then(|| bare::wake_ups(args.rate, BARE_FOR)).transpose()?;
    let (start, before) = (Instant::now(), cpu_time(server.pid())?);
    let threads_before = threads(server.pid())?;
    let answered = if is_asked {
        answered(&server, &payload, args, watched)?
    } else {
        sleep(watched);
        0
    };
    let (watched, after) = (start.elapsed(), cpu_time(server.pid())?);
    let report = IdleReport {
        accelerators: args.accelerators,
        answered,
        watched_s: watched.as_secs_f64(),
        cpu_s: after.saturating_sub(before).as_secs_f64(),
        threads: used_since(&threads_before, &threads(server.pid())?),
        bare,
    };
    report.show(args.json)
}

/// Sends requests for so long: how many were answered.
fn answered(server: &Server, payload: &Payload, args: &IdleArgs, time: Duration) -> Result<u64> {
    let stream = Stream::steady(ModelId::first(0), Process::Poisson, args.rate);
    let plan = Plan::new(&[stream], 1, Duration::ZERO, time)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tallies = runtime.context("cannot start the client")?.block_on(async {
        let client = RemoteClient::connect(args.protocol, server.ports, 1, payload).await?;
        load::open(&[Arc::new(client)], plan, Pacing::Sleep, Duration::MAX).await
    })?;
    let tally = tallies.first().context("one client has one tally")?;
    tally.expect_no_failure()?;
    Ok(tally.counts.good)
}

/// How long two bare threads are watched.
const BARE_FOR: Duration = Duration::from_secs(3);

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
        let count = self.answered as f64;
        let each = |used: &Used| {
            let (name, cpu_us) = (&used.name, used.cpu.as_secs_f64() * 1e6 / count);
            format!(
                "{name}: woken {:.2} times a request, {cpu_us:.0} us",
                used.sleeps as f64 / count
            )
        };
        let threads = self.threads.iter().filter(|used| used.sleeps > self.answered / 10);
        let bare = self.bare.as_ref().map(|bare| {
            let each_us = bare.cpu.as_secs_f64() * 1e6 / bare.sleeps.max(1) as f64;
            format!("two bare threads that wake each other as often: {each_us:.0} us a wake-up")
        });
        threads.filter(|_| self.answered > 0).map(each).chain(bare).collect()
    }
}
