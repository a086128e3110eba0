//! What is served right now: an immutable snapshot that frontends read without a lock and the
//! loader replaces as a whole. Its models are shared with the requests that are under way to them.

use crate::message::{IndexEntry, Intake, ServedModel};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Every start-up model is loaded, profiled and warmed up.
    pub ready: bool,
    /// What the server does with requests that arrive.
    pub intake: Intake,
    /// Serving models by name. Each name serves one version, the newest that loaded.
    pub models: BTreeMap<String, Arc<ServedModel>>,
    /// The repository index.
    pub index: Vec<IndexEntry>,
}

/// The current catalog, shared.
#[derive(Clone, Debug, Default)]
pub struct SharedCatalog(Arc<ArcSwap<Catalog>>);

impl SharedCatalog {
    /// The catalog as it is now.
    #[must_use]
    pub fn load(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.0.load()
    }

    /// Replaces the catalog by a changed copy. `change` runs again when another thread was
    /// faster, so it must not do anything else.
    pub fn update(&self, change: impl Fn(&mut Catalog)) {
        self.0.rcu(|current| {
            let mut catalog = Catalog::clone(current);
            change(&mut catalog);
            catalog
        });
    }
}
