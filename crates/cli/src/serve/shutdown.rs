//! The end of a server, in order: readiness, requests, connections, threads.

use crate::signals::Signals;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use symphony_control::models_thread::ModelsThread;
use symphony_control::pool::{BrokenPool, Pool};
use symphony_wire::carrier::in_process::RepositoryPort;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const NOT_ENDED: &str = "a batch did not complete: stopped without it";

/// What runs besides the pool.
pub(super) struct Running {
    pub(super) frontend: RunningFrontend,
    pub(super) models: ModelsThread,
    pub(super) repository: RepositoryPort,
}

/// The frontend at work, and how it is told to end.
pub(super) struct RunningFrontend {
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

/// Serves on for a while though the server is not ready any more: load balancers send requests
/// until they have seen that. One more signal ends the wait.
pub(super) async fn serve_on(
    pool: &Pool,
    delay: Duration,
    signals: &mut Signals,
) -> Result<(), BrokenPool> {
    pool.leave();
    if delay.is_zero() || !pool.catalog.load().ready {
        return Ok(());
    }
    tracing::info!(
        seconds = delay.as_secs(),
        "not ready any more: requests that still arrive are served for a while"
    );
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = signals.again() => {
            tracing::info!("one more signal: new requests are refused from now on");
            Ok(())
        }
        broken = pool.broken() => Err(broken),
    }
}

/// Ends everything. The threads of a pool that is broken or does not drain are left to the end of
/// the process.
pub(super) async fn shut_down(
    pool: Pool,
    broken: Option<BrokenPool>,
    running: Running,
) -> Result<()> {
    let drained = drain(&pool, broken).await;
    let Running { frontend, models, repository } = running;
    let _ = frontend.stop.send(());
    if frontend.task.await.is_err() {
        tracing::error!("the frontend's task panicked");
    }
    drained?;
    drop(repository);
    let end = move || {
        models.end();
        pool.stop()
    };
    let stopped = tokio::task::spawn_blocking(end).await.context("ending the pool's threads")?;
    if !stopped {
        bail!(NOT_ENDED);
    }
    Ok(())
}

async fn drain(pool: &Pool, broken: Option<BrokenPool>) -> Result<()> {
    if let Some(broken) = broken {
        tracing::error!("the server cannot go on: {broken}");
        pool.close();
        return Err(anyhow::Error::new(broken).context("the server cannot go on"));
    }
    tracing::info!(
        "shutting down: new requests are refused, queued requests complete or are dropped"
    );
    if !pool.drain().await {
        bail!(NOT_ENDED);
    }
    Ok(())
}
