//! A real etcd, of one member, for one test.

use std::env;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Authority;

/// etcd begins to answer within a second, on a machine that has nothing else to do.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Etcd {
    pub(crate) port: u16,
    scheme: &'static str,
    arguments: Vec<String>,
    child: Child,
    _folder: TempDir,
}

impl Etcd {
    pub(crate) fn start() -> Self {
        Self::start_as("http", Vec::new())
    }

    /// Asks for certificates of the `authority`, and has one itself.
    pub(crate) fn start_with_tls(authority: &Authority) -> Self {
        let file = |name: &str| authority.folder().join(name).display().to_string();
        let pairs = [
            ("--cert-file", file("server.crt")),
            ("--key-file", file("server.key")),
            ("--trusted-ca-file", file("ca.crt")),
        ];
        let mut arguments: Vec<String> =
            pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        arguments.push("--client-cert-auth".to_owned());
        Self::start_as("https", arguments)
    }

    fn start_as(scheme: &'static str, mut arguments: Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, peers) = (free_port(), free_port());
        let client = format!("{scheme}://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peers}");
        let data = folder.path().join("data").display().to_string();
        for (name, value) in [
            ("--name", "one"),
            ("--data-dir", &data),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &format!("one={peer}")),
            ("--log-level", "fatal"),
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
        let child = run(&arguments);
        let etcd = Self { port, scheme, arguments, child, _folder: folder };
        etcd.wait_until_it_listens();
        etcd
    }

    /// The address of a lease in it.
    pub(crate) fn address(&self, key: &str) -> String {
        format!("etcd:{}://127.0.0.1:{}/{key}", self.scheme, self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it stored.
    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.arguments);
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&self) {
        let end = Instant::now() + START_MAX;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "etcd does not listen on port {}", self.port);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[String]) -> Child {
    let program = env::var_os("SYMPHONY_TEST_ETCD").expect(
        "SYMPHONY_TEST_ETCD names no etcd: run `cargo xtask test`, or set what `cargo xtask python` \
         prints",
    );
    Command::new(program).args(arguments).stdin(Stdio::null()).spawn().unwrap()
}

/// A port that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
