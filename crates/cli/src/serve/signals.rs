//! Signals: TERM and INT end the server, a second one at once; HUP reads the repository again.

use anyhow::{Context, Result};
use symphony_wire::repository::RepositoryPort;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals the server listens to, from the moment it was made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the first signal to shut down; until then, reloads on hangups.
    pub(crate) async fn until_shutdown(&mut self, repository: &RepositoryPort) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    let repository = repository.clone();
                    tokio::spawn(async move { reload(&repository).await });
                }
            }
        }
    }

    /// Waits for one more signal to shut down.
    pub(crate) async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn reload(repository: &RepositoryPort) {
    tracing::info!("reading the repository again");
    match repository.reload().await {
        Ok(()) => tracing::info!("every model of the repository is served as it is there"),
        Err(error) => tracing::error!("some models could not be loaded: {error}"),
    }
}
