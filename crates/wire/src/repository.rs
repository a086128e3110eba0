//! Requests to load and unload models while serving, from a frontend to the loader.

use tokio::sync::{mpsc, oneshot};

/// What can be asked of the loader.
#[derive(Debug)]
pub enum RepositoryCommand {
    /// Load the model, or load it again when its files changed.
    Load {
        /// Name of the model's directory.
        model: String,
        /// Told how it ended.
        done: oneshot::Sender<Result<(), RepositoryError>>,
    },
    /// Stop serving the model once its queue is empty.
    Unload {
        /// Name of the model.
        model: String,
        /// Told how it ended.
        done: oneshot::Sender<Result<(), RepositoryError>>,
    },
    /// Read the repository again: load what is new or changed, unload what is gone.
    Reload {
        /// Told when it is done.
        done: oneshot::Sender<Result<(), RepositoryError>>,
    },
}

/// Why a load or unload did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// There is no such model.
    #[error("model {0:?} is not in the repository: check the name, or add its directory first")]
    Unknown(String),
    /// The load failed; what was served before still is. The text says why.
    #[error("{0}")]
    Load(String),
    /// An accelerator cannot be told of it now; nothing has changed. The text names it.
    #[error("{0}")]
    Accelerator(String),
    /// The loader has stopped: the server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

/// Bound on commands waiting for the loader.
pub const COMMANDS_MAX: usize = 64;

/// The way to the loader; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct RepositoryPort(mpsc::Sender<RepositoryCommand>);

/// The loader's bounded inbox.
#[must_use]
pub fn commands() -> (RepositoryPort, mpsc::Receiver<RepositoryCommand>) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    (RepositoryPort(sender), receiver)
}

impl RepositoryPort {
    /// Loads a model, waiting until it serves.
    ///
    /// # Errors
    /// It is unknown, could not be loaded, an accelerator is stuck, or the loader has stopped.
    pub async fn load(&self, model: String) -> Result<(), RepositoryError> {
        self.ask(|done| RepositoryCommand::Load { model, done }).await
    }

    /// Unloads a model, waiting until its last request has its outcome.
    ///
    /// # Errors
    /// It is unknown, an accelerator is stuck, or the loader has stopped.
    pub async fn unload(&self, model: String) -> Result<(), RepositoryError> {
        self.ask(|done| RepositoryCommand::Unload { model, done }).await
    }

    /// Reads the repository again.
    ///
    /// # Errors
    /// Some model could not be loaded or unloaded (the others are), or the loader has stopped.
    pub async fn reload(&self) -> Result<(), RepositoryError> {
        self.ask(|done| RepositoryCommand::Reload { done }).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), RepositoryError>>) -> RepositoryCommand,
    ) -> Result<(), RepositoryError> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.map_err(|_| RepositoryError::Stopped)?;
        answer.await.unwrap_or(Err(RepositoryError::Stopped))
    }
}
