//! Scripts that end, hang, fork, take all memory or close what is not theirs: their batch fails with
//! the reason, and they and all others run again.

use crate::support::{ECHO, Fixture, lives, pairs, spec, until};
use std::fs;
use std::time::Duration;
use symphony_python::{Doing, ModelId, PythonConfig, PythonError};
use symphony_wire::tensor::{DataType, Dim, TensorSpec};

/// A script that does this on a batch whose first number is 0, and answers all others.
fn on_zero(statement: &str) -> String {
    format!(
        "import os, sys, time, ctypes, signal, subprocess, threading
import numpy as np
def load(config):
    def predict(batch):
        if batch['x'][0, 0] == 0:
            {statement}
        return batch['x']
    return predict
"
    )
}

struct Case {
    fixture: Fixture,
    bad: ModelId,
    other: ModelId,
}

impl Case {
    fn new(statement: &str, change: impl FnOnce(&mut PythonConfig)) -> Case {
        let fixture = Fixture::with(change);
        let bad = fixture.loaded(&on_zero(statement));
        let other = fixture.loaded(ECHO);
        let case = Case { fixture, bad, other };
        case.runs();
        case
    }

    fn runs(&self) {
        for model in [self.bad, self.other] {
            assert_eq!(self.fixture.run(model, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
        }
    }

    /// What becomes of the bad batch. Everything runs after it.
    fn fails(&self) -> PythonError {
        let error = self.fixture.run(self.bad, &[0.0, 0.0]).unwrap_err();
        self.runs();
        error
    }
}

/// How the process ended, and its last lines.
fn ended(error: PythonError) -> (String, Vec<String>) {
    match error {
        PythonError::Ended { model, doing: Doing::Running(1), how, lines } if model == "pairs" => {
            (how, lines.0)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_that_exits_fails_its_batch_again_and_again() {
    let case = Case::new("print('so long', flush=True); os._exit(7)", |_| ());
    for _ in 0..3 {
        let (how, lines) = ended(case.fails());
        assert_eq!((how.as_str(), &lines[..]), ("exited with code 7", &["so long".to_owned()][..]));
    }
}

#[test]
fn a_fault_in_native_code_is_told_with_the_line_that_called_it() {
    let case = Case::new("ctypes.string_at(1)", |_| ());
    let (how, lines) = ended(case.fails());
    assert_eq!(how, "was killed by signal 11 (SIGSEGV), a fault in native code");
    assert!(lines.iter().any(|line| line.contains("model.py\", line 6 in predict")), "{lines:?}");
}

#[test]
fn a_script_that_never_returns_is_killed_after_its_bound() {
    for statement in [
        "time.sleep(3600)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(3600)",
    ] {
        let case = Case::new(statement, |_| ());
        drop(case);
        let case = Case::new(statement, |config| config.bounds.run = Duration::from_millis(1500));
        match case.fails() {
            PythonError::Hung { model, doing: Doing::Running(1), lines, .. } => {
                assert_eq!(model, "pairs");
                let says_where =
                    lines.0.iter().any(|line| line.contains("model.py\", line 6 in predict"));
                assert!(says_where || statement.contains("mask"), "{lines:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_script_that_takes_all_memory_is_killed_at_its_limit() {
    let statement = "held = []\n            while True: held.append(np.ones(1 << 20))";
    let case = Case::new(statement, |config| config.memory_max = Some(400 << 20));
    match case.fails() {
        PythonError::Memory { model, doing: Doing::Running(1), bytes, max } => {
            assert_eq!((model.as_str(), max), ("pairs", 400 << 20));
            assert!(bytes > max);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_without_end_count_as_memory() {
    let fixture = Fixture::with(|config| config.memory_max = Some(400 << 20));
    let text = "import numpy as np\ndef load(config):\n    def predict(batch):\n        size = 1 << 40 if batch['x'][0, 0] == 0 else 1\n        return np.broadcast_to(np.float32(1), (1, size))\n    return predict\n";
    let mut signature = pairs();
    signature.outputs[0].shape[1] = Dim::Unknown;
    let model = fixture.worker.load(spec(&fixture.write(text), signature)).unwrap().id;
    for _ in 0..2 {
        let error = fixture.run(model, &[0.0, 0.0]).unwrap_err();
        let is_memory = matches!(error, PythonError::Memory { .. });
        // The machine may refuse to promise so much in the first place.
        let is_refused =
            error.to_string().contains("model.py") || error.to_string().contains("emory");
        assert!(is_memory || is_refused, "{error}");
        assert_eq!(fixture.run(model, &[1.0, 0.0]).unwrap(), [1.0]);
    }
}

#[test]
fn a_script_that_attacks_the_guard_is_started_again() {
    for signal in ["SIGKILL", "SIGSTOP"] {
        let statement =
            format!("os.kill(os.getppid(), signal.{signal}); time.sleep(0.2); os._exit(1)");
        let case = Case::new(&statement, |config| config.bounds.run = Duration::from_secs(3));
        let error = case.fails();
        let is_expected = matches!(error, PythonError::Ended { .. } | PythonError::Hung { .. });
        assert!(is_expected, "{error}");
    }
}

#[test]
fn what_a_script_does_to_streams_and_errors_stays_with_it() {
    for statement in [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "sys.modules.clear()",
        "sys.path.clear(); os.chdir('/')",
    ] {
        let case = Case::new(statement, |_| ());
        assert_eq!(case.fixture.run(case.bad, &[0.0, 3.0]).unwrap(), [0.0, 3.0], "{statement}");
        case.runs();
    }
    let odd = "class Odd(Exception):\n                def __str__(self): os._exit\n                def __repr__(self): raise ValueError\n            ";
    for raised in ["raise Odd()", "sys.exit(Odd())", "raise Odd from Odd()"] {
        let case = Case::new(&format!("{odd}{raised}"), |_| ());
        let error = case.fails();
        assert!(matches!(error, PythonError::Run { .. }), "{error}");
    }
}

#[test]
fn outputs_of_batches_that_fail_take_no_memory() {
    let fixture = Fixture::new();
    let text = "import numpy as np\ndef load(config):\n    def predict(batch):\n        word = 'a' if batch['x'][0, 0] else '\\ud800'\n        return np.ones((1, 1 << 20), np.float32), [[word]]\n    return predict\n";
    let mut signature = pairs();
    signature.outputs[0] = TensorSpec::of_rows("y", DataType::Fp32, &[1 << 20]);
    signature.outputs.push(TensorSpec::of_rows("word", DataType::Bytes, &[1]));
    let model = fixture.worker.load(spec(&fixture.write(text), signature)).unwrap().id;
    let shared = || {
        let all = fixture.run_requests(model, &[1.0, 0.0], &[1]).unwrap();
        drop(all);
        let found = children_of(std::process::id());
        let most = found.iter().map(|process| mapped(*process)).max();
        most.unwrap()
    };
    let before = shared();
    for _ in 0..20 {
        let error = fixture.run(model, &[0.0, 0.0]).unwrap_err().to_string();
        assert!(error.contains("UnicodeEncodeError"), "{error}");
    }
    assert_eq!(shared(), before);
}

/// All processes below one.
fn children_of(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let direct: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    direct.iter().flat_map(|child| children_of(*child)).chain(direct.clone()).collect()
}

/// How many arenas for outputs a process has.
fn mapped(process: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    maps.lines().filter(|line| line.contains("symphony-outputs")).count()
}

#[test]
fn memory_of_what_a_script_starts_counts() {
    let child = "x = bytearray(600 << 20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(3600)";
    let statement = format!("subprocess.run([sys.executable, '-c', {child:?}])");
    let case = Case::new(&statement, |config| config.memory_max = Some(400 << 20));
    assert!(matches!(case.fails(), PythonError::Memory { .. }));
}

#[test]
fn a_script_that_closes_every_descriptor_is_started_again() {
    for from in [0, 3] {
        let case = Case::new(&format!("os.closerange({from}, 65536)"), |_| ());
        ended(case.fails());
    }
}

#[test]
fn a_fork_that_comes_back_does_not_speak_for_the_process() {
    let case = Case::new("os.fork()", |_| ());
    for _ in 0..5 {
        assert_eq!(case.fixture.run(case.bad, &[0.0, 3.0]).unwrap(), [0.0, 3.0]);
        case.runs();
    }
}

#[test]
fn garbage_on_every_descriptor_is_noticed() {
    let statement =
        "[os.write(d, b'x' * 64) for d in range(3, 2000) if os.path.exists(f'/proc/self/fd/{d}')
             and os.readlink(f'/proc/self/fd/{d}').startswith('socket')]";
    let case = Case::new(statement, |_| ());
    let (how, _) = ended(case.fails());
    assert!(
        how.starts_with("was killed: what it sent is no answer")
            || how.starts_with("was killed: it would be"),
        "{how}"
    );
}

#[test]
fn standard_input_and_output_are_not_the_servers() {
    let case = Case::new(
        "assert sys.stdin.read() == ''; print('x' * 100_000); sys.stdout.write('{}'); os.write(1, bytes(range(256)) * 100)",
        |_| (),
    );
    assert_eq!(case.fixture.run(case.bad, &[0.0, 3.0]).unwrap(), [0.0, 3.0]);
    case.runs();
}

/// A child that leaves the session and its group, and writes its number.
const DAEMON: &str = "subprocess.Popen(['sh', '-c', f'setsid sh -c \"echo \\\\$\\\\$ > {PATH}; exec sleep 3600\" &'])
            while not (os.path.exists(PATH) and open(PATH).read().endswith('\\n')): time.sleep(0.01)";

fn daemon(path: &std::path::Path) -> String {
    format!("PATH = {path:?}\n            {DAEMON}")
}

fn number_in(path: &std::path::Path) -> i32 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn what_a_script_has_started_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("number");
    let case = Case::new(&format!("{}\n            os._exit(1)", daemon(&path)), |_| ());
    ended(case.fails());
    let number = number_in(&path);
    until("a daemon outlives its process", || !lives(number));
    drop(case);

    fs::remove_file(&path).unwrap();
    let case = Case::new(&daemon(&path), |_| ());
    case.fixture.run(case.bad, &[0.0, 0.0]).unwrap();
    let number = number_in(&path);
    assert!(lives(number));
    drop(case);
    until("a daemon outlives the worker", || !lives(number));
}

#[test]
fn a_model_that_ends_the_process_when_it_is_loaded_does_so_once() {
    let fixture = Fixture::new();
    let other = fixture.loaded(ECHO);
    match fixture.load("import os\nos._exit(9)\n") {
        Err(PythonError::Ended { doing: Doing::Loading, how, .. }) => {
            assert_eq!(how, "exited with code 9")
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(fixture.run(other, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
}

#[test]
fn a_model_that_never_loads_is_killed_after_its_bound() {
    let fixture = Fixture::with(|config| config.bounds.load = Duration::from_secs(3));
    let other = fixture.loaded(ECHO);
    let error = fixture.load("while True: pass\n").unwrap_err();
    assert!(matches!(error, PythonError::Hung { doing: Doing::Loading, .. }), "{error:?}");
    assert_eq!(fixture.run(other, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
}
