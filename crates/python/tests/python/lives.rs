//! A process that is lost is started again, with its models.

use crate::support::{ECHO, Fixture, LONG, interpreter, lives, until};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use symphony_python::{Interpreter, PythonConfig, PythonError, PythonWorker};

/// A script that writes the number of its process.
fn tells(path: &Path) -> String {
    format!(
        "import os\ndef load(config):\n    open({path:?}, 'a').write(f'{{os.getpid()}}\\n')\n    return lambda batch: batch['x']\n"
    )
}

fn numbers(path: &Path) -> Vec<i32> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn kill(process: i32) {
    Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
}

#[test]
fn a_process_that_is_killed_between_batches_costs_no_batch() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("numbers");
    let model = fixture.loaded(&tells(&path));
    for killed in 1..4 {
        let number = numbers(&path)[killed - 1];
        kill(number);
        let begin = Instant::now();
        // By itself, without a batch that needs it.
        until("it is not loaded again", || numbers(&path).len() > killed);
        eprintln!("recovered in {:?}", begin.elapsed());
        assert_eq!(fixture.run(model, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
        until("the killed one is there", || !lives(number));
    }
}

#[test]
fn a_model_that_fails_to_load_again_pauses_and_the_others_go_on() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("is_broken");
    let fragile = fixture.loaded(&format!(
        "import os\ndef load(config):\n    if os.path.exists({path:?}): raise OSError('gone')\n    return lambda batch: batch['x'] if batch['x'][0, 0] else os._exit(1)\n"
    ));
    let other = fixture.loaded(ECHO);
    fs::write(&path, "").unwrap();
    fixture.run(fragile, &[0.0, 0.0]).unwrap_err();
    until("the pause is not told", || match fixture.run(fragile, &[1.0, 2.0]) {
        Err(PythonError::Pausing { model, failures, problem, .. }) => {
            assert!(model == "pairs" && problem.contains("OSError: gone"), "{problem}");
            failures > 1
        }
        Err(PythonError::Load { .. }) => false,
        unexpected => panic!("{unexpected:?}"),
    });
    assert_eq!(fixture.run(other, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    fs::remove_file(&path).unwrap();
    until("it is not tried again", || fixture.run(fragile, &[1.0, 2.0]).is_ok());
}

#[test]
fn what_is_missing_of_our_own_files_is_written_again() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("numbers");
    let model = fixture.loaded(&tells(&path));
    fs::remove_dir_all(fixture.directory.path().join("own")).unwrap();
    kill(numbers(&path)[0]);
    until("it is not loaded again", || numbers(&path).len() > 1);
    assert_eq!(fixture.run(model, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
}

#[test]
fn outputs_outlive_their_process() {
    let fixture = Fixture::new();
    let model = fixture.loaded("import os\ndef load(config):\n    return lambda batch: batch['x'] if batch['x'][0, 0] else os._exit(1)\n");
    let answer = fixture.run_requests(model, &[1.0, 2.0], &[1]).unwrap();
    let before = answer.outputs[0].data.to_vec();
    fixture.run(model, &[0.0, 0.0]).unwrap_err();
    assert_eq!(fixture.run(model, &[5.0, 6.0]).unwrap(), [5.0, 6.0]);
    assert_eq!(&answer.outputs[0].data[..], &before[..]);
}

#[test]
fn threads_may_share_a_worker() {
    let fixture = Fixture::new();
    let models = [fixture.loaded(ECHO), fixture.loaded(ECHO)];
    let (worker, bytes) = (&fixture.worker, 3.5f32.to_le_bytes().repeat(2));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bytes = &bytes;
            scope.spawn(move || {
                for _ in 0..50 {
                    let inputs = [symphony_python::Input { shape: &[1, 2], contents: bytes }];
                    let batch = symphony_python::Batch { inputs: &inputs, rows: &[1] };
                    let answer = worker.run(models[thread % 2], &batch).unwrap();
                    assert_eq!(&answer.outputs[0].data[..], &bytes[..]);
                }
            });
        }
    });
}

#[test]
fn what_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let start = |python: &Path| {
        let config =
            PythonConfig::new(Interpreter::installed(python), directory.path().join("own"));
        PythonWorker::start(config).unwrap_err().to_string()
    };
    let missing = start(&directory.path().join("no_python"));
    assert!(missing.contains("no_python: No such file or directory"), "{missing}");
    let other = start(Path::new("/bin/false"));
    assert_eq!(other, "cannot start /bin/false: it exited with code 1; it printed nothing");
    let mute = start(Path::new("/bin/true"));
    assert_eq!(mute, "cannot start /bin/true: it exited with code 0; it printed nothing");
}

/// The name of the test below, which this test runs in a process of its own.
const SERVER: &str = "lives::a_server_that_is_killed";

#[test]
fn a_process_ends_with_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers");
    let mut server = Command::new(env::current_exe().unwrap())
        .args([SERVER, "--exact", "--ignored", "--nocapture"])
        .env("SYMPHONY_TEST_NUMBERS", &path)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("no model is loaded", || numbers(&path).len() == 2);
    server.kill().unwrap();
    server.wait().unwrap();
    for number in numbers(&path) {
        until("it outlives its server", || !lives(number));
    }
}

#[test]
#[ignore = "a_process_ends_with_its_server runs it and kills it"]
fn a_server_that_is_killed() {
    let Some(path) = env::var_os("SYMPHONY_TEST_NUMBERS") else { return };
    let path = Path::new(&path);
    assert!(interpreter().exists());
    let fixture = Fixture::new();
    // The second number is of a child that holds on to nothing of its parent.
    let text = format!(
        "import subprocess\nsubprocess.Popen(['setsid', 'sh', '-c', 'echo $$ >> {}; exec sleep 3600'])\n{}",
        path.display(),
        tells(path)
    );
    fixture.loaded(&text);
    std::thread::sleep(LONG);
}
