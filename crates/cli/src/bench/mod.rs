//! `symphony bench`: the figures of `docs/performance.md`, each with the command that gives it.
//!
//! Servers under load are processes of their own, started from this same program; what is
//! measured is what a client sees, counted from the moment a request was due.

mod bare;
pub(crate) mod client;
mod idle;
mod latency;
mod line;
pub(crate) mod load;
mod overload;
mod pool;
mod process;
pub(crate) mod report;
mod repository;
mod scheduler;
mod server;
mod soak;
pub(crate) mod tally;
mod timer;

use anyhow::{Context, Result};
use std::time::Duration;

/// Options of `symphony bench`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Bench {
    /// What everything that is not the model adds to a request, by protocol.
    Latency(latency::LatencyArgs),
    /// A pool of emulated accelerators in this process, beside the simulator's figures.
    Pool(pool::PoolBenchArgs),
    /// The scheduler's threads alone: the highest rate they hold, and what a decision costs.
    Scheduler(scheduler::SchedulerBenchArgs),
    /// Good requests against offered ones, from half to twice a real model's capacity.
    Overload(overload::OverloadArgs),
    /// Share of a core that an idle server uses.
    Idle(idle::IdleArgs),
    /// Memory against requests served.
    Soak(soak::SoakArgs),
}

pub(crate) fn command(args: BenchArgs) -> Result<()> {
    match args.bench {
        Bench::Latency(args) => latency::command(&args),
        Bench::Pool(args) => pool::command(&args),
        Bench::Scheduler(args) => scheduler::command(&args),
        Bench::Overload(args) => overload::command(&args),
        Bench::Idle(args) => idle::command(&args),
        Bench::Soak(args) => soak::command(&args),
    }
}

/// A longer run is a mistake, and no clock need be asked for it.
const SECONDS_MAX: f64 = 86_400.0;

/// # Errors
/// A number of seconds that is negative, or more than a day.
fn seconds(seconds: f64) -> Result<Duration> {
    let whole = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= SECONDS_MAX);
    whole.with_context(|| format!("{seconds} seconds: give 0 to {SECONDS_MAX}, a day"))
}

/// A part of a whole; of nothing, none.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
