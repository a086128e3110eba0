//! `symphony bench scheduler`: the scheduler's threads alone, with emulated accelerators and load
//! in the shards' own loops, and the highest rate that it holds.

mod arrivals;
mod drive;
mod emulator;
mod instructions;
mod lag;
mod ledger;

use super::figures::{ratio, seconds};
use crate::report::Report;
use anyhow::{Result, bail};
use drive::{Ran, Setup, ShardRan};
use lag::{IN_TIME, Percentiles};
use ledger::Counts;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use symphony_client::table::percent;
use symphony_core::sched::Mode;
use symphony_core::{Profile, Span};
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::in_process::port::MODELS_MAX;
use symphony_wire::clock::span;

/// Poisson arrivals in open loop, each request with its own identity, deadline and outcome, through
/// the ring that a server uses. A rate is held when 99.99 % of the requests are decided on within
/// 2 ms of their due time and 99 % are answered in time.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SchedulerBenchArgs {
    /// Requests per second; without it, the highest rate held is looked for.
    #[arg(long)]
    rate: Option<f64>,
    /// Where the search begins, in requests per second.
    #[arg(long, default_value_t = 250_000.0)]
    from: f64,
    /// The search ends when the rate held and the lowest that is not are this close.
    #[arg(long, default_value_t = 0.05)]
    precision: f64,
    /// Models; the popularity of a later one is less, see --zipf.
    #[arg(long, default_value_t = 1)]
    models: u32,
    /// Exponent of the models' popularity.
    #[arg(long, default_value_t = 0.9)]
    zipf: f64,
    /// Emulated accelerators.
    #[arg(long, default_value_t = 1024)]
    accelerators: u32,
    /// Threads: one for shard and matcher together, or one of them for the matcher.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Emulated time per row, in milliseconds.
    #[arg(long, default_value_t = 0.05)]
    alpha_ms: f64,
    /// Emulated time per batch, in milliseconds.
    #[arg(long, default_value_t = 1.0)]
    beta_ms: f64,
    /// The latency objective in milliseconds.
    #[arg(long, default_value_t = 20.0)]
    slo_ms: f64,
    /// Largest batch.
    #[arg(long, default_value_t = 256)]
    max_batch: u32,
    /// How batches are scheduled.
    #[arg(long, default_value = "consolidate")]
    mode: Mode,
    /// Seconds measured at each rate.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// The matcher's thread polls for so many microseconds before it sleeps.
    #[arg(long, default_value_t = 0)]
    spin_us: u64,
    /// Bind each thread to a core of its own.
    #[arg(long)]
    pin: bool,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Of all requests, what has to be handed over in time.
const IN_TIME_SHARE: f64 = 0.9999;
/// Of all requests, what has to be answered in time.
const GOOD_SHARE: f64 = 0.99;
/// A rate that is not held may have met a stall of the machine: it is tried so often.
const TRIES: u32 = 2;
/// More requests per second are a mistake.
const RATE_MAX: f64 = 1e9;
/// A search that finds nothing held gives up below this rate.
const RATE_MIN: f64 = 1000.0;

#[derive(Debug, Serialize)]
struct SchedulerReport {
    /// The highest rate held, or the one asked for, in requests per second.
    rate: f64,
    held: bool,
    counts: Counts,
    in_time: f64,
    mean_batch: f64,
    /// From the moment a request was due until it was decided on.
    lag: Percentiles,
    /// How late a loop that does nothing else noticed requests of the same rate.
    bare_loop: Percentiles,
    shards: Vec<ShardLine>,
    matcher: Option<MatcherLine>,
    resident_mib: f64,
    tried: Vec<(f64, bool)>,
}

#[derive(Debug, Serialize)]
struct ShardLine {
    requests_per_s: f64,
    batches_per_s: f64,
    mean_batch: f64,
    lag: Percentiles,
    busy: f64,
    /// Time of its thread, its load and the accelerators it emulates included.
    ns_per_request: f64,
    /// The same in instructions, where this machine counts them.
    instructions_per_request: Option<f64>,
}

#[derive(Debug, Serialize)]
struct MatcherLine {
    busy: f64,
    ns_per_batch: f64,
    instructions_per_batch: Option<f64>,
}

