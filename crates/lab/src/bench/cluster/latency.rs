//! `symphony bench cluster latency`: the same load on one process and on a cluster with one process
//! for each role, in turn. The model takes no time, so that what is left is the system.

use super::local::{Cluster, Shape};
use super::wakeups::voluntary_switches;
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
    /// Of all threads of the server, for each request.
    wakeups: f64,
}

/// One process, or a cluster.
#[derive(Clone, Copy, Debug)]
struct Target {
    ports: Ports,
    pid: u32,
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
    let targets = [
        Target { ports: server.ports, pid: server.pid() },
        Target { ports: cluster.ports[0], pid: cluster.pid() },
    ];
    let bench = Bench { args, targets, payload };
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
    /// The one process, and the cluster.
    targets: [Target; 2],
    payload: Payload,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for &protocol in &self.args.protocols {
            let mut rounds = [Vec::new(), Vec::new()];
            for _ in 0..self.args.rounds.max(1) {
                for (target, round) in self.targets.iter().zip(&mut rounds) {
                    round.push(self.round(protocol, *target).await?);
                }
            }
            let [one_process, cluster] = rounds.map(|round| Figures::median(&round));
            lines.push(Line { protocol, one_process, cluster });
        }
        Ok(lines)
    }

    async fn round(&self, protocol: Protocol, target: Target) -> Result<Figures> {
        let args = self.args;
        let stream = Stream::steady(ModelId::first(0), Process::Poisson, args.rate);
        let plan = Plan::new(&[stream], args.seed, WARMUP, seconds(args.seconds)?)?;
        let client =
            RemoteClient::connect(protocol, target.ports, CONNECTIONS, &self.payload).await?;
        let client = [Arc::new(client)];
        let before = voluntary_switches(target.pid)?;
        let tally = load::open(&client, plan, Pacing::Sleep, Duration::MAX).await?.remove(0);
        let woken = voluntary_switches(target.pid)? - before;
        tally.expect_no_failure()?;
        let Percentiles { p50_us, p99_us, .. } = tally.latency();
        let requests = args.rate * (args.seconds + WARMUP.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of switches")]
        let wakeups = woken as f64 / requests;
        Ok(Figures { p50_us, p99_us, wakeups })
    }
}

impl Figures {
    fn median(rounds: &[Figures]) -> Figures {
        let median = |of: fn(&Figures) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Figures {
            p50_us: median(|it| it.p50_us),
            p99_us: median(|it| it.p99_us),
            wakeups: median(|it| it.wakeups),
        }
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
            "wake-ups, one process",
            "cluster",
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
                format!("{:.1}", one.wakeups),
                format!("{:.1}", many.wakeups),
            ]
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
