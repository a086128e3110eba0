//! `symphony bench sizes`: a model whose requests differ in size, in lanes, beside the two ways without
//! them: everything padded to the bound, and only requests of equal size together.
//!
//! Pools of emulated accelerators in this process, one after the other, each under the same arrivals.
//! Rates are shares of what padding to the bound reaches with batches in a steady rhythm.

use super::client::{LocalClient, Payload};
use super::figures::seconds;
use super::load::{self, Pacing, Plan};
use super::pool::{client, in_pool};
use super::repository::Repository;
use super::settings;
use crate::report::Report;
use anyhow::{Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use symphony_client::table::{percent, titles};
use symphony_client::tally::Counts;
use symphony_control::config::PoolConfig;
use symphony_core::sched::Mode;
use symphony_core::{ModelId, Profile, RequestId, SizedProfile, Span};
use symphony_frontend::InputTensor;
use symphony_sim::bound::staggered;
use symphony_sim::{DrawnSizes, Sizes};
use symphony_wire::clock;
use symphony_wire::tensor::DataType;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SizesArgs {
    /// Emulated time per element of each row, in microseconds.
    #[arg(long, default_value_t = 8.0)]
    element_us: f64,
    /// Emulated time per batch, in milliseconds.
    #[arg(long, default_value_t = 20.0)]
    beta_ms: f64,
    /// The median size.
    #[arg(long, default_value_t = 40.0)]
    median: f64,
    /// The 99th percentile of the sizes, which are log-normal.
    #[arg(long, default_value_t = 400.0)]
    p99: f64,
    /// The largest size; what would be larger has it.
    #[arg(long, default_value_t = 512)]
    bound: u32,
    /// The latency objective, in times of one row of the largest size.
    #[arg(long, default_value_t = 4)]
    slo_times: u64,
    /// Largest batch.
    #[arg(long, default_value_t = 64)]
    max_batch: u32,
    /// Emulated accelerators.
    #[arg(long, default_value_t = 2)]
    accelerators: u32,
    /// Offered rates, as shares of what padding to the bound reaches.
    #[arg(long, value_delimiter = ',', default_values_t = [0.25, 0.5, 0.9, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])]
    shares: Vec<f64>,
    /// Seconds measured at each rate.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before measuring begins, at each rate.
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// How batches are scheduled.
    #[arg(long, default_value = "adaptive")]
    mode: Mode,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Requests come in so many sizes, each as often as the others.
const SIZES: u64 = 32;

/// How a model takes requests of different sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Taken {
    /// In lanes, padded to the longest of their batch.
    Lanes,
    /// Clients pad all to the bound.
    Padded,
    /// Only equal ones together.
    Equal,
}

impl Taken {
    const ALL: [Taken; 3] = [Taken::Lanes, Taken::Padded, Taken::Equal];

    fn name(self) -> &'static str {
        match self {
            Taken::Lanes => "lanes",
            Taken::Padded => "padded to the bound",
            Taken::Equal => "equal sizes only",
        }
    }
}

#[derive(Debug, Serialize)]
struct SizesReport {
    slo_ms: f64,
    /// What padding to the bound reaches with batches in a steady rhythm.
    padded_per_s: f64,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    taken: Taken,
    share: f64,
    offered_per_s: f64,
    good_per_s: f64,
    counts: Counts,
    /// Where the lanes ended after the run.
    borders: Vec<u64>,
}

pub(crate) fn command(args: &SizesArgs) -> Result<()> {
    ensure!(
        args.median >= 1.0 && args.p99 > args.median && f64::from(args.bound) >= args.median,
        "give a median from 1 to the bound, and a larger 99th percentile"
    );
    let costs = args.costs()?;
    let largest = costs.at(costs.size_max());
    let slo = largest.exec(1).times(args.slo_times);
    let padded_per_s = staggered(&largest, slo, args.accelerators);
    ensure!(padded_per_s > 0.0, "no batch fits twice into {slo}: give a larger --slo-times");
    let mut lines = Vec::new();
    for taken in Taken::ALL {
        for &share in &args.shares {
            lines.push(run(args, Offer { taken, share, rate: share * padded_per_s, slo })?);
        }
    }
    SizesReport { slo_ms: slo.as_millis_f64(), padded_per_s, lines }.show(args.json)
}

/// One rate, taken in one way.
#[derive(Clone, Copy)]
struct Offer {
    taken: Taken,
    share: f64,
    rate: f64,
    slo: Span,
}

impl SizesArgs {
    fn costs(&self) -> Result<SizedProfile> {
        let line = |size: u32| -> Result<(u64, Profile)> {
            let alpha = Span::from_millis_f64(self.element_us / 1e3).times(size.into());
            let base = Span::from_millis_f64(self.beta_ms);
            Ok((u64::from(size), Profile::linear(alpha, base, self.max_batch)?))
        };
        Ok(SizedProfile::new(vec![line(1)?, line(self.bound.max(2))?])?)
    }