pub(crate) fn command(args: &SchedulerBenchArgs) -> Result<()> {
    let setup = args.setup()?;
    let (rate, ran, tried) = match args.rate {
        Some(rate) => {
            let ran = drive::run(&setup, rate)?;
            let tried = vec![(rate, is_held(&ran))];
            (rate, ran, tried)
        }
        None => search(&setup, args.from, 1.0 + args.precision)?,
    };
    let bare = drive::bare_loop(rate, setup.measured, setup.pin, setup.seed);
    SchedulerReport::new(rate, &ran, bare.percentiles(), tried).show(args.json)
}

impl SchedulerBenchArgs {
    fn setup(&self) -> Result<Setup> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads as usize;
        if !(1..=cores).contains(&threads) {
            bail!("--threads {threads}: give 1 to {cores}, the cores of this machine: none sleeps");
        }
        if !(1..=MODELS_MAX).contains(&(self.models as usize)) {
            bail!("--models {}: give 1 to {MODELS_MAX}", self.models);
        }
        if !(0.001..=1.0).contains(&self.precision) {
            bail!("--precision {}: give 0.001 to 1", self.precision);
        }
        if self.accelerators == 0 {
            bail!("--accelerators 0: give at least 1");
        }
        for (name, rate) in [("--rate", self.rate), ("--from", Some(self.from))] {
            if rate.is_some_and(|rate| !(1.0..=RATE_MAX).contains(&rate)) {
                bail!("{name}: give 1 to {RATE_MAX} requests per second");
            }
        }
        let ms = |name: &str, ms: f64| {
            if !ms.is_finite() || ms < 0.0 {
                bail!("{name} {ms}: give milliseconds, not less than 0");
            }
            Ok(Span::from_millis_f64(ms))
        };
        let (alpha, beta) = (ms("--alpha-ms", self.alpha_ms)?, ms("--beta-ms", self.beta_ms)?);
        let spin = Duration::from_micros(self.spin_us);
        Ok(Setup {
            profile: Arc::new(Profile::linear(alpha, beta, self.max_batch)?),
            slo: ms("--slo-ms", self.slo_ms)?,
            models: self.models,
            zipf: self.zipf,
            accelerators: self.accelerators,
            layout: Layout::on_threads(threads),
            mode: self.mode,
            warmup: span(seconds(self.warmup)?),
            measured: span(seconds(self.seconds)?),
            spin: Spin { idle: spin, due: spin },
            pin: self.pin,
            seed: self.seed,
        })
    }
}

fn is_held(ran: &Ran) -> bool {
    let Counts { offered, good, lost, doubled, .. } = ran.counts;
    let good = good as f64 / offered.max(1) as f64;
    ran.lags.in_time() >= IN_TIME_SHARE && good >= GOOD_SHARE && lost + doubled == 0
}

/// Every rate that was tried, and whether it was held.
type Tried = Vec<(f64, bool)>;

/// The highest rate held: doubles until one is not held, then closes in. Where not even a low one
/// is, what came of that.
fn search(setup: &Setup, from: f64, close: f64) -> Result<(f64, Ran, Tried)> {
    let mut tried = Tried::new();
    let mut held: Option<(f64, Ran)> = None;
    let (mut rate, mut high) = (from, f64::INFINITY);
    loop {
        let (ran, is_held) = attempt(setup, rate, &mut tried)?;
        if is_held {
            held = Some((rate, ran));
        } else if rate < RATE_MIN {
            return Ok((rate, ran, tried));
        } else {
            high = rate;
        }
        rate = match &held {
            None => rate / 2.0,
            Some((low, _)) if high.is_infinite() => low * 2.0,
            Some((low, _)) if high / low > close => (low * high).sqrt(),
            Some(_) => break,
        };
    }
    match held {
        Some((rate, ran)) => Ok((rate, ran, tried)),
        None => bail!("no rate was tried"),
    }
}

fn attempt(setup: &Setup, rate: f64, tried: &mut Tried) -> Result<(Ran, bool)> {
    let mut tries = 0;
    loop {
        let ran = drive::run(setup, rate)?;
        let held = is_held(&ran);
        tried.push((rate, held));
        tries += 1;
        if held || tries == TRIES {
            return Ok((ran, held));
        }
    }
}

