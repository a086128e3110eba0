//! The way from a frontend to the loader of models.

use super::answer::Reply;
use crate::message::{RepositoryCommand, RepositoryError};
use tokio::sync::mpsc;

/// Bound on commands waiting for the loader.
pub const COMMANDS_MAX: usize = 64;

/// The way to the loader; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct RepositoryPort(mpsc::Sender<RepositoryQuestion>);

/// A command, and the way that its answer takes.
#[derive(Debug)]
pub struct RepositoryQuestion {
    /// What is to be done.
    pub command: RepositoryCommand,
    /// Told how it ended.
    pub reply: Reply<Result<(), RepositoryError>>,
}

/// The loader's bounded inbox.
#[must_use]
pub fn commands() -> (RepositoryPort, mpsc::Receiver<RepositoryQuestion>) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    (RepositoryPort(sender), receiver)
}

impl RepositoryPort {
    /// Loads a model, waiting until it serves.
    ///
    /// # Errors
    /// It is unknown, could not be loaded, an accelerator is stuck, or the loader has stopped.
    pub async fn load(&self, model: String) -> Result<(), RepositoryError> {
        self.ask(RepositoryCommand::Load { model }).await
    }

    /// Unloads a model, waiting until its last request has its outcome.
    ///
    /// # Errors
    /// It is unknown, an accelerator is stuck, or the loader has stopped.
    pub async fn unload(&self, model: String) -> Result<(), RepositoryError> {
        self.ask(RepositoryCommand::Unload { model }).await
    }

    /// Reads the repository again.
    ///
    /// # Errors
    /// Some model could not be loaded or unloaded (the others are), or the loader has stopped.
    pub async fn reload(&self) -> Result<(), RepositoryError> {
        self.ask(RepositoryCommand::Reload).await
    }

    async fn ask(&self, command: RepositoryCommand) -> Result<(), RepositoryError> {
        let (reply, answer) = Reply::new();
        let question = RepositoryQuestion { command, reply };
        self.0.send(question).await.map_err(|_| RepositoryError::Stopped)?;
        answer.await.unwrap_or(Err(RepositoryError::Stopped))
    }
}