    /// The sizes that come.
    fn sizes(&self) -> Result<Vec<u64>> {
        let drawn = DrawnSizes::log_normal(self.median, self.p99);
        let sizes = Sizes { costs: Arc::new(self.costs()?), drawn };
        // Of many that are drawn, every so many-th by size stands for those about it.
        let each = 256;
        let mut all: Vec<u64> =
            (0..SIZES * each).map(|id| sizes.of(self.seed, RequestId::only(id))).collect();
        all.sort_unstable();
        Ok(all.chunks(256).map(|chunk| chunk[chunk.len() / 2]).collect())
    }

    fn repository(&self, offer: &Offer) -> Result<Repository> {
        let SizesArgs { element_us, beta_ms, bound, max_batch, .. } = *self;
        let padded = offer.taken != Taken::Equal;
        let slo_ms = offer.slo.as_millis_f64();
        let settings = format!(
            "engine = \"emulated\"\nslo_ms = {slo_ms:?}\nmax_batch = {max_batch}\n\
             queue_max = 100000\n\
             [emulated]\nbeta_ms = {beta_ms:?}\nelement_us = {element_us:?}\n\
             open_max = {bound}\npadded = {padded}\n\
             [[input]]\nname = \"x\"\ndatatype = \"UINT8\"\nshape = [-1]\n\
             [[output]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [1]\n"
        );
        Repository::with("encoder", &settings)
    }
}

/// One row of this size.
fn payload(model: &str, size: u64) -> Result<Payload> {
    let data = Bytes::from(vec![1; usize::try_from(size)?]);
    let shape = vec![1, i64::try_from(size)?];
    let input = InputTensor { name: "x".to_owned(), datatype: DataType::Uint8, shape, data };
    Ok(Payload { model: model.to_owned(), inputs: vec![input] })
}

fn run(args: &SizesArgs, offer: Offer) -> Result<Line> {
    let loader = settings::loader(args.accelerators, 1, None, None)?;
    let config = PoolConfig { mode: args.mode, ..PoolConfig::new(loader) };
    let repository = args.repository(&offer)?;
    let sizes = args.sizes()?;
    let measured = seconds(args.seconds)?;
    let streams = (0u32..).zip(&sizes).map(|(number, _)| {
        let rate = offer.rate / sizes.len() as f64;
        Stream::steady(ModelId::first(number), Process::Poisson, rate)
    });
    let streams: Vec<_> = streams.collect();
    let plan = Plan::new(&streams, args.seed, seconds(args.warmup)?, measured)?;
    let objective: Duration = clock::duration(offer.slo);
    let (counts, borders) = in_pool(&config, &repository, async |pool| {
        let clients = sizes.iter().map(|size| {
            let sent = if offer.taken == Taken::Padded { args.bound.into() } else { *size };
            let payload = payload(&repository.model, sent)?;
            Ok(Arc::new(LocalClient { server: client(pool), payload }))
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let tallies = load::open(&clients, plan.clone(), Pacing::Sleep, objective).await?;
        let mut counts = Counts::default();
        for tally in &tallies {
            tally.expect_no_failure()?;
            counts = sum(counts, tally.counts);
        }
        let catalog = pool.catalog.load();
        Ok((counts, catalog.served().flat_map(|model| model.lanes.borders()).collect()))
    })?;
    let per_second = |count: u64| count as f64 / measured.as_secs_f64();
    let Offer { taken, share, .. } = offer;
    let (offered_per_s, good_per_s) = (per_second(counts.offered()), per_second(counts.good));
    Ok(Line { taken, share, offered_per_s, good_per_s, counts, borders })
}

fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        good: a.good + b.good,
        late: a.late + b.late,
        dropped: a.dropped + b.dropped,
        refused: a.refused + b.refused,
        failed: a.failed + b.failed,
    }
}

impl Report for SizesReport {
    fn columns(&self) -> Vec<String> {
        titles(["requests", "share", "offered r/s", "good r/s", "bad %", "borders"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            let borders: Vec<_> = line.borders.iter().map(u64::to_string).collect();
            vec![
                line.taken.name().to_owned(),
                format!("{:.2}", line.share),
                format!("{:.0}", line.offered_per_s),
                format!("{:.0}", line.good_per_s),
                percent(line.counts.bad_share()),
                borders.join(" "),
            ]
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        let best = |taken: Taken| {
            let held = self.lines.iter().filter(|line| line.taken == taken);
            let held =
                held.filter(|line| line.counts.bad_share() <= symphony_sim::goodput::BAD_SHARE_MAX);
            let best = held.map(|line| line.offered_per_s).fold(0.0, f64::max);
            format!("{}: {best:.0} r/s", taken.name())
        };
        let held: Vec<_> = Taken::ALL.into_iter().map(best).collect();
        vec![
            format!(
                "objective {:.1} ms; padding to the bound reaches {:.0} r/s in a steady rhythm",
                self.slo_ms, self.padded_per_s
            ),
            format!("the highest of these rates with at most 1 % bad: {}", held.join(", ")),
        ]
    }
}