impl SchedulerReport {
    fn new(rate: f64, ran: &Ran, bare_loop: Percentiles, tried: Tried) -> SchedulerReport {
        let batches: u64 = ran.shards.iter().map(|shard| shard.batches).sum();
        let rows: u64 = ran.shards.iter().map(|shard| shard.rows).sum();
        let line = |shard: &ShardRan| {
            let seconds = shard.busy.measured.as_secs_f64();
            ShardLine {
                requests_per_s: shard.counts.offered as f64 / seconds,
                batches_per_s: shard.batches as f64 / seconds,
                mean_batch: ratio(shard.rows, shard.batches),
                lag: shard.lags.percentiles(),
                busy: shard.busy.share(),
                ns_per_request: ratio(shard.busy.busy.0, shard.counts.offered),
                instructions_per_request: each(shard.busy.instructions, shard.counts.offered),
            }
        };
        let matcher = ran.matcher.map(|busy| MatcherLine {
            busy: busy.share(),
            ns_per_batch: ratio(busy.busy.0, batches),
            instructions_per_batch: each(busy.instructions, batches),
        });
        SchedulerReport {
            rate,
            held: is_held(ran),
            counts: ran.counts,
            in_time: ran.lags.in_time(),
            mean_batch: ratio(rows, batches),
            lag: ran.lags.percentiles(),
            bare_loop,
            shards: ran.shards.iter().map(line).collect(),
            matcher,
            resident_mib: ran.resident_mib,
            tried,
        }
    }
}

/// What was counted, for each of so many.
fn each(counted: Option<f64>, of: u64) -> Option<f64> {
    counted.filter(|_| of > 0).map(|counted| counted / of as f64)
}

fn lags(percentiles: &Percentiles) -> Vec<String> {
    let Percentiles { p50_us, p99_us, p99_9_us, p99_99_us, p99_999_us, max_us } = percentiles;
    let all = [p50_us, p99_us, p99_9_us, p99_99_us, p99_999_us, max_us];
    all.map(|us| format!("{us:.1}")).to_vec()
}

/// Instructions, where this machine counts them.
fn counted(instructions: Option<f64>) -> String {
    instructions.map_or_else(|| "not counted".to_owned(), |count| format!("{count:.0}"))
}

impl Report for SchedulerReport {
    fn columns(&self) -> Vec<String> {
        let columns = ["late by, us", "p50", "p99", "p99.9", "p99.99", "p99.999", "max"];
        let rest =
            ["requests/s", "batches/s", "batch", "busy %", "ns/request", "instructions/request"];
        columns.into_iter().chain(rest).map(str::to_owned).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let shard = |(number, line): (usize, &ShardLine)| {
            let mut row = vec![format!("shard {number}")];
            row.extend(lags(&line.lag));
            row.push(format!("{:.0}", line.requests_per_s));
            row.push(format!("{:.0}", line.batches_per_s));
            row.push(format!("{:.1}", line.mean_batch));
            row.push(percent(line.busy));
            row.push(format!("{:.1}", line.ns_per_request));
            row.push(counted(line.instructions_per_request));
            row
        };
        let mut rows: Vec<_> = self.shards.iter().enumerate().map(shard).collect();
        let mut bare = vec!["a bare loop".to_owned()];
        bare.extend(lags(&self.bare_loop));
        bare.resize(self.columns().len(), String::new());
        rows.push(bare);
        rows
    }

    fn notes(&self) -> Vec<String> {
        let Counts { offered, good, late, dropped, refused, lost, doubled } = self.counts;
        let verdict = if self.held { "held" } else { "not held" };
        let good_share = percent(ratio(good, offered));
        let in_time = format!("{:.3}", self.in_time * 100.0);
        let mut notes = vec![
            format!("{:.0} requests/s: {verdict}", self.rate),
            format!(
                "{offered} requests: {good_share} % in time; {late} late, {dropped} dropped, \
                 {refused} refused, {lost} lost, {doubled} with two outcomes; {in_time} % decided \
                 on within {IN_TIME}"
            ),
            format!("{:.0} MiB resident", self.resident_mib),
        ];
        if let Some(MatcherLine { busy, ns_per_batch, instructions_per_batch }) = &self.matcher {
            let (busy, instructions) = (percent(*busy), counted(*instructions_per_batch));
            notes.push(format!(
                "matcher: {busy} % busy; a batch: {ns_per_batch:.0} ns, instructions {instructions}"
            ));
        }
        let tried = self.tried.iter();
        let tried =
            tried.map(|(rate, held)| format!("{rate:.0} {}", if *held { "yes" } else { "no" }));
        notes.push(format!("tried: {}", tried.collect::<Vec<_>>().join(", ")));
        notes
    }
}
