//! `symphony bench`: the figures of `docs/performance.md`, each with the command that gives it.
//!
//! Servers under load are processes of their own, started from this same program; what is
//! measured is what a client sees, counted from the moment a request was due.

mod bare;
mod carrier;
pub(crate) mod client;
mod cluster;
mod counter;
mod figures;
mod idle;
mod latency;
mod line;
pub(crate) mod load;
mod overload;
mod pool;
mod process;
mod reload;
mod repository;
mod scheduler;
mod server;
mod settings;
mod sizes;
mod soak;
mod start;
mod timer;

use anyhow::Result;

/// Options of `symphony bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Bench {
    /// What everything that is not the model adds to a request, by protocol.
    Latency(latency::LatencyArgs),
    /// A pool of emulated accelerators in this process, beside the simulator's figures.
    Pool(pool::PoolBenchArgs),
    /// Requests of different sizes in lanes, beside all padded to the bound, and only equal ones
    /// together: emulated accelerators in this process.
    Sizes(sizes::SizesArgs),
    /// The scheduler's threads alone: the highest rate they hold, and what a decision costs.
    Scheduler(scheduler::SchedulerBenchArgs),
    /// Good requests against offered ones, from a quarter to twice a real model's capacity, beside
    /// what the simulator foresees.
    Overload(overload::OverloadArgs),
    /// The roles as processes, beside one process and beside the simulator.
    Cluster(cluster::ClusterArgs),
    /// What a link between two processes carries: messages and tensors, by TCP and by memory that both
    /// have.
    Carrier(carrier::CarrierArgs),
    /// Share of a core that an idle server uses.
    Idle(idle::IdleArgs),
    /// What an unload and a load of a model take.
    Reload(reload::ReloadArgs),
    /// How long a server with many models takes until it is ready.
    #[command(after_help = "Example:\n  symphony bench start --examples path/to/onnx/files")]
    Start(start::StartArgs),
    /// Memory against requests served.
    Soak(soak::SoakArgs),
}

/// Runs a benchmark and prints its figures.
///
/// # Errors
/// An option makes no sense, or what is measured failed.
pub fn command(args: BenchArgs) -> Result<()> {
    match args.bench {
        Bench::Latency(args) => latency::command(&args),
        Bench::Pool(args) => pool::command(&args),
        Bench::Sizes(args) => sizes::command(&args),
        Bench::Scheduler(args) => scheduler::command(&args),
        Bench::Overload(args) => overload::command(&args),
        Bench::Cluster(args) => cluster::command(&args),
        Bench::Carrier(args) => carrier::command(&args),
        Bench::Idle(args) => idle::command(&args),
        Bench::Reload(args) => reload::command(&args),
        Bench::Start(args) => start::command(&args),
        Bench::Soak(args) => soak::command(&args),
    }
}
