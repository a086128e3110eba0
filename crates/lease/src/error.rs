//! Why a lease cannot be had.

use std::path::PathBuf;

/// Why waiting for a lease cannot help.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lock file cannot be used.
    #[error("lock file {}: {problem}; {remedy}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// etcd does not let this process have the key.
    #[error("lease key {key} in etcd: {problem}; {remedy}")]
    Etcd {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Kubernetes does not let this process have the Lease.
    #[error("Lease {lease} of Kubernetes: {problem}; {remedy}")]
    Kubernetes {
        /// Its namespace and name.
        lease: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Why one try to take a lease did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The next try may succeed.
    #[error("{0}")]
    Passing(String),
    /// No try will.
    #[error(transparent)]
    Lasting(LeaseError),
}
