//! The steps of `cargo xtask test`, in the order in which they find a mistake soonest.

use std::fs::File;
use std::io::{self, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::bounded;
use crate::command;
use crate::instructions;
use crate::processes::kill_family;
use crate::python::Environment;
use crate::tidy;
use crate::workspace::{Workspace, cargo};

/// The limit of all tests of one folder in Python, in limits of one test binary.
const CLIENTS_PER_BINARY: u32 = 6;

/// A step. The steps run in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TestStep {
    /// What no compiler checks
    Tidy,
    /// The formatting of every crate
    Fmt,
    /// Lints, warnings fatal
    Clippy,
    /// The documentation of every crate: links that lead nowhere are fatal
    Docs,
    /// The environment of the tests: a Python with its packages, perf_analyzer, etcd
    Python,
    /// Unit, property, whole-system and doc tests
    Test,
    /// The exchange between threads, in every interleaving
    Loom,
    /// What the scheduler's decisions cost, in instructions
    Instructions,
    /// The server against real clients
    Clients,
    /// Clusters of processes that are killed, stopped and cut off, and what containers are started
    /// with
    Cluster,
}

impl TestStep {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What to do when a step fails.
    fn remedy(self) -> &'static str {
        match self {
            TestStep::Tidy => "fix the lines above",
            TestStep::Fmt => {
                "run `cargo fmt --all` (`rustup component add rustfmt` if it is missing)"
            }
            TestStep::Clippy => {
                "fix the warnings above (`rustup component add clippy` if it is missing)"
            }
            TestStep::Docs => "fix the documentation comments above",
            TestStep::Python => {
                "see above; `rm -r target/python` starts over, and the network is needed once"
            }
            TestStep::Test => "run the failing test alone with `cargo test -p CRATE NAME`",
            TestStep::Loom => {
                "see crates/exchange/src/lib.rs; `LOOM_LOG=trace LOOM_LOCATION=1` shows the steps"
            }
            TestStep::Instructions => {
                "callgrind_annotate target/callgrind.out shows where; if the cost is justified, \
                 run `cargo xtask instructions --write` and say why in the commit"
            }
            TestStep::Clients => {
                "run the failing test alone with `cargo xtask test --only clients -- -k NAME`"
            }
            TestStep::Cluster => {
                "repeat a failed run with `cargo xtask test --only cluster -- -k NAME --seed SEED`"
            }
        }
    }

    fn run(self, workspace: &Workspace, limits: &Limits, pytest: &[String]) -> Result<()> {
        match self {
            TestStep::Tidy => tidy::run(workspace),
            TestStep::Fmt => command::run(in_root(workspace).args(["fmt", "--all", "--check"])),
            TestStep::Clippy => command::run(in_root(workspace).args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])),
            TestStep::Docs => {
                let mut doc = in_root(workspace);
                doc.args(["doc", "--workspace", "--no-deps", "--quiet"]);
                command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
            }
            TestStep::Python => Environment::prepare(workspace).map(drop),
            TestStep::Test => {
                let environment = Environment::prepare(workspace)?;
                let mut tests = cargo_test(workspace, limits)?;
                command::run(tests.arg("--workspace").envs(environment.variables()))
            }
            TestStep::Loom => command::run(&mut loom(workspace, limits)?),
            TestStep::Instructions => instructions::run(workspace, false),
            TestStep::Clients => python_tests(workspace, "tests/clients", limits.clients, pytest),
            TestStep::Cluster => python_tests(workspace, "tests/cluster", limits.clients, pytest),
        }
    }
}

/// How long tests may take. A test that hangs fails instead of blocking everything behind it.
pub(crate) struct Limits {
    /// The limit of one test binary. Cargo runs them one after the other.
    test_binary: Duration,
    /// The limit of all tests of one folder in Python. Each test has its own limit in `pytest.ini`,
    /// but that only works while Python still runs.
    clients: Duration,
}

impl Limits {
    /// The limits when a test binary may take `limit`.
    pub(crate) fn of_test_binaries(limit: Duration) -> Self {
        Self { test_binary: limit, clients: CLIENTS_PER_BINARY * limit }
    }
}

