//! `symphony backend`: this machine's accelerators, for a scheduler elsewhere.

use crate::args::BackendArgs;
use crate::config::BackendRole;
use crate::console::say;
use crate::logging;
use crate::runtime;
use crate::signals::Signals;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_cluster::backend::{BackendConfig, BackendEnd};
use symphony_wire::carrier::in_process::commands;

/// Threads that keep the links: they read inputs while batches run.
const THREADS: usize = 2;
/// How long the last batches may take once the process is told to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn command(args: BackendArgs) -> Result<()> {
    let config = BackendRole::resolve(args)?;
    logging::start(config.log);
    runtime::run(THREADS, "links", serve(config))
}

async fn serve(config: BackendRole) -> Result<()> {
    let mut signals = Signals::listen()?;
    let name = config.cluster.name.clone();
    let count = config.cluster.accelerators.len();
    let loader = Loader::new(config.loader);
    let cluster = BackendConfig { engines: loader.engine_facts(), ..config.cluster };
    let mut backend = BackendEnd::start(cluster, loader)?;
    say(format_args!("backend {name}: {count} accelerators"));
    // It loads what the scheduler orders; nobody sends it commands.
    let (nobody, _) = commands();
    signals.until_shutdown(&nobody).await;
    tracing::info!("shutting down: no more batches are taken, those that are here end");
    let left = tokio::select! {
        left = backend.leave(LEAVE_WITHIN) => left,
        () = signals.again() => {
            tracing::warn!("one more signal: stopping at once");
            false
        }
    };
    if !left {
        tracing::warn!("the scheduler has not said that nothing more comes: stopped all the same");
    }
    let stopped = tokio::task::spawn_blocking(move || backend.stop());
    if !stopped.await.context("ending the accelerators' threads")? {
        bail!("a batch did not complete: stopped without it");
    }
    Ok(())
}
