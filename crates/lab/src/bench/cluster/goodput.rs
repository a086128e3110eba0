//! `symphony bench cluster goodput`: two frontends and eight emulated accelerators in four backends,
//! each a process. The highest rate of which 99 % is answered in time, beside what the simulator finds
//! for the delays that the cluster has measured.

use super::local::{Cluster, Shape};
use crate::bench::client::{Payload, Protocol, RemoteClient};
use crate::bench::figures::seconds;
use crate::bench::load::{self, Pacing, Plan};
use crate::bench::repository::Emulated;
use crate::measured_model::MeasuredModel;
use crate::report::Report;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use symphony_client::table::{percent, titles};
use symphony_client::tally::{Counts, Tally};
use symphony_client::{Target, listing};
use symphony_core::sched::Mode;
use symphony_core::{Delays, ModelId, Profile, Span};
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GoodputArgs {
    /// Emulated time per row, in milliseconds.
    #[arg(long, default_value_t = 4.0)]
    alpha_ms: f64,
    /// Emulated time per batch, in milliseconds.
    #[arg(long, default_value_t = 10.0)]
    beta_ms: f64,
    /// The latency objective in milliseconds.
    #[arg(long, default_value_t = 100.0)]
    slo_ms: f64,
    /// Frontends, each with half of the load.
    #[arg(long, default_value_t = 2)]
    frontends: u16,
    /// Backends.
    #[arg(long, default_value_t = 4)]
    backends: u16,
    /// Accelerators of each backend.
    #[arg(long, default_value_t = 2)]
    accelerators: u32,
    /// Offered rates, as shares of the goodput that the simulator finds.
    #[arg(long, value_delimiter = ',',
          default_values_t = [0.5, 0.8, 0.9, 0.95, 0.975, 1.0, 1.025, 1.05])]
    shares: Vec<f64>,
    /// How batches are scheduled.
    #[arg(long, default_value = "adaptive")]
    mode: Mode,
    /// Seconds measured at each rate.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const WARMUP: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 16;
/// Rows of the largest batch.
const BATCH_MAX: u32 = 64;
/// The share of requests that may be late or dropped.
const BAD_MAX: f64 = 0.01;

#[derive(Debug, Serialize)]
struct GoodputReport {
    delays: DelaysMs,
    /// The highest rate that the simulator finds, with these delays.
    simulated_per_s: f64,
    /// The highest offered rate of which 99 % was answered in time.
    live_per_s: f64,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    share: f64,
    offered_per_s: f64,
    good_per_s: f64,
    counts: Counts,
    p99_ms: f64,
}

