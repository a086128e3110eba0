//! Where the tasks of a role run.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a role's threads may take to end when nothing is left for them to do.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a role to its end on this many threads of this name.
pub(super) fn run(
    threads: usize,
    name: &str,
    role: impl Future<Output = Result<()>>,
) -> Result<()> {
    let runtime = build(threads, name)?;
    let ended = runtime.block_on(role);
    runtime.shutdown_timeout(GRACE);
    ended
}

fn build(threads: usize, name: &str) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .thread_name(name)
        .build()
        .with_context(|| format!("cannot start the threads `{name}`"))
}
