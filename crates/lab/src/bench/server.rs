//! A server under load: this program again, as a process of its own.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use symphony_frontend::proto::RepositoryIndexRequest;
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tempfile::TempDir;

/// A running server; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) ports: Ports,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) grpc: u16,
}

/// How a server is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartWith<'a> {
    /// Another `symphony` than this one.
    pub(crate) program: Option<&'a Path>,
    pub(crate) log_level: &'a str,
}

/// Between two looks whether the server is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A model is measured for half a minute at most; large ones take as long again to load.
const READY_WITHIN: Duration = Duration::from_secs(900);

impl Server {
    /// Starts a server on free ports and waits until it is ready. Its warnings go to standard
    /// error.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time.
    pub(crate) fn start(models: &Path, flags: &[String]) -> Result<Server> {
        Server::start_with(models, flags, &StartWith { program: None, log_level: "warn" })
    }

    /// The same with another program or log.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn start_with(
        models: &Path,
        flags: &[String],
        with: &StartWith<'_>,
    ) -> Result<Server> {
        let scratch =
            TempDir::with_prefix("symphony-bench-").context("cannot make a temporary directory")?;
        let ports_file = scratch.path().join("ports.json");
        let program = match with.program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().context("cannot tell where this program is")?,
        };
        let mut process = Command::new(program)
            .arg("serve")
            .arg("--models")
            .arg(models)
            .args(["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"])
            .args(["--log-level", with.log_level, "--ports-file"])
            .arg(&ports_file)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the server")?;
        match ready(&mut process, &ports_file) {
            Ok(ports) => Ok(Server { process, ports }),
            Err(error) => {
                // It may have ended already.
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// How many models it serves.
    ///
    /// # Errors
    /// It does not say.
    pub(crate) fn models_ready(&self) -> Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let address = format!("http://127.0.0.1:{}", self.ports.grpc);
            let mut client = GrpcInferenceServiceClient::connect(address).await?;
            let request = RepositoryIndexRequest { ready: true, ..<_>::default() };
            let index = client.repository_index(request).await.context("no repository index")?;
            Ok(index.into_inner().models.len())
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; the figures would have shown it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ready(process: &mut Child, ports_file: &Path) -> Result<Ports> {
    let start = Instant::now();
    while !ports_file.exists() {
        if let Some(status) = process.try_wait()? {
            bail!("the server ended before it was ready: {status}");
        }
        if start.elapsed() > READY_WITHIN {
            bail!("the server was not ready after {} s", READY_WITHIN.as_secs());
        }
        sleep(LOOK_EVERY);
    }
    let text = fs::read_to_string(ports_file)?;
    serde_json::from_str(&text).with_context(|| format!("no ports in {text:?}"))
}
