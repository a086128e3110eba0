//! `symphony bench latency`: a model that takes no time, so that what is left is the system.
//!
//! Every latency counts from the moment the request was due. The client is awake just before
//! that, so that it is not its own waking which is measured.

use super::client::{Payload, Protocol, RemoteClient};
use super::figures::seconds;
use super::load::{self, Pacing, Plan};
use super::repository::Emulated;
use super::server::{Ports, Server};
use crate::report::Report;
use anyhow::{Context, Result};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use symphony_client::table::titles;
use symphony_client::tally::{Counts, Percentiles, Tally};
use symphony_core::ModelId;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    /// Requests per second of the open loop, Poisson.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Seconds measured per line.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before measuring begins, per line.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// What the client speaks.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Protocol::ALL)]
    protocols: Vec<Protocol>,
    /// Requests under way in the closed loop, one line each; the highest rate counts.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    concurrency: Vec<usize>,
    /// Let the client sleep until a request is due; its waking then counts too.
    #[arg(long)]
    sleep: bool,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Connections of the open loop.
const CONNECTIONS: [usize; 2] = [1, 16];

/// Connections of the closed loop, at most; more requests share them where the protocol can.
const CONNECTIONS_CLOSED: usize = 16;

#[derive(Debug, Serialize)]
struct LatencyReport {
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    protocol: Protocol,
    #[serde(rename = "loop")]
    kind: Loop,
    connections: usize,
    /// Requests under way in a closed loop.
    concurrency: Option<usize>,
    /// Requests per second: offered to an open loop, reached by a closed one.
    rate: f64,
    counts: Counts,
    latency: Percentiles,
    /// How late the client sent.
    lag: Percentiles,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Loop {
    Open,
    Closed,
}

pub(crate) fn command(args: &LatencyArgs) -> Result<()> {
    let repository = Emulated::INSTANT.repository()?;
    let flags = ["--mode", "eager", "--accelerators", "1"].map(str::to_owned);
    let server = Server::start(repository.path(), &flags)?;
    let payload = Payload::new(&repository.model, &Emulated::INSTANT.signature());
    let bench = Bench { args, ports: server.ports, payload };
    // Looking at the sockets after every task: a turn of the loop is short.
    let lines = tokio::runtime::Builder::new_current_thread()
        .event_interval(1)
        .enable_all()
        .build()
        .context("cannot start the client")?
        .block_on(bench.run())?;
    LatencyReport { lines }.show(args.json)
}

struct Bench<'a> {
    args: &'a LatencyArgs,
    ports: Ports,
    payload: Payload,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for &protocol in &self.args.protocols {
            for connections in CONNECTIONS {
                lines.push(self.open(protocol, connections).await?);
            }
            for &concurrency in &self.args.concurrency {
                lines.push(self.closed(protocol, concurrency).await?);
            }
        }
        Ok(lines)
    }

    async fn open(&self, protocol: Protocol, connections: usize) -> Result<Line> {
        let args = self.args;
        let stream = Stream::steady(ModelId::first(0), Process::Poisson, args.rate);
        let (warmup, measured) = (seconds(args.warmup)?, seconds(args.seconds)?);
        let plan = Plan::new(&[stream], args.seed, warmup, measured)?;
        let pacing = if args.sleep { Pacing::Sleep } else { Pacing::Exact };
        let client = self.client(protocol, connections).await?;
        let tally = load::open(&[client], plan, pacing, Duration::MAX).await?.remove(0);
        tally.expect_no_failure()?;
        Ok(line(protocol, Loop::Open, connections, None, args.rate, &tally))
    }

    async fn closed(&self, protocol: Protocol, concurrency: usize) -> Result<Line> {
        let duration = seconds(self.args.seconds)?;
        let connections = match protocol {
            Protocol::Grpc => concurrency.min(CONNECTIONS_CLOSED),
            Protocol::HttpBinary | Protocol::HttpJson => concurrency,
        };
        let client = self.client(protocol, connections).await?;
        let tally = load::closed(&client, concurrency, duration).await?;
        tally.expect_no_failure()?;
        let rate = tally.counts.offered() as f64 / duration.as_secs_f64();
        Ok(line(protocol, Loop::Closed, connections, Some(concurrency), rate, &tally))
    }

    async fn client(&self, protocol: Protocol, connections: usize) -> Result<Arc<RemoteClient>> {
        let client =
            RemoteClient::connect(protocol, self.ports, connections, &self.payload).await?;
        Ok(Arc::new(client))
    }
}

fn line(
    protocol: Protocol,
    kind: Loop,
    connections: usize,
    concurrency: Option<usize>,
    rate: f64,
    tally: &Tally,
) -> Line {
    let Tally { counts, .. } = *tally;
    let (latency, lag) = (tally.latency(), tally.lag());
    Line { protocol, kind, connections, concurrency, rate, counts, latency, lag }
}

impl Report for LatencyReport {
    fn columns(&self) -> Vec<String> {
        titles(["", "connections", "r/s", "answered", "p50 us", "p99 us", "p99.9 us", "lag p50 us"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            let what = match line.concurrency {
                None => "open loop".to_owned(),
                Some(concurrency) => format!("closed loop, {concurrency} under way"),
            };
            let Percentiles { p50_us, p99_us, p999_us } = line.latency;
            let mut row = vec![
                format!("{}, {what}", line.protocol.name()),
                line.connections.to_string(),
                format!("{:.0}", line.rate),
                line.counts.good.to_string(),
            ];
            row.extend([p50_us, p99_us, p999_us, line.lag.p50_us].map(|us| format!("{us:.0}")));
            row
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        let note = |protocol: Protocol| {
            let lines = self.lines.iter().filter(|line| line.protocol == protocol);
            let best = lines.map(|line| line.rate).reduce(f64::max)?;
            Some(format!("highest rate, {}: {best:.0} r/s", protocol.name()))
        };
        Protocol::ALL.into_iter().filter_map(note).collect()
    }
}
