//! Interpreters, and virtual environments for the requirements of models: each made once, by whoever
//! needs it first.

use crate::error::PythonError;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long to make an environment may take: it downloads what it lacks.
const INSTALL_MAX: Duration = Duration::from_secs(1800);
/// So many lines of pip are shown when it fails.
const LINES: usize = 12;
/// Stands in an environment that is whole.
const WHOLE: &str = "symphony.whole";

/// A Python interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    path: PathBuf,
    /// It is of an environment that was made for a model, and sees no packages but its own.
    is_closed: bool,
}

impl Interpreter {
    /// An interpreter of the machine, with the packages that it has.
    #[must_use]
    pub fn installed(path: impl Into<PathBuf>) -> Interpreter {
        Interpreter { path: path.into(), is_closed: false }
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // Python files beside the model's would be written into its repository.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        if self.is_closed {
            command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").env("PYTHONNOUSERSITE", "1");
        }
        command
    }
}

/// Where the environments of models are.
#[derive(Clone, Debug)]
pub struct Environments {
    python: Interpreter,
    cache: PathBuf,
}

impl Environments {
    /// Environments of this interpreter, kept in a directory over the lives of servers.
    #[must_use]
    pub fn new(python: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Environments {
        Environments { python: Interpreter::installed(python), cache: cache.into() }
    }

    /// The interpreter of an environment that has what a `requirements.txt` asks for, and numpy. It is
    /// made if no earlier call, here or in another process, has made it.
    ///
    /// # Errors
    /// What Python or pip said last. Nothing is left of what was made.
    pub fn prepare(&self, requirements: &Path) -> Result<Interpreter, PythonError> {
        let refused = |problem: String| PythonError::Environment {
            requirements: requirements.to_owned(),
            problem,
        };
        let key = self.key(requirements).map_err(refused)?;
        let folder = self.cache.join(&key);
        let made = || -> io::Result<Result<(), String>> {
            fs::create_dir_all(&self.cache)?;
            let lock = File::create(self.cache.join(format!("{key}.lock")))?;
            lock.lock()?;
            if folder.join(WHOLE).exists() {
                return Ok(Ok(()));
            }
            self.make(&folder, requirements)
        };
        made()
            .map_err(|error| refused(format!("{}: {error}", folder.display())))?
            .map_err(refused)?;
        Ok(Interpreter { path: folder.join("bin/python"), is_closed: true })
    }

    /// What an environment depends on: the interpreter, its version, and the text of the file.
    fn key(&self, requirements: &Path) -> Result<String, String> {
        let text = fs::read(requirements).map_err(|error| error.to_string())?;
        let mut command = self.python.command();
        command.args(["-c", "import sys; print(sys.executable, sys.version)"]);
        let version = command.output().map_err(|error| self.not_started(&error.to_string()))?;
        if !version.status.success() {
            return Err(self.not_started(&String::from_utf8_lossy(&version.stderr)));
        }
        let mut hasher = Sha256::new();
        for part in [&version.stdout[..], &text] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn not_started(&self, problem: &str) -> String {
        format!("{} does not start: {problem}", self.python.path.display())
    }

    /// Makes an environment. The caller holds its lock.
    fn make(&self, folder: &Path, requirements: &Path) -> io::Result<Result<(), String>> {
        // Of one whose maker was killed.
        remove(folder)?;
        tracing::info!(
            "making a Python environment for {} in {}",
            requirements.display(),
            folder.display()
        );
        if let Err(problem) = self.install(folder, requirements) {
            remove(folder)?;
            return Ok(Err(problem));
        }
        fs::write(folder.join(WHOLE), "")?;
        Ok(Ok(()))
    }

    fn install(&self, folder: &Path, requirements: &Path) -> Result<(), String> {
        let until = Instant::now() + INSTALL_MAX;
        let mut venv = Interpreter { is_closed: true, ..self.python.clone() }.command();
        venv.args(["-m", "venv", "--clear"]).arg(folder);
        run(&mut venv, until).map_err(|problem| {
            format!(
                "python -m venv failed (on Debian it needs the package python3-venv): {problem}"
            )
        })?;
        let own = Interpreter { path: folder.join("bin/python"), is_closed: true };
        let pip = || {
            let mut pip = own.command();
            pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
            pip
        };
        let mut install = pip();
        let file = fs::canonicalize(requirements).map_err(|error| error.to_string())?;
        // Paths in the file are relative to it.
        install.current_dir(file.parent().unwrap_or(Path::new("/")));
        run(install.arg("-r").arg(&file), until)
            .map_err(|problem| format!("pip failed: {problem}"))?;
        let mut has_numpy = own.command();
        if run(has_numpy.args(["-c", "import numpy"]), until).is_ok() {
            return Ok(());
        }
        run(pip().arg("numpy"), until).map_err(|problem| format!("pip failed: {problem}"))
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs a command to its end. A failure comes with its last lines.
fn run(command: &mut Command, until: Instant) -> Result<(), String> {
    let (reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let other = writer.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(writer).stderr(other).process_group(0);
    let child = command.spawn();
    // The command has the pipe's other end until then.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.map_err(|error| error.to_string())?;
    let lines = thread::spawn(move || last_lines(reader));
    let ended = wait(&mut child, until);
    let lines = lines.join().unwrap_or_default();
    match ended {
        Ok(None) => Err(format!("it did not end in time:\n{lines}")),
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("{status}:\n{lines}")),
        Err(error) => Err(error.to_string()),
    }
}

fn last_lines(reader: io::PipeReader) -> String {
    let mut last = VecDeque::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        tracing::debug!("{line}");
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(format!("  {line}"));
    }
    Vec::from(last).join("\n")
}

/// Waits for a child, which is killed with all of its group when it is too late.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
