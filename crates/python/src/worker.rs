//! The handle of a Python process.

use crate::batch::{Answer, Batch};
use crate::config::PythonConfig;
use crate::error::PythonError;
use crate::memory::InputArenas;
use crate::model::{Loaded, ModelId, ModelSpec};
use crate::state::State;
use crate::watch;
use crate::watched::Watched;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use symphony_wire::carrier::shared_memory::ArenaBuf;

/// A Python process for one accelerator and one set of packages, and the models in it. Clones are the
/// same process. It ends when the last is dropped.
///
/// It does one thing at a time: a batch waits while another is run or a model is loaded. What a script
/// does to the process it does to all models in it, so models that have to be kept from each other get
/// a process each; models of one GPU rather share one, for each process takes some of its memory.
#[derive(Clone)]
pub struct PythonWorker(Arc<Shared>);

impl fmt::Debug for PythonWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonWorker").finish_non_exhaustive()
    }
}

struct Shared {
    state: Arc<Mutex<State>>,
    inputs: Arc<InputArenas>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.state().stop();
    }
}

impl PythonWorker {
    /// Starts a process.
    ///
    /// # Errors
    /// It does not start: there is no such interpreter, or it has no numpy.
    pub fn start(config: PythonConfig) -> Result<PythonWorker, PythonError> {
        let refused = |problem: String| PythonError::Start {
            python: config.python.path().to_owned(),
            problem,
        };
        let (sender, news) = mpsc::channel();
        let (inputs, watched) = (Arc::<InputArenas>::default(), Arc::<Watched>::default());
        let state = State::new(config.clone(), Arc::clone(&inputs), Arc::clone(&watched), sender);
        let shared = Shared { state: Arc::new(Mutex::new(state)), inputs };
        let (state, watched) = (Arc::downgrade(&shared.state), Arc::downgrade(&watched));
        let started = thread("python-restore", move || watch::restore(&state, &news));
        started.map_err(|error| refused(format!("no thread: {error}")))?;
        if let Some(max) = config.memory_max {
            let started = thread("python-memory", move || watch::hold(&watched, max));
            started.map_err(|error| refused(format!("no thread: {error}")))?;
        }
        shared.state().start()?;
        Ok(PythonWorker(Arc::new(shared)))
    }

    /// Loads a model. If the process is lost later, it is loaded again.
    ///
    /// # Errors
    /// What its script raised, or why its file cannot be used. The other models go on.
    pub fn load(&self, spec: ModelSpec) -> Result<Loaded, PythonError> {
        self.0.state().load(spec)
    }

    /// Unloads a model, if it is loaded. A script that does not let go in time is killed, and with it
    /// the process.
    pub fn unload(&self, id: ModelId) {
        self.0.state().unload(id);
    }

    /// Memory for inputs, which the process sees. There are larger arenas where one is full, so it
    /// fails only when the machine has no more. It holds whatever its place held before: fill it.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn buffer(&self, length: usize) -> io::Result<ArenaBuf> {
        self.0.inputs.buffer(length)
    }

    /// Runs a batch, and waits for it, at most for the bound.
    ///
    /// # Errors
    /// The whole batch failed: what the script raised or did wrong, or how its process ended. The
    /// process is being started again then.
    pub fn run(&self, id: ModelId, batch: &Batch<'_>) -> Result<Answer, PythonError> {
        self.0.state().run(id, batch)
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
