//! What the tests of this crate share: repositories of emulated models, pools that serve them, and
//! requests to these.

use crate::config::PoolConfig;
use crate::pool::{Pool, PoolModels};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use symphony_backend::engine::Cores;
use symphony_backend::loader::{Loader, LoaderConfig, PYTHON_DEFAULT};
use symphony_backend::profiling::Effort;
use symphony_backend::repository::Repository;
use symphony_core::{Class, Request};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::SubmitError;
use symphony_wire::message::{Outcome, ServedModel, Submit};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

/// A directory of models that is removed at the end of the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        Folder(folder)
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    /// Adds a model of one byte whose batches take `run_ms`. Its objective is over an hour, so that
    /// a test that waits for a deadline does not end.
    pub(crate) fn write(&self, name: &str, run_ms: u64) {
        self.write_within(name, run_ms, 4_000_000);
    }

    /// Gives such a model versions, each in a directory of its own, and says which are served.
    pub(crate) fn write_versions(&self, name: &str, there: &[u64], served: &str) {
        self.write(name, 1);
        let model = self.models().join(name);
        for version in there {
            fs::create_dir_all(model.join(version.to_string())).unwrap();
        }
        let settings = fs::read_to_string(model.join("model.toml")).unwrap();
        fs::write(model.join("model.toml"), format!("versions = {served}\n{settings}")).unwrap();
    }

    /// Takes a version away.
    pub(crate) fn remove_version(&self, name: &str, version: u64) {
        fs::remove_dir_all(self.models().join(name).join(version.to_string())).unwrap();
    }

    /// The same with an objective.
    pub(crate) fn write_within(&self, name: &str, run_ms: u64, slo_ms: u64) {
        let settings = format!(
            "slo_ms = {slo_ms}\nmax_batch = 1\nengine = \"emulated\"\n\
             [emulated]\nalpha_ms = 0\nbeta_ms = {run_ms}\n\
             [[input]]\nname = \"x\"\ndatatype = \"UINT8\"\nshape = [1]\n\
             [[output]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [1]\n"
        );
        let model = self.models().join(name);
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("model.toml"), settings).unwrap();
    }

    pub(crate) fn config(&self, accelerators: usize) -> PoolConfig {
        PoolConfig::new(LoaderConfig {
            cores: Cores { accelerators, threads: 1 },
            cache_dir: self.0.path().join("cache"),
            onnxruntime: None,
            python: PYTHON_DEFAULT.into(),
            effort: Effort::default(),
        })
    }

    /// The models of this folder, to be loaded into a pool.
    pub(crate) fn models_of(&self, pool: &Pool) -> PoolModels {
        let repository = Repository::open(&self.models()).unwrap();
        pool.models(repository, Loader::new(self.config(pool.accelerators()).loader))
    }

    /// A pool that serves every model of this folder.
    pub(crate) fn pool(&self, accelerators: usize) -> (Pool, PoolModels) {
        let pool = Pool::start(&self.config(accelerators)).unwrap();
        let mut models = self.models_of(&pool);
        models.load_all(|_, loaded| assert!(loaded.is_ok(), "{loaded:?}")).unwrap();
        (pool, models)
    }
}

/// The model of that name, if the pool serves it.
pub(crate) fn served(pool: &Pool, name: &str) -> Option<Arc<ServedModel>> {
    pool.catalog.load().models.get(name).map(|versions| Arc::clone(versions.highest()))
}

/// Sends a request to a model. Its outcome follows.
pub(crate) fn submit(
    pool: &Pool,
    model: &ServedModel,
) -> Result<oneshot::Receiver<Outcome>, SubmitError> {
    let (reply, outcome) = oneshot::channel();
    let inputs = Inputs::fixed(1, vec![vec![7].into()]);
    let id = pool.in_flight.admit(inputs, reply).unwrap();
    let arrival = pool.clock.now();
    let deadline = arrival + model.objective.span();
    let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
    pool.scheduler.submit(Timed::new(arrival, Submit::of(model.id, &request, arrival)))?;
    Ok(outcome)
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}
