//! What can be asked of the loader of models, and why it did not happen.

use serde::{Deserialize, Serialize};

/// What can be asked of the loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepositoryCommand {
    /// Load the model, or load it again when its files changed.
    Load {
        /// Name of the model's directory.
        model: String,
    },
    /// Stop serving the model once its queue is empty.
    Unload {
        /// Name of the model.
        model: String,
    },
    /// Read the repository again: load what is new or changed, unload what is gone.
    Reload,
}

/// Why a load or unload did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
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
