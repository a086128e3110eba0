//! What scripts return is checked, and what they raise is told.

use crate::support::{ECHO, Fixture};
use symphony_python::PythonError;

/// The error of a batch of two rows, for which the script does this.
fn problem(fixture: &Fixture, statement: &str) -> String {
    let text = format!(
        "import numpy as np\ndef load(config):\n    def predict(batch):\n        x = batch['x']\n        {statement}\n    return predict\n"
    );
    let model = fixture.loaded(&text);
    match fixture.run(model, &[1.0, 2.0, 3.0, 4.0]) {
        Err(PythonError::Run { problem, model, rows: 2 }) if model == "pairs" => problem,
        other => panic!("{statement}: {other:?}"),
    }
}

#[test]
fn outputs_that_are_not_what_the_model_declares_are_named() {
    let fixture = Fixture::new();
    let cases = [
        ("return {'z': x}", "expected outputs ['y'], got ['z']"),
        ("return {'y': x, 'z': x}", "expected outputs ['y'], got ['y', 'z']"),
        ("return {}", "expected outputs ['y'], got []"),
        ("return x, x", "expected 1 outputs ['y'], got 2"),
        ("return None", "predict returned None: expected outputs ['y']"),
        ("yield x", "predict has to return its outputs: it is a generator or coroutine"),
        ("return x[:1]", "output 'y': expected shape [2, 2] for 2 rows, got [1, 2]"),
        ("return x[0]", "output 'y': expected shape [2, 2] for 2 rows, got [2]"),
        ("return x[:, :1]", "output 'y': expected shape [2, 2] for 2 rows, got [2, 1]"),
        (
            "return x.astype(np.float64)",
            "output 'y': expected FP32, got dtype float64: convert it with .astype(numpy.float32)",
        ),
        (
            "return np.array([['a', 'b']] * 2)",
            "output 'y': expected FP32, got dtype <U1: convert it with .astype(numpy.float32)",
        ),
    ];
    for (statement, expected) in cases {
        assert_eq!(problem(&fixture, statement), expected, "{statement}");
    }
    assert!(
        problem(&fixture, "return {'y': [[1.0], [1.0, 2.0]]}")
            .starts_with("output 'y' is no array")
    );
}

#[test]
fn lists_and_narrower_numbers_become_the_declared_type() {
    let fixture = Fixture::new();
    for value in ["{'y': [[1, 2], [3, 4]]}", "[[[1.0, 2.0], [3.0, 4.0]]]", "x.astype(np.float16)"] {
        let text = format!(
            "import numpy as np\ndef load(config):\n    def predict(batch):\n        x = batch['x']\n        return {value}\n    return predict\n"
        );
        let model = fixture.loaded(&text);
        assert_eq!(
            fixture.run(model, &[1.0, 2.0, 3.0, 4.0]).unwrap(),
            [1.0, 2.0, 3.0, 4.0],
            "{value}"
        );
    }
}

#[test]
fn what_a_script_raises_comes_with_its_own_lines() {
    let fixture = Fixture::new();
    let told = problem(&fixture, "return np.ones(2) @ np.ones(3)");
    assert!(told.starts_with("ValueError: matmul"), "{told}");
    assert!(
        told.ends_with("\n  at model.py:5 in predict: return np.ones(2) @ np.ones(3)"),
        "{told}"
    );
    let told = problem(&fixture, "import sys; sys.exit(3)");
    assert!(
        told.starts_with("the script called sys.exit(3)\n  at model.py:5 in predict"),
        "{told}"
    );
    assert!(problem(&fixture, "raise KeyboardInterrupt").starts_with("KeyboardInterrupt"));
    let told = problem(&fixture, "raise ValueError('\\ud800' + 'x' * 1_000_000)");
    assert!(told.len() < 4000, "it is cut");
    assert!(
        problem(&fixture, "return np.ones((1 << 45,), np.uint8)").contains("Unable to allocate")
    );
}

#[test]
fn what_does_not_load_is_told_and_leaves_the_others_alone() {
    let fixture = Fixture::new();
    let good = fixture.loaded(ECHO);
    let cases = [
        (
            "def load(config):\n    raise RuntimeError('no weights')\n",
            "RuntimeError: no weights\n  at model.py:2 in load: raise RuntimeError('no weights')",
        ),
        (
            "import nothing_of_this_name\n",
            "ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("def load(config:\n", "SyntaxError: "),
        ("x = 1\n", "the file has neither a function `load(config)` nor a class `Model`"),
        (
            "def load(config):\n    return 3\n",
            "load(config) has to return a callable, it returned 3",
        ),
        (
            "class Model:\n    def predict(self, batch):\n        pass\ndef load(config):\n    return print\n",
            "the file has a function `load` and a class `Model`",
        ),
        ("import sys\nsys.exit('enough')\n", "the script called sys.exit('enough')"),
    ];
    for (text, expected) in cases {
        match fixture.load(text) {
            Err(PythonError::Load { model, problem }) => {
                assert_eq!(model, "pairs");
                assert!(problem.contains(expected), "{text}: {problem}");
            }
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(fixture.run(good, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    }
}
