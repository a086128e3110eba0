//! What backends run each model with. Answers of two engines, or of two versions of one, may differ in
//! their last digits: whoever operates the cluster is told once for each model.

use super::membership::BackendKey;
use std::collections::{BTreeMap, BTreeSet};
use symphony_wire::message::EngineFacts;

/// An engine in a version, on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Used {
    backend: String,
    engine: String,
    version: String,
}

/// The engines of backends, and what each model ran on first.
#[derive(Debug, Default)]
pub(crate) struct Engines {
    backends: BTreeMap<BackendKey, (String, Vec<EngineFacts>)>,
    first: BTreeMap<(String, u64), Used>,
    told: BTreeSet<(String, u64)>,
}

impl Engines {
    /// A backend has come.
    pub(crate) fn arrived(&mut self, key: BackendKey, name: &str, engines: &[EngineFacts]) {
        self.backends.insert(key, (name.to_owned(), engines.to_vec()));
    }

    pub(crate) fn left(&mut self, key: BackendKey) {
        self.backends.remove(&key);
    }

    /// A backend has loaded a model. Returns what there is to warn of.
    pub(crate) fn loaded(
        &mut self,
        key: BackendKey,
        model: (&str, u64),
        engine: &str,
    ) -> Option<String> {
        let (backend, engines) = self.backends.get(&key)?;
        let version = engines.iter().find(|of| of.name == engine);
        let version = version.map(|of| of.version.clone()).unwrap_or_default();
        let used = Used { backend: backend.clone(), engine: engine.to_owned(), version };
        let (name, number) = model;
        let model = (name.to_owned(), number);
        let first = self.first.entry(model.clone()).or_insert_with(|| used.clone());
        if (&first.engine, &first.version) == (&used.engine, &used.version) {
            return None;
        }
        let warning = format!(
            "model {:?} runs on {} {} at backend {:?} and on {} {} at backend {:?}: their answers may \
             differ; give both the same engine",
            name,
            first.engine,
            first.version,
            first.backend,
            used.engine,
            used.version,
            used.backend
        );
        self.told.insert(model).then_some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_runs_on_two_engines_is_warned_of_once() {
        let mut engines = Engines::default();
        let has = |version: &str| {
            ["rten", "onnxruntime"]
                .map(|name| EngineFacts { name: name.to_owned(), version: version.to_owned() })
        };
        for (key, name, version) in [(0, "a", "1"), (1, "b", "1"), (2, "c", "2")] {
            engines.arrived(BackendKey(key), name, &has(version));
        }
        let mut loaded = |key, model, engine| engines.loaded(BackendKey(key), (model, 1), engine);
        assert_eq!(loaded(0, "m", "rten"), None);
        assert_eq!(loaded(1, "m", "rten"), None, "the same in the same version");
        let warning = loaded(2, "m", "rten").unwrap();
        assert!(
            warning.starts_with(
                "model \"m\" runs on rten 1 at backend \"a\" and on rten 2 at backend \"c\""
            ),
            "{warning}"
        );
        assert_eq!(loaded(2, "m", "rten"), None, "once");
        assert_eq!(loaded(0, "n", "rten"), None);
        assert!(loaded(1, "n", "onnxruntime").is_some(), "another model, another engine");
        engines.left(BackendKey(1));
        let unknown = engines.loaded(BackendKey(1), ("n", 1), "onnxruntime");
        assert_eq!(unknown, None, "nothing is known of it any more");
    }
}