/// Runs the steps named in `only`, or all.
pub(crate) fn run(
    workspace: &Workspace,
    only: &[TestStep],
    limits: &Limits,
    pytest: &[String],
) -> Result<()> {
    let steps = chosen(only);
    // Packages arrive while the compiler works.
    let prepares = steps.contains(&TestStep::Python) && steps.contains(&TestStep::Clippy);
    let preparing = prepares.then(|| Beside::start(TestStep::Python, &[])).transpose()?;
    // Clients wait for servers most of the time.
    let joins = steps.contains(&TestStep::Test) && steps.contains(&TestStep::Clients);
    let (mut preparing, mut clients) = (preparing, None);
    for (index, step) in steps.iter().enumerate() {
        let start = Instant::now();
        eprintln!("\n== {} ({} of {})", step.name(), index + 1, steps.len());
        if *step == TestStep::Test && joins {
            build_tests(workspace)?;
            clients = Some(Beside::start(TestStep::Clients, pytest)?);
        }
        let beside = match step {
            TestStep::Python => preparing.take(),
            TestStep::Clients => clients.take(),
            _ => None,
        };
        let done = match beside {
            Some(beside) => beside.end(),
            None => step.run(workspace, limits, pytest),
        };
        done.map_err(|error| anyhow!("{error:#}\nstep {} failed: {}", step.name(), step.remedy()))?;
        // The last line stays the summary of the last runner.
        if index + 1 < steps.len() {
            eprintln!("-- {} passed in {:.1} s", step.name(), start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// A step that another run of this program does, beside the steps before it.
struct Beside {
    child: Child,
    output: File,
}

impl Beside {
    fn start(step: TestStep, pytest: &[String]) -> Result<Beside> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let output = tempfile::tempfile().context("cannot keep the output of a step")?;
        let both = output.try_clone().context("cannot keep the output of a step")?;
        let mut command = Command::new(program);
        command.args(["test", "--only", &step.name()]);
        if !pytest.is_empty() {
            command.arg("--").args(pytest);
        }
        command.stdin(Stdio::null()).stderr(both);
        command.stdout(output.try_clone().context("cannot keep the output of a step")?);
        let child = command.spawn().map_err(|error| command::not_started(&command, &error))?;
        Ok(Beside { child, output })
    }

    /// Waits for it, and shows what it said.
    fn end(mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait for a step")?;
        self.output.rewind().context("cannot read the output of a step")?;
        io::copy(&mut self.output, &mut io::stderr()).context("cannot show it")?;
        if status.success() { Ok(()) } else { bail!("{status}") }
    }
}

impl Drop for Beside {
    /// A step before it has failed.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_family(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// Compiles all tests.
fn build_tests(workspace: &Workspace) -> Result<()> {
    command::run(in_root(workspace).args(["test", "--workspace", "--no-run"]))
}

/// The steps of `only` in their order, or all.
fn chosen(only: &[TestStep]) -> Vec<TestStep> {
    let wanted = |step: &TestStep| only.is_empty() || only.contains(step);
    TestStep::value_variants().iter().copied().filter(wanted).collect()
}

/// `cargo test` with this program as the runner of each test binary, because cargo has no limit of
/// its own.
fn cargo_test(workspace: &Workspace, limits: &Limits) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let limit_s = limits.test_binary.as_secs();
    let mut command = in_root(workspace);
    command.arg("test").arg("--config").arg(format!(
        "target.'cfg(all())'.runner = ['{}', 'bounded', '--limit-s', '{limit_s}']",
        program.display()
    ));
    Ok(command)
}

/// The tests under loom. They are built with its flag in a directory of their own.
fn loom(workspace: &Workspace, limits: &Limits) -> Result<Command> {
    let mut command = cargo_test(workspace, limits)?;
    command
        .args(["--package", "symphony-exchange", "--test", "loom", "--target-dir"])
        .arg(workspace.target.join("loom"))
        .env("RUSTFLAGS", "--cfg loom");
    Ok(command)
}

/// Runs the tests of a folder against the binary of the profile in which `cargo test` builds.
fn python_tests(
    workspace: &Workspace,
    folder: &str,
    limit: Duration,
    pytest: &[String],
) -> Result<()> {
    let environment = Environment::prepare(workspace)?;
    // As part of a test: `cargo build` gives third-party crates other features than `cargo test`
    // does, and would compile most of them a second time.
    command::run(in_root(workspace).args([
        "test",
        "--workspace",
        "--no-run",
        "--test",
        "commands",
    ]))?;
    bounded::run(
        Command::new(environment.python())
            .current_dir(workspace.root.join(folder))
            .args(["-m", "pytest"])
            .args(pytest)
            .envs(environment.variables())
            .env("SYMPHONY_TEST_BINARY", workspace.target.join("debug/symphony")),
        limit,
    )
}

fn in_root(workspace: &Workspace) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_run_in_their_own_order() {
        assert_eq!(chosen(&[TestStep::Fmt, TestStep::Tidy]), [TestStep::Tidy, TestStep::Fmt]);
        assert_eq!(chosen(&[]).len(), 10);
    }
}
