//! What scripts print goes to the log, with the model's name.

use crate::support::{Fixture, pairs, spec, until};
use std::io;
use std::sync::{Arc, Mutex};
use symphony_python::Kind;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_have_the_name_of_the_model_that_printed_them() {
    let written = Written::default();
    let to = written.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false);
    // The threads that read have no subscriber of their own. No other test needs one.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let fixture = Fixture::new();
    let load = |name: &str, kind: Kind, text: &str| {
        let mut spec = spec(&fixture.write(text), pairs());
        (spec.name, spec.kind) = (name.to_owned(), kind);
        fixture.worker.load(spec).unwrap().id
    };
    let text = "import sys\nprint('loading')\ndef load(config):\n    def predict(batch):\n        print('to out')\n        print('to err', file=sys.stderr)\n        return batch['x']\n    return predict\n";
    let first = load("first-model", Kind::Script, text);
    let second = load(
        "second-model",
        Kind::Triton,
        "import triton_python_backend_utils as pb_utils\nclass TritonPythonModel:\n    def execute(self, requests):\n        pb_utils.Logger.log_warn('careful')\n        return [pb_utils.InferenceResponse([pb_utils.Tensor('y', r.inputs()[0].as_numpy())]) for r in requests]\n",
    );
    for model in [first, second, first] {
        fixture.run(model, &[1.0, 2.0]).unwrap();
    }
    let has = |text: &str, model: &str, level: &str, times: usize| {
        let all = written.text();
        let lines = all.lines().filter(|line| {
            line.contains(text) && line.contains(&format!("\"{model}\"")) && line.contains(level)
        });
        lines.count() == times
    };
    until("lines are missing", || {
        has("loading", "first-model", "INFO", 1)
            && has("to out", "first-model", "stdout", 2)
            && has("to err", "first-model", "stderr", 2)
            && has("careful", "second-model", "WARN", 1)
    });
}