/// What a frontend tells of the delays that plans count with.
#[derive(Debug, Deserialize)]
struct Told {
    delays_ms: Option<DelaysMs>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct DelaysMs {
    control: f64,
    #[serde(default)]
    data: f64,
    response: f64,
    jitter: f64,
}

pub(crate) fn command(args: &GoodputArgs) -> Result<()> {
    let &GoodputArgs { alpha_ms, beta_ms, slo_ms, .. } = args;
    let emulated =
        Emulated { alpha_ms, beta_ms, slo_ms, max_batch: BATCH_MAX, ..Emulated::INSTANT };
    let repository = emulated.repository()?;
    let shape = Shape {
        frontends: args.frontends,
        backends: args.backends,
        accelerators: args.accelerators,
    };
    let settings = format!("[scheduler]\nmode = {:?}\n", args.mode.name());
    let cluster = Cluster::start(repository.path(), shape, &settings)?;
    let payload = Payload::new(&repository.model, &emulated.signature());
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?
        .block_on(measure(args, &cluster, &payload))?;
    report.show(args.json)
}

async fn measure(
    args: &GoodputArgs,
    cluster: &Cluster,
    payload: &Payload,
) -> Result<GoodputReport> {
    let mut clients = Vec::new();
    for ports in &cluster.ports {
        let client = RemoteClient::connect(Protocol::Grpc, *ports, CONNECTIONS, payload);
        clients.push(Arc::new(client.await?));
    }
    // Half of what is possible without delays, so that they are measured under load.
    let ideal = args.model(Delays::default())?.goodput()?;
    offer(args, &clients, 0.5 * ideal).await?;
    let told = listing(&Target::local(cluster.ports[0].http)).await?;
    let told: Told = serde_json::from_value(told).context("the frontend lists something else")?;
    let delays = told.delays_ms.context("the frontend tells no delays")?;
    let simulated_per_s = args.model(delays.into())?.goodput()?;
    let (mut lines, mut live_per_s) = (Vec::new(), 0.0f64);
    for &share in &args.shares {
        let tallies = offer(args, &clients, share * simulated_per_s).await?;
        let line = line(args, share, &tallies);
        if line.counts.bad_share() <= BAD_MAX {
            live_per_s = live_per_s.max(line.offered_per_s);
        }
        lines.push(line);
    }
    Ok(GoodputReport { delays, simulated_per_s, live_per_s, lines })
}

impl GoodputArgs {
    fn model(&self, delays: Delays) -> Result<MeasuredModel> {
        let ms = Span::from_millis_f64;
        let profile = Profile::linear(ms(self.alpha_ms), ms(self.beta_ms), BATCH_MAX)?;
        Ok(MeasuredModel {
            profile: Arc::new(profile),
            objective: ms(self.slo_ms),
            accelerators: u32::from(self.backends) * self.accelerators,
            mode: self.mode,
            delays,
        })
    }
}

impl From<DelaysMs> for Delays {
    fn from(told: DelaysMs) -> Delays {
        let ms = Span::from_millis_f64;
        let DelaysMs { control, data, response, jitter } = told;
        Delays { control: ms(control), data: ms(data), response: ms(response), jitter: ms(jitter) }
    }
}

/// Offers a rate, an equal part of it to each frontend.
async fn offer(args: &GoodputArgs, clients: &[Arc<RemoteClient>], rate: f64) -> Result<Vec<Tally>> {
    let each = rate / clients.len() as f64;
    let stream = |number| Stream::steady(ModelId::first(number), Process::Poisson, each);
    let streams: Vec<_> = (0u32..).take(clients.len()).map(stream).collect();
    let plan = Plan::new(&streams, args.seed, WARMUP, seconds(args.seconds)?)?;
    let objective = Duration::from_secs_f64(args.slo_ms / 1e3);
    let tallies = load::open(clients, plan, Pacing::Sleep, objective).await?;
    tallies.iter().try_for_each(Tally::expect_no_failure)?;
    Ok(tallies)
}

fn line(args: &GoodputArgs, share: f64, tallies: &[Tally]) -> Line {
    let mut counts = Counts::default();
    for tally in tallies {
        counts.good += tally.counts.good;
        counts.late += tally.counts.late;
        counts.dropped += tally.counts.dropped;
        counts.refused += tally.counts.refused;
    }
    let p99 = tallies.iter().map(|tally| tally.latency().p99_us / 1e3);
    Line {
        share,
        offered_per_s: counts.offered() as f64 / args.seconds,
        good_per_s: counts.good as f64 / args.seconds,
        p99_ms: p99.fold(0.0, f64::max),
        counts,
    }
}

impl Report for GoodputReport {
    fn columns(&self) -> Vec<String> {
        titles(["of simulated", "offered r/s", "good r/s", "bad %", "p99 ms"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            vec![
                format!("{:.3}", line.share),
                format!("{:.0}", line.offered_per_s),
                format!("{:.0}", line.good_per_s),
                percent(line.counts.bad_share()),
                format!("{:.1}", line.p99_ms),
            ]
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        let DelaysMs { control, data, response, jitter } = self.delays;
        vec![
            format!(
                "measured delays in ms: control {control:.3}, data {data:.3}, response \
                 {response:.3}, jitter {jitter:.3}"
            ),
            format!(
                "goodput: {:.0} r/s, {:.1} % of the simulator's {:.0}",
                self.live_per_s,
                100.0 * self.live_per_s / self.simulated_per_s,
                self.simulated_per_s
            ),
        ]
    }
}
