//! Where the tasks of a server, or of one of its roles, run.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long threads may take to end when nothing is left for them to do.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a server to its end on this many threads of this name.
pub(crate) fn run(
    threads: usize,
    name: &str,
    server: impl Future<Output = Result<()>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .thread_name(name)
        .build()
        .with_context(|| format!("cannot start the threads `{name}`"))?;
    let ended = runtime.block_on(server);
    let begun = Instant::now();
    runtime.shutdown_timeout(GRACE);
    if begun.elapsed() >= GRACE {
        tracing::error!("the threads `{name}` have not ended: the server ends without them");
    }
    ended
}
