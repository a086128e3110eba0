//! `symphony bench cluster`: the roles as processes, beside one process and beside the simulator.

mod goodput;
mod latency;
mod local;
mod metadata;
mod wakeups;

use anyhow::Result;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    bench: ClusterBench,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ClusterBench {
    /// What the roles as processes add to a request, beside all of them in one process.
    Latency(latency::LatencyArgs),
    /// The highest rate that a cluster answers in time, beside the simulator with the delays that the
    /// cluster has measured.
    Goodput(goodput::GoodputArgs),
    /// Requests per second from frontends through the scheduler to backends, without tensors.
    Metadata(metadata::MetadataArgs),
}

pub(crate) fn command(args: &ClusterArgs) -> Result<()> {
    match &args.bench {
        ClusterBench::Latency(args) => latency::command(args),
        ClusterBench::Goodput(args) => goodput::command(args),
        ClusterBench::Metadata(args) => metadata::command(args),
    }
}
