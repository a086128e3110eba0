//! What is served right now: an immutable snapshot that frontends read without a lock and the
//! loader replaces as a whole. Its models are shared with the requests that are under way to them.

use crate::message::{IndexEntry, Intake, ServedModel};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Whoever loads models has said which there are: one that is not in the index is none.
    pub known: bool,
    /// Every start-up model is loaded, profiled and warmed up.
    pub ready: bool,
    /// What the server does with requests that arrive.
    pub intake: Intake,
    /// Serving models by name, each in one version or several.
    pub models: BTreeMap<String, ServedVersions>,
    /// The repository index.
    pub index: Vec<IndexEntry>,
}

impl Catalog {
    /// Every version of every serving model.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.models.values().flat_map(ServedVersions::iter)
    }
}

/// The versions of one model that take requests, lowest first; at least one.
#[derive(Clone, Debug)]
pub struct ServedVersions {
    below: Vec<Arc<ServedModel>>,
    highest: Arc<ServedModel>,
}

impl ServedVersions {
    /// The versions of one model, lowest first; `None` where there are none.
    #[must_use]
    pub fn new(mut ascending: Vec<Arc<ServedModel>>) -> Option<ServedVersions> {
        let highest = ascending.pop()?;
        Some(ServedVersions { below: ascending, highest })
    }

    /// The version for requests that name none.
    #[must_use]
    pub fn highest(&self) -> &Arc<ServedModel> {
        &self.highest
    }

    /// The version of this name.
    #[must_use]
    pub fn find(&self, version: &str) -> Option<&Arc<ServedModel>> {
        self.iter().find(|model| model.version == version)
    }

    /// Every version, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<ServedModel>> {
        self.below.iter().chain([&self.highest])
    }
}

impl From<Arc<ServedModel>> for ServedVersions {
    fn from(only: Arc<ServedModel>) -> ServedVersions {
        ServedVersions { below: Vec::new(), highest: only }
    }
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

    /// The catalog as it is now, to be kept.
    #[must_use]
    pub fn load_full(&self) -> Arc<Catalog> {
        self.0.load_full()
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
