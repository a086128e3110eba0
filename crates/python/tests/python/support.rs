//! A Python process with models that tests write.

use std::cell::Cell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use symphony_python::{
    Answer, Batch, Input, Interpreter, Kind, Loaded, ModelId, ModelSpec, PythonConfig, PythonError,
    PythonWorker,
};
use symphony_wire::tensor::{DataType, Signature, TensorSpec};
use tempfile::TempDir;

/// Longer than anything takes that ends at all.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn interpreter() -> PathBuf {
    let python = env::var_os("SYMPHONY_TEST_PYTHON").expect(
        "SYMPHONY_TEST_PYTHON names no Python with numpy: run `cargo xtask test`, or set what \
         `cargo xtask python` prints",
    );
    PathBuf::from(python)
}

/// A process, and a directory for its files and models.
pub(crate) struct Fixture {
    pub(crate) worker: PythonWorker,
    pub(crate) directory: TempDir,
    written: Cell<u32>,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        Fixture::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut PythonConfig)) -> Fixture {
        Fixture::of(Interpreter::installed(interpreter()), change)
    }

    pub(crate) fn of(python: Interpreter, change: impl FnOnce(&mut PythonConfig)) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let mut config = PythonConfig::new(python, directory.path().join("own"));
        config.bounds.run = LONG;
        config.bounds.load = LONG;
        config.bounds.start = LONG;
        change(&mut config);
        let worker = PythonWorker::start(config).unwrap();
        Fixture { worker, directory, written: Cell::new(0) }
    }

    /// Writes a model's file into a directory of its own.
    pub(crate) fn write(&self, text: &str) -> PathBuf {
        self.written.set(self.written.get() + 1);
        let folder = self.directory.path().join(format!("model{}", self.written.get())).join("1");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("model.py");
        fs::write(&file, text).unwrap();
        file
    }

    /// A model that takes `x [rows, 2]` and gives `y [rows, 2]`, both FP32.
    pub(crate) fn load(&self, text: &str) -> Result<Loaded, PythonError> {
        self.worker.load(spec(&self.write(text), pairs()))
    }

    pub(crate) fn loaded(&self, text: &str) -> ModelId {
        self.load(text).unwrap().id
    }

    /// Runs a batch of one request of such a model.
    pub(crate) fn run(&self, model: ModelId, values: &[f32]) -> Result<Vec<f32>, PythonError> {
        let rows = [u32::try_from(values.len() / 2).unwrap()];
        self.run_requests(model, values, &rows).map(|answer| floats(&answer.outputs[0].data))
    }

    pub(crate) fn run_requests(
        &self,
        model: ModelId,
        values: &[f32],
        rows: &[u32],
    ) -> Result<Answer, PythonError> {
        let contents: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = [values.len() / 2, 2];
        let inputs = [Input { shape: &shape, contents: &contents }];
        self.worker.run(model, &Batch { inputs: &inputs, rows })
    }
}

/// Of `x` and `y`, each two numbers a row.
pub(crate) fn pairs() -> Signature {
    let of = |name: &str| vec![TensorSpec::of_rows(name, DataType::Fp32, &[2])];
    Signature::fixed(of("x"), of("y"))
}

pub(crate) fn spec(file: &Path, signature: Signature) -> ModelSpec {
    ModelSpec {
        name: "pairs".to_owned(),
        version: "1".to_owned(),
        kind: Kind::Script,
        path: file.to_owned(),
        directory: file.parent().unwrap().parent().unwrap().to_owned(),
        config: serde_json::Map::new(),
        signature,
        max_batch: 8,
        device: "cpu".to_owned(),
        compile: false,
        cuda_graphs: false,
    }
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// Waits for something that comes about by itself.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there and has not ended.
pub(crate) fn lives(process: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

/// A script that answers what it gets.
pub(crate) const ECHO: &str = "def load(config):\n    return lambda batch: batch['x']\n";
