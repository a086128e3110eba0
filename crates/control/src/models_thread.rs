//! The thread that owns a pool's models: it loads the repository, then carries out commands.

use crate::backends::Backends;
use crate::models::{LoadReport, Models};
use crate::threads::join_within;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use symphony_backend::loader::LoadError;
use symphony_backend::repository::ConfigError;
use symphony_wire::carrier::in_process::RepositoryQuestion;
use tokio::sync::{mpsc, oneshot};

/// How long to wait at the end for a load that is under way. A load takes up to half a minute, and
/// nobody needs it any more.
const LOAD_GRACE: Duration = Duration::from_secs(1);

/// What a pool needs to have loaded to be ready.
#[derive(Clone, Copy, Debug)]
pub struct StartPolicy {
    /// Models that cannot be loaded are left out; otherwise the start fails.
    pub skip_failed: bool,
    /// A repository without models is enough; otherwise the pool is ready from its first model on.
    pub allow_empty: bool,
}

/// Why the models of a repository are not served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsStartError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] ConfigError),
    /// These models cannot be loaded.
    #[error("cannot serve {}: the log says why", .0.join(", "))]
    Models(Vec<String>),
}

/// The running thread.
#[derive(Debug)]
pub struct ModelsThread {
    thread: JoinHandle<()>,
    /// Told when the start-up models are loaded, or why they are not.
    started: oneshot::Receiver<Result<usize, ModelsStartError>>,
    /// Told when the pool is ready.
    ready: oneshot::Receiver<()>,
}

impl ModelsThread {
    /// Loads every model of the repository on a thread of its own, reporting each, and then carries
    /// out commands until every port to it is gone.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start<B: Backends + 'static>(
        models: Models<B>,
        commands: mpsc::Receiver<RepositoryQuestion>,
        policy: StartPolicy,
        report: impl FnMut(&LoadReport) + Send + 'static,
    ) -> io::Result<ModelsThread> {
        let ((has_started, started), (is_ready, ready)) = (oneshot::channel(), oneshot::channel());
        let work = move || run(models, commands, policy, report, (has_started, is_ready));
        let thread = Builder::new().name("models".to_owned()).spawn(work)?;
        Ok(ModelsThread { thread, started, ready })
    }

    /// Waits until the start-up models are loaded. Returns how many the repository has.
    ///
    /// # Errors
    /// The models cannot be served; `None` when the thread has ended.
    pub async fn started(&mut self) -> Result<usize, Option<ModelsStartError>> {
        match (&mut self.started).await {
            Ok(started) => started.map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// Waits until the pool is ready: it has loaded its start-up models, or, where the repository
    /// had none and may not be empty, its first. Returns whether it is; not when the thread has
    /// ended.
    pub async fn ready(&mut self) -> bool {
        (&mut self.ready).await.is_ok()
    }

    /// Waits for the thread to end once every port to it is gone, but not for a long load.
    pub fn end(self) {
        join_within(self.thread, LOAD_GRACE);
    }
}

fn run<B: Backends>(
    mut models: Models<B>,
    mut commands: mpsc::Receiver<RepositoryQuestion>,
    policy: StartPolicy,
    mut report: impl FnMut(&LoadReport),
    (has_started, is_ready): (
        oneshot::Sender<Result<usize, ModelsStartError>>,
        oneshot::Sender<()>,
    ),
) {
    let mut failed = Vec::new();
    let loaded =
        models.load_all(|name, loaded: &Result<Vec<LoadReport>, LoadError>| match loaded {
            Ok(loaded) => loaded.iter().for_each(&mut report),
            Err(_) => failed.push(name.to_owned()),
        });
    let started = match loaded {
        Err(error) => Err(error.into()),
        Ok(_) if !failed.is_empty() && !policy.skip_failed => Err(ModelsStartError::Models(failed)),
        Ok(count) => {
            models.set_ready(count == 0 && !policy.allow_empty);
            Ok(count)
        }
    };
    // Nobody waits any more when the server is shutting down already.
    let _ = has_started.send(started);
    while models.awaits_first() {
        let Some(command) = commands.blocking_recv() else { return };
        models.carry_out(command);
    }
    let _ = is_ready.send(());
    models.serve(&mut commands);
}
