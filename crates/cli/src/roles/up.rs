//! `symphony up`: a local cluster of processes, to try out what each of them does and what its failure
//! costs. Kubernetes or another supervisor does the same for machines.

use crate::args::UpArgs;
use crate::console::say;
use crate::runtime;
use crate::signals::Signals;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use symphony_wire::carrier::in_process::commands;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long a process that has ended is left ended: long enough to see what that costs.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long a process may take to say where it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// How long processes may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How often to look for a file.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Ports of one frontend are so far from those of the next.
const PORTS_APART: u16 = 10;

pub(crate) fn command(args: &UpArgs) -> Result<()> {
    for (count, flag) in [
        (args.frontends, "--frontends"),
        (args.backends, "--backends"),
        (args.schedulers, "--schedulers"),
    ] {
        if count == 0 {
            bail!("{flag} 0: a cluster needs at least one");
        }
    }
    runtime::run(1, "up", up(args))
}

/// A process of the cluster: how it is started.
#[derive(Clone, Debug)]
struct Role {
    name: String,
    args: Vec<String>,
    /// Where it says where it listens.
    ports_file: Option<PathBuf>,
    log: PathBuf,
}

/// What became of a process.
#[derive(Debug)]
enum News {
    Started { name: String, pid: u32 },
    Ended { name: String, how: String },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Started { name, pid } => write!(f, "  {name:<12} started, process {pid}"),
            News::Ended { name, how } => write!(f, "  {name:<12} ended: {how}"),
        }
    }
}

async fn up(args: &UpArgs) -> Result<()> {
    let mut signals = Signals::listen()?;
    let folder = Folder::of(args.dir.as_deref())?;
    let plan = Plan { args, folder: &folder.path };
    let (stop, stopping) = watch::channel(false);
    let (news, told) = mpsc::unbounded_channel();
    let shown = tokio::spawn(show(told));
    let mut tasks = Vec::new();
    let mut start = |role: Role| {
        let keeper = Keeper {
            role,
            restarts: !args.no_restart,
            stopping: stopping.clone(),
            news: news.clone(),
        };
        tasks.push(tokio::spawn(keeper.keep()));
    };
    say(format_args!("a cluster in {} (logs, lease, ports)", folder.path.display()));
    let mut addresses = Vec::new();
    for number in 1..=args.schedulers {
        let role = plan.scheduler(number)?;
        let file = role.ports_file.clone().context("schedulers say where they listen")?;
        start(role);
        addresses.push(links(&file).await?);
    }
    let addresses = addresses.join(",");
    (1..=args.backends).for_each(|number| start(plan.backend(number, &addresses)));
    let frontends: Vec<_> =
        (1..=args.frontends).map(|number| plan.frontend(number, &addresses)).collect();
    let files: Vec<_> = frontends.iter().filter_map(|role| role.ports_file.clone()).collect();
    frontends.into_iter().for_each(&mut start);
    drop(news);
    let ready = async {
        for (number, file) in (1..).zip(&files) {
            while !file.exists() {
                sleep(LOOK_EVERY).await;
            }
            let ports = read(file)?;
            say(format_args!(
                "  frontend-{number:<3} ready: HTTP {}:{}, gRPC {}, metrics {}",
                args.host, ports["http"], ports["grpc"], ports["metrics"]
            ));
        }
        say(format_args!("ready; to see what a failure costs: kill -9 or kill -STOP one of these"));
        std::future::pending::<Result<()>>().await
    };
    let (nobody, _) = commands();
    tokio::select! {
        failed = ready => failed?,
        _ = shown => bail!("every process has ended"),
        () = signals.until_shutdown(&nobody) => {}
    }
    say("ending every process");
    let _ = stop.send(true);
    for task in tasks {
        let _ = task.await;
    }
    Ok(())
}

/// Says what becomes of processes, until all have ended for good.
async fn show(mut told: mpsc::UnboundedReceiver<News>) {
    while let Some(news) = told.recv().await {
        say(news);
    }
}

/// Where the files of a cluster are.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    is_ours: bool,
}

