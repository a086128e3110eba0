//! The table of a pool's models, and when the catalog shows its changes.
//!
//! To show a change costs as much as the table is long. A command that changes many models
//! therefore shows its changes a few times a second, and all of them at its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_backend::loader::LoadedFiles;
use symphony_wire::carrier::in_process::SharedCatalog;
use symphony_wire::message::{IndexEntry, ModelState, ServedModel};

/// The catalog shows a change at the latest after this time and the load that is under way then.
pub(super) const SHOWN_AFTER: Duration = Duration::from_millis(100);

/// Where a model stands.
#[derive(Debug)]
pub(super) struct ModelEntry {
    pub(super) version: String,
    pub(super) state: ModelState,
    pub(super) served: Option<ServedVersion>,
}

/// A version that is served, and what it was loaded from.
#[derive(Debug)]
pub(super) struct ServedVersion {
    pub(super) model: Arc<ServedModel>,
    pub(super) from: LoadedFiles,
}

/// Every model of a pool, by name.
#[derive(Debug)]
pub(super) struct ModelTable {
    catalog: SharedCatalog,
    entries: BTreeMap<String, ModelEntry>,
    is_changed: bool,
    shown: Instant,
    /// How often the catalog was replaced.
    publications: u64,
    /// The catalog says that the server is ready from the first model on.
    awaits_first: bool,
}

impl ModelTable {
    pub(super) fn new(catalog: SharedCatalog) -> ModelTable {
        ModelTable {
            catalog,
            entries: BTreeMap::new(),
            is_changed: false,
            shown: Instant::now(),
            publications: 0,
            awaits_first: false,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// What is served under a name.
    pub(super) fn served(&self, name: &str) -> Option<&ServedVersion> {
        self.entries.get(name)?.served.as_ref()
    }

    pub(super) fn publications(&self) -> u64 {
        self.publications
    }

    pub(super) fn set_state(&mut self, name: &str, state: ModelState) {
        let new =
            || ModelEntry { version: String::new(), state: ModelState::Loading, served: None };
        self.entries.entry(name.to_owned()).or_insert_with(new).state = state;
        self.is_changed = true;
    }

    /// Serves a version. Returns the version that it takes the place of.
    pub(super) fn serve(&mut self, version: ServedVersion) -> Option<ServedVersion> {
        let name = version.model.name.clone();
        let entry = ModelEntry {
            version: version.model.version.clone(),
            state: ModelState::Ready,
            served: Some(version),
        };
        self.is_changed = true;
        self.entries.insert(name, entry)?.served
    }

    /// Serves a name no more. Returns the version that was served.
    pub(super) fn stop(&mut self, name: &str) -> Option<ServedVersion> {
        let entry = self.entries.get_mut(name)?;
        entry.state = ModelState::Unavailable("unloaded".to_owned());
        self.is_changed = true;
        entry.served.take()
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.is_changed |= self.entries.remove(name).is_some();
    }

    /// The server is ready: at once, or from the first model on.
    pub(super) fn set_ready(&mut self, awaits_first: bool) {
        self.awaits_first = awaits_first;
        if !awaits_first {
            self.catalog.update(|catalog| catalog.ready = true);
        }
    }

    pub(super) fn awaits_first(&self) -> bool {
        self.awaits_first
    }

    /// Whether changes wait that ought to be shown by now.
    pub(super) fn is_due(&self) -> bool {
        self.is_changed && self.shown.elapsed() >= SHOWN_AFTER
    }

    /// Shows the table to the frontends as it is now.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let served = |(name, entry): (&String, &ModelEntry)| {
            Some((name.clone(), Arc::clone(&entry.served.as_ref()?.model)))
        };
        let models: BTreeMap<_, _> = self.entries.iter().filter_map(served).collect();
        let line = |(name, entry): (&String, &ModelEntry)| IndexEntry {
            name: name.clone(),
            version: entry.version.clone(),
            state: entry.state.clone(),
        };
        let index: Vec<_> = self.entries.iter().map(line).collect();
        let is_first = self.awaits_first && !models.is_empty();
        self.awaits_first &= !is_first;
        self.catalog.update(|catalog| {
            catalog.models.clone_from(&models);
            catalog.index.clone_from(&index);
            catalog.ready |= is_first;
        });
        self.publications += 1;
        self.shown = Instant::now();
    }
}
