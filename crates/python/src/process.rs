//! One life of a Python process: from its start until it has ended.

use crate::channel::{Channel, NoAnswer};
use crate::config::PythonConfig;
use crate::error::LastLines;
use crate::lines::Lines;
use crate::memory::{InputArenas, OutputArenas};
use crate::message::{Ask, Ready, Said};
use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the process may take to end once it was told to, with all that it started.
const END: Duration = Duration::from_secs(5);
/// How long it may take to print where it is, and to print nothing before that counts as all.
const WHERE: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(200);

/// What limits the threads of the libraries that numpy and torch compute with.
const THREADS: [&str; 4] =
    ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"];

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Which one of its worker's it is.
    pub(crate) life: u64,
    /// The guard: it ends when the process that runs the models has, with all that this started.
    guard: Child,
    channel: Channel,
    outputs: OutputArenas,
    /// So many arenas for inputs it knows.
    inputs_known: usize,
    lines: Lines,
    /// How many lines it had printed before what it does now.
    lines_before: usize,
    about: Ready,
}

impl Process {
    /// Starts one and waits until it answers. `at_end` is called when it has ended.
    ///
    /// # Errors
    /// What is wrong, with the last lines that it printed.
    pub(crate) fn start(
        config: &PythonConfig,
        script: &Path,
        life: u64,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Result<Process, String> {
        let told = |error: io::Error| error.to_string();
        let (own, its) = UnixStream::pair().map_err(told)?;
        let mut command = command(config, script);
        command.stdin(OwnedFd::from(its));
        let guard = command.spawn();
        // It has the other end of the socket until then.
        drop(command);
        let mut process = Process {
            life,
            guard: guard.map_err(told)?,
            channel: Channel::new(own),
            outputs: OutputArenas::default(),
            inputs_known: 0,
            lines: Lines::default(),
            lines_before: 0,
            about: Ready { process: 0, python: String::new(), numpy: String::new() },
        };
        if let Some(stdout) = process.guard.stdout.take() {
            process.lines.read("stdout", stdout, at_end).map_err(told)?;
        }
        if let Some(stderr) = process.guard.stderr.take() {
            process.lines.read("stderr", stderr, || ()).map_err(told)?;
        }
        match process.answer(config.bounds.start) {
            Ok(Said::Ready(ready)) => process.about = ready,
            Ok(other) => return Err(format!("its first message is {other:?}")),
            Err(NoAnswer::Late) => {
                let bound = config.bounds.start;
                return Err(format!("it did not start within {bound:?}{}", process.where_it_is()));
            }
            Err(_) => return Err(format!("it {}{}", process.end(), process.lines())),
        }
        let Ready { process: number, python, numpy } = &process.about;
        tracing::debug!(process = number, "Python {python} with numpy {numpy} runs");
        Ok(process)
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.guard.try_wait(), Ok(None))
    }

    /// The guard, below which all of it is.
    pub(crate) fn root(&self) -> Option<Pid> {
        Pid::from_raw(self.guard.id().cast_signed())
    }

    /// Asks something and waits for the answer.
    pub(crate) fn ask(&mut self, ask: &Ask<'_>, bound: Duration) -> Result<Said, NoAnswer> {
        self.lines_before = self.lines.count();
        self.channel.send(ask, None, bound)?;
        self.answer(bound)
    }

    /// Passes it the arenas for inputs that it does not know.
    pub(crate) fn pass(&mut self, inputs: &InputArenas, bound: Duration) -> Result<(), NoAnswer> {
        for (bytes, descriptor) in inputs.after(self.inputs_known)? {
            self.channel.send(&Ask::Arena { bytes }, Some(descriptor), bound)?;
            self.inputs_known += 1;
        }
        Ok(())
    }

    /// Where its outputs lie.
    pub(crate) fn outputs(&self) -> &OutputArenas {
        &self.outputs
    }

    /// What it printed last, since it was asked.
    pub(crate) fn lines(&self) -> LastLines {
        self.lines.since(self.lines_before)
    }

    /// Has it print where its threads are; what it printed last.
    pub(crate) fn where_it_is(&mut self) -> LastLines {
        let worker = Pid::from_raw(self.about.process).filter(|_| self.is_running());
        if let Some(worker) = worker {
            // Our file has Python answer to this signal, whatever the script does.
            let _ = rustix::process::kill_process(worker, Signal::XCPU);
            self.lines.settled(QUIET, WHERE);
        }
        self.end();
        self.lines()
    }

    /// Ends it, if it has not, with all that it started. Returns how it ended, in words.
    pub(crate) fn end(&mut self) -> String {
        let own = self.wait(Duration::ZERO);
        let status = own.or_else(|| {
            // The guard sees it, and ends everything below it.
            self.channel.close();
            self.wait(END)
        });
        let status = status.or_else(|| self.kill());
        self.lines.ended(END);
        status.map_or_else(|| "could not be ended".to_owned(), how)
    }

    /// The same for one that has closed its socket, which is about to end by itself.
    pub(crate) fn ended(&mut self) -> String {
        self.wait(END);
        self.end()
    }

    /// Tells it to end and gives it time to.
    pub(crate) fn stop(mut self, bound: Duration) {
        if self.channel.send(&Ask::Stop, None, bound).is_ok() {
            self.wait(bound);
        }
        self.end();
    }

    fn answer(&mut self, bound: Duration) -> Result<Said, NoAnswer> {
        let answered = self.channel.receive(bound)?;
        for length in answered.arenas {
            let descriptor = self.channel.take_descriptor();
            let descriptor = descriptor.ok_or_else(|| garbled("an arena without a descriptor"))?;
            self.outputs.add(&descriptor, length).map_err(garbled)?;
        }
        Ok(answered.said)
    }

    fn wait(&mut self, bound: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + bound;
        loop {
            match self.guard.try_wait() {
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }

    /// The guard does not get on: it is killed, and what it guards.
    fn kill(&mut self) -> Option<ExitStatus> {
        let root = self.root()?;
        for process in crate::usage::family(root).into_iter().rev() {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        self.wait(END)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn garbled(problem: impl ToString) -> NoAnswer {
    NoAnswer::Garbled(problem.to_string())
}

fn command(config: &PythonConfig, script: &Path) -> Command {
    let mut command = config.python.command();
    command.arg(script).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in THREADS {
        command.env(name, config.threads.max(1).to_string());
    }
    command.envs(config.variables.iter().map(|(name, value)| (name, value)));
    command
}

/// How a process ended, behind "it".
fn how(status: ExitStatus) -> String {
    let Some(number) = status.signal() else {
        return format!("exited with code {}", status.code().unwrap_or_default());
    };
    let name = match Signal::from_named_raw(number) {
        Some(Signal::KILL) => " (SIGKILL), as the system does when memory runs out",
        Some(Signal::SEGV) => " (SIGSEGV), a fault in native code",
        Some(Signal::ABORT) => " (SIGABRT)",
        Some(Signal::BUS) => " (SIGBUS)",
        Some(Signal::FPE) => " (SIGFPE)",
        Some(Signal::ILL) => " (SIGILL): a library was built for another processor",
        Some(Signal::TERM) => " (SIGTERM)",
        _ => "",
    };
    format!("was killed by signal {number}{name}")
}
