//! `symphony bench cluster latency`: the same load on one process and on a cluster with one process
//! for each role, in turn. The model takes no time, so that what is left is the system.

use super::local::{Cluster, Shape};
use crate::bench::client::{Payload, Protocol, RemoteClient};
use crate::bench::figures::seconds;
use crate::bench::load::{self, Pacing, Plan};
use crate::bench::repository::Emulated;
use crate::bench::server::{Ports, Server};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use symphony_client::table::titles;
use symphony_client::tally::Percentiles;
use symphony_core::ModelId;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    /// Requests per second, Poisson.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Seconds measured in each round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds: one process, then the cluster.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What the client speaks.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Protocol::Grpc, Protocol::HttpBinary])]
    protocols: Vec<Protocol>,
    /// Bytes of a request's input, in whole numbers of 4.
    #[arg(long, default_value_t = 64)]
    input_bytes: usize,
    /// Megabytes of memory in which backends read inputs where they wait; 0 has them sent.
    #[arg(long, default_value_t = 1024)]
    arena_mib: u32,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Before measuring begins, in each round.
const WARMUP: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 16;
/// A batch starts at once, as the one accelerator is free.
const SETTINGS: &str = "[scheduler]\nmode = \"eager\"\n";

#[derive(Debug, Serialize)]
struct LatencyReport {
    lines: Vec<Line>,
}

/// Medians over the rounds.
#[derive(Clone, Debug, Serialize)]
struct Line {
    protocol: Protocol,
    one_process: Figures,
    cluster: Figures,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    p50_us: f64,
    p99_us: f64,
}

pub(crate) fn command(args: &LatencyArgs) -> Result<()> {
    ensure!(args.input_bytes >= 4, "--input-bytes takes 4 or more: one number");
    let model = Emulated { elements: args.input_bytes / 4, ..Emulated::INSTANT };
    let repository = model.repository()?;
    let flags = ["--mode", "eager", "--accelerators", "1", "--threads", "1"].map(str::to_owned);
    let server = Server::start(repository.path(), &flags)?;
    let settings = format!("{SETTINGS}[cluster]\narena_mib = {}\n", args.arena_mib);
    let shape = Shape { frontends: 1, backends: 1, accelerators: 1 };
    let cluster = Cluster::start(repository.path(), shape, &settings)?;
    let payload = Payload::new(&repository.model, &model.signature());
    let bench = Bench { args, ports: [server.ports, cluster.ports[0]], payload };
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
    /// Of the one process, and of the cluster.
    ports: [Ports; 2],
    payload: Payload,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for &protocol in &self.args.protocols {
            let mut rounds = [Vec::new(), Vec::new()];
            for _ in 0..self.args.rounds.max(1) {
                for (ports, round) in self.ports.iter().zip(&mut rounds) {
                    round.push(self.round(protocol, *ports).await?);
                }
            }
            let [one_process, cluster] = rounds.map(|round| Figures::median(&round));
            lines.push(Line { protocol, one_process, cluster });
        }
        Ok(lines)
    }

    async fn round(&self, protocol: Protocol, ports: Ports) -> Result<Percentiles> {
        let args = self.args;
        let stream = Stream::steady(ModelId::first(0), Process::Poisson, args.rate);
        let plan = Plan::new(&[stream], args.seed, WARMUP, seconds(args.seconds)?)?;
        let client = RemoteClient::connect(protocol, ports, CONNECTIONS, &self.payload).await?;
        let client = [Arc::new(client)];
        let tally = load::open(&client, plan, Pacing::Sleep, Duration::MAX).await?.remove(0);
        tally.expect_no_failure()?;
        Ok(tally.latency())
    }
}

impl Figures {
    fn median(rounds: &[Percentiles]) -> Figures {
        let median = |of: fn(&Percentiles) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Figures { p50_us: median(|it| it.p50_us), p99_us: median(|it| it.p99_us) }
    }
}

impl Report for LatencyReport {
    fn columns(&self) -> Vec<String> {
        titles([
            "protocol",
            "p50 us, one process",
            "cluster",
            "added",
            "p99 us, one process",
            "cluster",
            "added",
        ])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            let (one, many) = (line.one_process, line.cluster);
            let figure = |value: f64| format!("{value:.0}");
            vec![
                line.protocol.name().to_owned(),
                figure(one.p50_us),
                figure(many.p50_us),
                figure(many.p50_us - one.p50_us),
                figure(one.p99_us),
                figure(many.p99_us),
                figure(many.p99_us - one.p99_us),
            ]
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
