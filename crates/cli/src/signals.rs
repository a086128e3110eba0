//! Signals: TERM and INT end the server, once more without waiting, and once again at once; HUP
//! reads the repository again.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use symphony_wire::carrier::in_process::RepositoryPort;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that follows another sooner than this is the same wish: `timeout` and some supervisors
/// signal the process and then its group.
const ECHO: Duration = Duration::from_secs(1);

/// The signals the server listens to, from the moment this was made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// When the last signal to shut down came that counted.
    last: Option<Instant>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            last: None,
        })
    }

    /// Waits for a signal to shut down; until then, reads the repository again on hangups.
    pub(crate) async fn until_shutdown(&mut self, repository: &RepositoryPort) {
        loop {
            tokio::select! {
                () = shutdown(&mut self.terminate, &mut self.interrupt) => break,
                _ = self.hangup.recv() => {
                    let repository = repository.clone();
                    tokio::spawn(async move { reload(&repository).await });
                }
            }
        }
        self.last = Some(Instant::now());
    }

    /// Waits for one more signal to shut down, but for echoes of the last.
    pub(crate) async fn again(&mut self) {
        loop {
            shutdown(&mut self.terminate, &mut self.interrupt).await;
            let now = Instant::now();
            if self.last.is_none_or(|last| now.duration_since(last) >= ECHO) {
                self.last = Some(now);
                return;
            }
        }
    }
}

async fn shutdown(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn reload(repository: &RepositoryPort) {
    tracing::info!("reading the repository again");
    match repository.reload().await {
        Ok(()) => tracing::info!("the repository was read: what it holds is served"),
        Err(error) => tracing::error!("some models could not be loaded: {error}"),
    }
}