impl Folder {
    fn of(given: Option<&Path>) -> Result<Folder> {
        let own = || std::env::temp_dir().join(format!("symphony-up-{}", std::process::id()));
        let path = given.map_or_else(own, Path::to_owned);
        let cannot = || format!("cannot make the directory {}", path.display());
        std::fs::create_dir_all(&path).with_context(cannot)?;
        // Processes need the whole path.
        let path = path.canonicalize().with_context(cannot)?;
        Ok(Folder { path, is_ours: given.is_none() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ours {
            // What cannot be removed is left to whoever cleans temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// What is started.
struct Plan<'a> {
    args: &'a UpArgs,
    folder: &'a Path,
}

impl Plan<'_> {
    fn role(&self, kind: &str, number: u16, says_ports: bool) -> Role {
        let name = format!("{kind}-{number}");
        let ports_file = says_ports.then(|| self.folder.join(format!("{name}.json")));
        let mut args = vec![kind.to_owned(), "--name".to_owned(), name.clone()];
        if let Some(config) = &self.args.config {
            args.extend(["--config".to_owned(), config.display().to_string()]);
        }
        if let Some(file) = &ports_file {
            args.extend(["--ports-file".to_owned(), file.display().to_string()]);
        }
        Role { args, ports_file, log: self.folder.join(format!("{name}.log")), name }
    }

    fn scheduler(&self, number: u16) -> Result<Role> {
        let mut role = self.role("scheduler", number, true);
        let lease = format!("file:{}", self.folder.join("lease").display());
        let models = self.args.models.display().to_string();
        let listen = free_address()?;
        role.add(&[("--models", &models), ("--listen", &listen), ("--lease", &lease)]);
        Ok(role)
    }

    fn backend(&self, number: u16, schedulers: &str) -> Role {
        let mut role = self.role("backend", number, false);
        let accelerators = self.args.accelerators.to_string();
        let threads = self.args.threads.to_string();
        role.add(&[
            ("--scheduler", schedulers),
            ("--accelerators", &accelerators),
            ("--threads", &threads),
        ]);
        role
    }

    fn frontend(&self, number: u16, schedulers: &str) -> Role {
        let mut role = self.role("frontend", number, true);
        let port = |offset: u16| match self.args.http_port {
            0 => 0,
            first => first.saturating_add((number - 1).saturating_mul(PORTS_APART) + offset),
        };
        let ports = [port(0), port(1), port(2)].map(|port| port.to_string());
        let host = self.args.host.to_string();
        role.add(&[
            ("--scheduler", schedulers),
            ("--host", &host),
            ("--http-port", &ports[0]),
            ("--grpc-port", &ports[1]),
            ("--metrics-port", &ports[2]),
        ]);
        role
    }
}

impl Role {
    fn add(&mut self, flags: &[(&str, &str)]) {
        let flags = flags.iter().flat_map(|(flag, value)| [*flag, *value]);
        self.args.extend(flags.map(str::to_owned));
    }

    /// Starts the process. Its log goes to a file, behind that of its former life.
    fn start(&self) -> Result<Child> {
        if let Some(file) = &self.ports_file {
            let _ = std::fs::remove_file(file);
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let child = Command::new(program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write the log twice")?)
            .stderr(log)
            // Not of this terminal's group: an interrupt ends them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        child.with_context(|| format!("cannot start {}", self.name))
    }
}

/// An address that nobody listens on now. A scheduler that is started again has to be found where it
/// was, so that it cannot take any free port each time.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free on this machine")?;
    Ok(listener.local_addr().context("no port is free on this machine")?.to_string())
}

/// Keeps one process running.
struct Keeper {
    role: Role,
    restarts: bool,
    stopping: watch::Receiver<bool>,
    news: mpsc::UnboundedSender<News>,
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            let name = self.role.name.clone();
            let mut child = match self.role.start() {
                Ok(child) => child,
                Err(error) => return self.ended(format!("{error:#}")),
            };
            let pid = child.id().unwrap_or_default();
            let _ = self.news.send(News::Started { name, pid });
            let status = tokio::select! {
                status = child.wait() => status,
                () = stopped(&mut self.stopping) => return end(&mut child).await,
            };
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            self.ended(format!("{how}; its log is {}", self.role.log.display()));
            if !self.restarts {
                return;
            }
            tokio::select! {
                () = sleep(RESTART_AFTER) => {}
                () = stopped(&mut self.stopping) => return,
            }
        }
    }

    fn ended(&self, how: String) {
        let _ = self.news.send(News::Ended { name: self.role.name.clone(), how });
    }
}

/// Waits until the cluster is to end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender it ends, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Ends a process: it is asked to, and killed if it takes too long.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if timeout(END_WITHIN, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Where a scheduler takes links, once it has said so.
async fn links(file: &Path) -> Result<String> {
    let there = async {
        while !file.exists() {
            sleep(LOOK_EVERY).await;
        }
    };
    let waited = timeout(LISTENS_WITHIN, there).await;
    waited.with_context(|| {
        format!(
            "the scheduler has not said where it listens: see {}",
            file.with_extension("log").display()
        )
    })?;
    let ports = read(file)?;
    let links = ports["links"].as_str().context("the scheduler's ports file names no links")?;
    Ok(links.to_owned())
}

fn read(file: &Path) -> Result<serde_json::Value> {
    let cannot = || format!("cannot read {}", file.display());
    let text = std::fs::read_to_string(file).with_context(cannot)?;
    serde_json::from_str(&text).with_context(cannot)
}
