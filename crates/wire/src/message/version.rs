//! What a version of a model is called between the scheduler and backends.

use serde::{Deserialize, Serialize};

/// A version of a model in one state of its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionKey {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: u64,
    /// Tells states of its files and settings apart.
    pub fingerprint: String,
}
