//! Runs other programs. An error names the program and says what to do about it.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Runs `command` with our own output. Fails when it does not start or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if !status.success() {
        bail!("{} ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if !output.status.success() {
        bail!("{} ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("the output of {} is not text", shown(command)))
}

/// Whether `command` starts and succeeds. Its output is hidden.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line, as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

pub(crate) fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        anyhow!("`{program}` is not installed: {}", remedy(&program))
    } else {
        anyhow!("`{program}` could not be started: {error}")
    }
}

/// How to install a missing program.
fn remedy(program: &str) -> &'static str {
    match program {
        "dpkg-deb" => "install Debian's package `dpkg`",
        "apt-get" => "install Debian's package `apt`",
        name if name.contains("python") => "install Debian's packages `python3` and `python3-venv`",
        _ => "install it and make sure it is in PATH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = run(Command::new("no-such-python").arg("-V")).unwrap_err().to_string();
        assert!(error.contains("`no-such-python` is not installed"), "{error}");
        assert!(error.contains("python3-venv"), "{error}");
    }

    #[test]
    fn a_failure_shows_the_command_line() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.starts_with("sh -c exit 3 ("), "{error}");
        assert!(!succeeds(Command::new("sh").args(["-c", "exit 3"])));
        assert_eq!(output(Command::new("sh").args(["-c", "echo hi"])).unwrap(), "hi\n");
    }
}
