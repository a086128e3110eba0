//! How a server starts and ends, as its supervisor and its load balancer see it.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what happens soon, on a machine that may be busy with something else.
const SOON: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const MODEL: &str = "slo_ms = 60000\nmax_batch = 4\nengine = \"emulated\"\n\
    [emulated]\nalpha_ms = 1\nbeta_ms = 4\n\
    [[input]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [1]\n\
    [[output]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [1]\n";

const REQUEST: &str =
    r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}"#;

/// A folder with a repository of models, and a server of it.
struct Setup {
    folder: TempDir,
    process: Option<Child>,
}

impl Setup {
    fn new(models: &[&str]) -> Setup {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("models")).expect("a directory of models");
        let setup = Setup { folder, process: None };
        models.iter().for_each(|name| setup.add(name));
        setup
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&self, name: &str) {
        let model = self.path().join("models").join(name);
        fs::create_dir(&model).expect("a model's directory");
        fs::write(model.join("model.toml"), MODEL).expect("a model.toml");
    }

    fn start(&mut self, config: &str, flags: &[&str]) {
        fs::write(self.path().join("symphony.toml"), config).expect("a configuration");
        let log = fs::File::create(self.path().join("log")).expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_symphony"))
            .args(["serve", "--models", "models", "--cache-dir", "cache"])
            .args(["--config", "symphony.toml", "--ports-file", "ports.json"])
            .args(["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"])
            .args(flags)
            .current_dir(self.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("symphony runs"));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).expect("the log")
    }

    /// Waits until the log has a text.
    fn logged(&self, text: &str) {
        eventually(&format!("the log has {text:?}"), || self.log().contains(text));
    }

    /// Waits until the server is ready.
    fn ready(&self) {
        eventually("the server is ready", || self.path().join("ports.json").exists());
    }

    /// The status of an answer over HTTP; 0 when there is none.
    fn status(&self, method: &str, path: &str, body: &str) -> u16 {
        let ports = fs::read_to_string(self.path().join("ports.json")).expect("the ports");
        let ports: serde_json::Value = serde_json::from_str(&ports).expect("JSON");
        let port = ports["http"].as_u64().and_then(|port| u16::try_from(port).ok());
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port.expect("a port"))) else {
            return 0;
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes());
        let read = sent.and_then(|()| stream.read_to_string(&mut answer));
        let status = read.ok().and_then(|_| answer.split(' ').nth(1)?.parse().ok());
        status.unwrap_or(0)
    }

    fn readiness(&self) -> u16 {
        self.status("GET", "/v2/health/ready", "")
    }

    fn infer(&self) -> u16 {
        self.status("POST", "/v2/models/m/infer", REQUEST)
    }

    fn signal(&self, name: &str) {
        self.shell(&format!("kill -s {name} $SERVER"));
    }

    fn signal_with_echo(&self) {
        self.shell("kill -s TERM $SERVER; sleep 0.05; kill -s TERM $SERVER");
    }

    fn shell(&self, command: &str) {
        let server = self.process.as_ref().expect("a server").id().to_string();
        let ran = Command::new("sh").args(["-c", command]).env("SERVER", server).status();
        assert!(ran.expect("a shell").success(), "{command}");
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().expect("a server").try_wait().expect("its state")
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server has ended", || {
            status = self.has_ended();
            status.is_some()
        });
        status.expect("its status")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "in vain: {what}");
        sleep(LOOK_EVERY);
    }
}

#[test]
fn requests_are_served_for_a_while_after_the_signal() {
    let mut setup = Setup::new(&["m"]);
    setup.start("[server]\nshutdown_delay_s = 3600\n", &[]);
    setup.ready();
    assert_eq!((setup.readiness(), setup.infer()), (200, 200));
    // With an echo, as `timeout` sends it: had it counted, the server would end.
    setup.signal_with_echo();
    setup.logged("not ready any more");
    assert_eq!((setup.readiness(), setup.infer()), (503, 200));
    assert_eq!(setup.has_ended(), None);
    // One more ends the wait, when it comes too late for an echo.
    sleep(Duration::from_millis(1100));
    setup.signal("TERM");
    setup.logged("new requests are refused from now on");
    assert!(setup.ended().success(), "{}", setup.log());
}

#[test]
fn an_empty_repository_is_not_ready_until_it_has_a_model() {
    let mut setup = Setup::new(&[]);
    fs::create_dir(setup.path().join("models/lost+found")).expect("a directory");
    setup.start("", &[]);
    setup.logged("there is no model in");
    setup.logged("lost+found");
    assert!(!setup.path().join("ports.json").exists());
    setup.add("m");
    setup.signal("HUP");
    setup.ready();
    assert_eq!((setup.readiness(), setup.infer()), (200, 200));
    setup.signal("TERM");
    assert!(setup.ended().success(), "{}", setup.log());
}

#[test]
fn an_empty_repository_is_ready_where_it_may_be() {
    let mut setup = Setup::new(&[]);
    setup.start("", &["--allow-empty"]);
    setup.ready();
    assert_eq!((setup.readiness(), setup.infer()), (200, 404));
    setup.signal("TERM");
    assert!(setup.ended().success(), "{}", setup.log());
}
