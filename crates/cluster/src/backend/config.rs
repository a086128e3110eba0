//! What a backend needs to take part in a cluster.

use symphony_wire::carrier::link::{Endpoint, LinkSettings};
use symphony_wire::message::{AcceleratorFacts, EngineFacts};

/// What a backend needs to take part in a cluster.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Its name, which no other backend of the cluster has.
    pub name: String,
    /// Every scheduler, active or standing by.
    pub schedulers: Vec<Endpoint>,
    /// How links are kept.
    pub links: LinkSettings,
    /// What its accelerators are.
    pub accelerators: Vec<AcceleratorFacts>,
    /// What it runs models with.
    pub engines: Vec<EngineFacts>,
    /// Bound on the bytes of models that are streamed to it and kept in its cache.
    pub streamed_bytes_max: u64,
}
