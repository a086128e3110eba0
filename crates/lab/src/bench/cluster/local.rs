//! A cluster of processes on this machine: this program's `up`.

use crate::bench::server::Ports;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two looks whether the cluster is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a cluster of emulated models may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How many processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) frontends: u16,
    pub(super) backends: u16,
    /// Of each backend.
    pub(super) accelerators: u32,
}

/// A running cluster; ended when this is dropped.
#[derive(Debug)]
pub(super) struct Cluster {
    process: Child,
    /// Of each frontend.
    pub(super) ports: Vec<Ports>,
    _scratch: TempDir,
}

impl Cluster {
    /// Starts a cluster on free ports and waits until every frontend is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time.
    pub(super) fn start(models: &Path, shape: Shape, settings: &str) -> Result<Cluster> {
        let scratch =
            TempDir::with_prefix("symphony-bench-").context("cannot make a temporary directory")?;
        let config = scratch.path().join("symphony.toml");
        fs::write(&config, settings).context("cannot write the settings")?;
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let process = Command::new(program)
            .arg("up")
            .args(["--http-port", "0", "--no-restart", "--schedulers", "1"])
            .args(["--frontends", &shape.frontends.to_string()])
            .args(["--backends", &shape.backends.to_string()])
            .args(["--accelerators", &shape.accelerators.to_string()])
            .arg("--models")
            .arg(models)
            .arg("--config")
            .arg(&config)
            .arg("--dir")
            .arg(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the cluster")?;
        let mut cluster = Cluster { process, ports: Vec::new(), _scratch: scratch };
        for number in 1..=shape.frontends {
            let file = cluster._scratch.path().join(format!("frontend-{number}.json"));
            let ports = cluster.ready(&file)?;
            cluster.ports.push(ports);
        }
        Ok(cluster)
    }

    /// The process that has started all others.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The ports of a frontend, once it is ready.
    fn ready(&mut self, file: &PathBuf) -> Result<Ports> {
        let start = Instant::now();
        while !file.exists() {
            if let Some(status) = self.process.try_wait()? {
                bail!("the cluster ended before it was ready: {status}");
            }
            if start.elapsed() > READY_WITHIN {
                bail!("the cluster was not ready after {} s", READY_WITHIN.as_secs());
            }
            sleep(LOOK_EVERY);
        }
        let text = fs::read_to_string(file)?;
        serde_json::from_str(&text).with_context(|| format!("no ports in {text:?}"))
    }
}

impl Drop for Cluster {
    /// Its processes end in order; killed, it would leave them behind.
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}
