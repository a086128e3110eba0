//! Runs programs that may hang. A program that exceeds its limit is killed with every process that
//! it started, and the error says what it was still doing.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{not_started, shown};
use crate::processes::kill_family;

/// How long a program may take to list its tests, and how long to wait for the last output.
const SOON: Duration = Duration::from_secs(10);

/// Runs `command` with our own output. Fails when it does not succeed within `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let child = command.spawn().map_err(|error| not_started(command, &error))?;
    match wait(child, limit)? {
        End::Exited(status) if status.success() => Ok(()),
        End::Exited(status) => bail!("{} ({status})", shown(command)),
        End::Killed(processes) => bail!("{}", killed(command, limit, &processes)),
    }
}

/// Runs a test binary like [`run`], copies its output to `to`, and returns its exit code. When it
/// is killed, the error names the tests that had not ended.
pub(crate) fn run_tests(
    command: &mut Command,
    limit: Duration,
    to: impl Write + Send + 'static,
) -> Result<ExitCode> {
    command.stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_started(command, &error))?;
    let lines = relay(child.stdout.take(), to);
    let end = wait(child, limit)?;
    let ended = tests_ended(until(&lines, Instant::now() + SOON));
    match end {
        End::Exited(status) => match status.code().map(u8::try_from) {
            Some(Ok(code)) => Ok(code.into()),
            _ => bail!("{} ({status})", shown(command)),
        },
        End::Killed(processes) => {
            let mut hung = list_tests(command)?;
            hung.retain(|name| !ended.contains(name));
            let killed = killed(command, limit, &processes);
            match hung.as_slice() {
                [] => bail!("{killed}\nall of its tests had ended"),
                hung => bail!("{killed}\ntests that had not ended: {}", hung.join(", ")),
            }
        }
    }
}

/// How a program ended.
enum End {
    Exited(ExitStatus),
    /// Its limit had passed. Describes the program and the processes that it started.
    Killed(Vec<String>),
}

fn wait(mut child: Child, limit: Duration) -> Result<End> {
    let pid = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    match ended.recv_timeout(limit) {
        Ok(status) => Ok(End::Exited(status.context("cannot wait for a program")?)),
        Err(RecvTimeoutError::Timeout) => Ok(End::Killed(kill_family(pid))),
        Err(RecvTimeoutError::Disconnected) => {
            bail!("the thread that waits for process {pid} ended")
        }
    }
}

fn killed(command: &Command, limit: Duration, processes: &[String]) -> String {
    let (command, limit_s) = (shown(command), limit.as_secs());
    format!("{command} did not end within {limit_s} s and was killed:\n{}", processes.join("\n"))
}

/// Copies a program's output to `to` on a thread of its own, and returns each line.
fn relay(output: Option<ChildStdout>, mut to: impl Write + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let Some(mut output) = output.map(BufReader::new) else { return };
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = to.write_all(&line).and_then(|()| to.flush());
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
    lines
}

/// The lines that arrive until the output is closed or `last`, because a process that outlives the
/// test binary may keep the output open.
fn until(lines: &Receiver<String>, last: Instant) -> impl Iterator<Item = String> {
    let next = move || lines.recv_timeout(last.saturating_duration_since(Instant::now())).ok();
    std::iter::from_fn(next)
}

/// The names of the tests whose result is in the output of Rust's test harness.
fn tests_ended(lines: impl Iterator<Item = String>) -> BTreeSet<String> {
    let name = |line: String| {
        let (name, _result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        Some(name.trim_end_matches(" - should panic").to_owned())
    };
    lines.filter_map(name).collect()
}

/// The tests that the binary runs with these arguments.
fn list_tests(command: &Command) -> Result<Vec<String>> {
    let mut list = Command::new(command.get_program());
    list.args(command.get_args()).args(["--list", "--format", "terse"]);
    list.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = list.spawn().map_err(|error| not_started(&list, &error))?;
    let lines = relay(child.stdout.take(), io::sink());
    wait(child, SOON)?;
    let lines = until(&lines, Instant::now() + SOON);
    Ok(lines.filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);

    /// A program that behaves like a test binary with the tests `a`, `b` and `c`, of which `b`
    /// runs `script`.
    fn binary(script: &str) -> Command {
        let mut command = Command::new("sh");
        let list = "printf 'a: test\nb: test\nc: test\n'";
        let run = format!("echo 'test a ... ok'; {script}; echo 'test c - should panic ... ok'");
        command.args(["-c", &format!("case $1 in --list) {list};; *) {run};; esac"), "binary"]);
        command
    }

    #[test]
    fn a_program_that_ends_is_let_alone() {
        assert!(run(&mut binary("true"), LONG).is_ok());
        let error = run(&mut binary("exit 3"), LONG).unwrap_err().to_string();
        assert!(error.ends_with("(exit status: 3)"), "{error}");
        assert_eq!(run_tests(&mut binary("true"), LONG, io::sink()).unwrap(), ExitCode::SUCCESS);
        assert_eq!(run_tests(&mut binary("exit 3"), LONG, io::sink()).unwrap(), ExitCode::from(3));
        let error =
            run_tests(&mut binary("kill -SEGV $$"), LONG, io::sink()).unwrap_err().to_string();
        assert!(error.contains("signal: 11"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > '{}'; wait", file.display());
        let error = run(&mut binary(&script), LIMIT).unwrap_err().to_string();
        assert!(error.contains("did not end within 0 s and was killed"), "{error}");
        assert!(error.contains("(sleep): threads sleep"), "{error}");
        let pid = std::fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // A killed process exists until its new parent has collected it.
        let is_gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        let start = Instant::now();
        while !is_gone() {
            assert!(start.elapsed() < LONG, "{stat} is still there");
            thread::yield_now();
        }
    }

    #[test]
    fn the_tests_that_had_not_ended_are_named() {
        for script in ["sleep 600", "printf 'test b ... '; sleep 600"] {
            let error = run_tests(&mut binary(script), LIMIT, io::sink()).unwrap_err().to_string();
            assert!(error.ends_with("tests that had not ended: b, c"), "{error}");
        }
    }
}
