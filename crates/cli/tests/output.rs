//! A server whose output cannot be written, because a disk is full or a reader has left, serves on.

#![cfg(target_os = "linux")]

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// For what happens soon, on a machine that may be busy with something else.
const SOON: Duration = Duration::from_secs(60);

const MODEL: &str = "slo_ms = 2000\nmax_batch = 4\nengine = \"emulated\"\n\
    [emulated]\nalpha_ms = 1\nbeta_ms = 4\n\
    [[input]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [2]\n\
    [[output]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [2]\n";

/// A disk that is full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full")
}

/// A pipe whose reader has left.
fn broken() -> Stdio {
    let mut reader =
        Command::new("true").stdin(Stdio::piped()).spawn().expect("the program `true`");
    let pipe = reader.stdin.take().expect("its standard input");
    reader.wait().expect("its end");
    pipe.into()
}

fn serve(folder: &Path, stdout: Stdio, stderr: Stdio) -> Child {
    let model = folder.join("models/m");
    std::fs::create_dir_all(&model).expect("a model's directory");
    std::fs::write(model.join("model.toml"), MODEL).expect("a model.toml");
    Command::new(env!("CARGO_BIN_EXE_symphony"))
        .args(["serve", "--models", "models", "--cache-dir", "cache", "--log-level", "debug"])
        .args(["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"])
        .args(["--ports-file", "ports.json"])
        .current_dir(folder)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("symphony runs")
}

/// Waits until the server is ready, then asks it to end.
fn started_and_ended(folder: &Path, mut server: Child) -> ExitStatus {
    let begun = Instant::now();
    while !folder.join("ports.json").exists() {
        assert!(begun.elapsed() < SOON, "not ready in time");
        if let Some(status) = server.try_wait().expect("its state") {
            panic!("the server ended with {status}");
        }
        sleep(Duration::from_millis(20));
    }
    let pid = server.id().to_string();
    assert!(Command::new("kill").arg(pid).status().expect("the program `kill`").success());
    server.wait().expect("its end")
}

#[test]
fn a_server_that_cannot_write_serves() {
    let outputs: [fn() -> (Stdio, Stdio); 2] =
        [|| (full().into(), full().into()), || (broken(), broken())];
    for output in outputs {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (stdout, stderr) = output();
        let server = serve(folder.path(), stdout, stderr);
        assert!(started_and_ended(folder.path(), server).success());
    }
}
