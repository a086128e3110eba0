//! The table of a pool's models, and when the catalog shows its changes.
//!
//! To show a change costs as much as the table is long. A command that changes many models
//! therefore shows its changes a few times a second, and all of them at its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_backend::loader::LoadedFiles;
use symphony_core::{ModelId, Profile};
use symphony_wire::carrier::in_process::{ServedVersions, SharedCatalog};
use symphony_wire::message::{IndexEntry, ModelState, ServedModel};

/// The catalog shows a change at the latest after this time and the load that is under way then.
pub(super) const SHOWN_AFTER: Duration = Duration::from_millis(100);

/// Where a model stands.
#[derive(Debug, Default)]
struct ModelEntry {
    /// Where it stands as long as none of its versions is known.
    state: Option<ModelState>,
    versions: BTreeMap<u64, VersionEntry>,
}

/// Where a version of a model stands.
#[derive(Debug)]
struct VersionEntry {
    state: ModelState,
    served: Option<ServedVersion>,
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
            // That there are none is to be shown, too.
            is_changed: true,
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

    /// A version that is served under a name.
    pub(super) fn served(&self, name: &str, version: u64) -> Option<&ServedVersion> {
        self.entries.get(name)?.versions.get(&version)?.served.as_ref()
    }

    /// Whether a name is served, in any version.
    pub(super) fn is_served(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.served().next().is_some())
    }

    pub(super) fn publications(&self) -> u64 {
        self.publications
    }

    /// Where a model stands of which no version is known. Versions that are served say more.
    pub(super) fn set_state(&mut self, name: &str, state: ModelState) {
        let entry = self.entries.entry(name.to_owned()).or_default();
        if entry.served().next().is_none() {
            entry.versions.clear();
            entry.state = Some(state);
            self.is_changed = true;
        }
    }

    /// Where a version stands. One that is served stays so.
    pub(super) fn set_version_state(&mut self, name: &str, version: u64, state: ModelState) {
        let entry = self.entries.entry(name.to_owned()).or_default();
        entry.state = None;
        let new = || VersionEntry { state: ModelState::Loading, served: None };
        let version = entry.versions.entry(version).or_insert_with(new);
        if version.served.is_none() {
            version.state = state;
        }
        self.is_changed = true;
    }

    /// Serves a version. Returns what it takes the place of.
    pub(super) fn serve(&mut self, version: u64, served: ServedVersion) -> Option<ServedVersion> {
        let entry = self.entries.entry(served.model.name.clone()).or_default();
        entry.state = None;
        self.is_changed = true;
        let served = VersionEntry { state: ModelState::Ready, served: Some(served) };
        entry.versions.insert(version, served)?.served
    }

    /// Shows another profile of a version that is served, which is returned.
    pub(super) fn set_profile(
        &mut self,
        id: ModelId,
        profile: &Profile,
    ) -> Option<Arc<ServedModel>> {
        let versions = self.entries.values_mut().flat_map(|entry| entry.versions.values_mut());
        let mut served = versions.filter_map(|version| version.served.as_mut());
        let served = served.find(|served| served.model.id == id)?;
        let model = ServedModel::clone(&served.model);
        served.model = Arc::new(ServedModel { profile: profile.clone(), ..model });
        self.is_changed = true;
        Some(Arc::clone(&served.model))
    }

    /// Keeps these versions of a model. Returns the others that were served.
    pub(super) fn keep(&mut self, name: &str, wanted: &[u64]) -> Vec<ServedVersion> {
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let gone = entry.versions.extract_if(.., |version, _| !wanted.contains(version));
        let gone: Vec<_> = gone.collect();
        self.is_changed |= !gone.is_empty();
        gone.into_iter().filter_map(|(_, version)| version.served).collect()
    }

    /// Serves a name no more. Returns the versions that were served.
    pub(super) fn stop(&mut self, name: &str) -> Vec<ServedVersion> {
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let unloaded = || ModelState::Unavailable("unloaded".to_owned());
        self.is_changed = true;
        if entry.versions.is_empty() {
            entry.state = Some(unloaded());
        }
        let stop = |version: &mut VersionEntry| {
            version.state = unloaded();
            version.served.take()
        };
        entry.versions.values_mut().filter_map(stop).collect()
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
            let versions = entry.served().map(|version| Arc::clone(&version.model)).collect();
            Some((name.clone(), ServedVersions::new(versions)?))
        };
        let models: BTreeMap<_, _> = self.entries.iter().filter_map(served).collect();
        let index: Vec<_> =
            self.entries.iter().flat_map(|(name, entry)| entry.lines(name)).collect();
        let is_first = self.awaits_first && !models.is_empty();
        self.awaits_first &= !is_first;
        self.catalog.update(|catalog| {
            catalog.known = true;
            catalog.models.clone_from(&models);
            catalog.index.clone_from(&index);
            catalog.ready |= is_first;
        });
        self.publications += 1;
        self.shown = Instant::now();
    }
}

impl ModelEntry {
    /// Its versions that are served, lowest first.
    fn served(&self) -> impl Iterator<Item = &ServedVersion> {
        self.versions.values().filter_map(|version| version.served.as_ref())
    }

    /// Its lines of the repository's index.
    fn lines(&self, name: &str) -> impl Iterator<Item = IndexEntry> {
        let line = |version: String, state: &ModelState| IndexEntry {
            name: name.to_owned(),
            version,
            state: state.clone(),
        };
        let whole = self.state.iter().map(move |state| line(String::new(), state));
        let versions = self.versions.iter();
        whole.chain(versions.map(move |(version, entry)| line(version.to_string(), &entry.state)))
    }
}
