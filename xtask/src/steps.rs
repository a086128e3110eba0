//! The steps of `cargo xtask test`, in the order in which a mistake shows soonest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use crate::command;
use crate::instructions;
use crate::python::Environment;
use crate::tidy;
use crate::workspace::{Workspace, cargo};

/// One step; the order here is the order they run in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Step {
    /// What no compiler checks
    Tidy,
    /// The formatting of every crate
    Fmt,
    /// Lints, warnings fatal
    Clippy,
    /// The environment of the tests: a Python with its packages, perf_analyzer
    Python,
    /// Unit, property, whole-system and doc tests
    Test,
    /// The exchange between threads, interleaving by interleaving
    Loom,
    /// What the scheduler's decisions cost, in instructions
    Instructions,
    /// The server against real clients
    Clients,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What to do when the step fails.
    fn remedy(self) -> &'static str {
        match self {
            Step::Tidy => "fix the lines above",
            Step::Fmt => "run `cargo fmt --all` (`rustup component add rustfmt` if it is missing)",
            Step::Clippy => {
                "fix the warnings above (`rustup component add clippy` if it is missing)"
            }
            Step::Python => {
                "see above; `rm -r target/python` starts over, and the network is needed once"
            }
            Step::Test => "run the failing test alone with `cargo test -p CRATE NAME`",
            Step::Loom => {
                "see crates/exchange/src/lib.rs; `LOOM_LOG=trace LOOM_LOCATION=1` shows the steps"
            }
            Step::Instructions => {
                "see where with callgrind_annotate target/callgrind.out; if it is worth it, \
                 `cargo xtask instructions --write` makes it the figure, and the commit says why"
            }
            Step::Clients => {
                "run the failing test alone with `cargo xtask test --only clients -- -k NAME`"
            }
        }
    }

    fn run(self, workspace: &Workspace, pytest: &[String]) -> Result<()> {
        match self {
            Step::Tidy => tidy::run(workspace),
            Step::Fmt => command::run(in_root(workspace).args(["fmt", "--all", "--check"])),
            Step::Clippy => command::run(in_root(workspace).args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])),
            Step::Python => Environment::prepare(workspace).map(drop),
            Step::Test => {
                let environment = Environment::prepare(workspace)?;
                command::run(
                    in_root(workspace).args(["test", "--workspace"]).envs(environment.variables()),
                )
            }
            Step::Loom => command::run(&mut loom(workspace)),
            Step::Instructions => instructions::run(workspace, false),
            Step::Clients => clients(workspace, pytest),
        }
    }
}

/// Runs the steps named in `only`, or all.
pub(crate) fn run(workspace: &Workspace, only: &[Step], pytest: &[String]) -> Result<()> {
    let steps = chosen(only);
    for (index, step) in steps.iter().enumerate() {
        let start = Instant::now();
        eprintln!("\n== {} ({} of {})", step.name(), index + 1, steps.len());
        step.run(workspace, pytest).map_err(|error| {
            anyhow!("{error:#}\nstep {} failed: {}", step.name(), step.remedy())
        })?;
        // The last runner's own summary stays the last line.
        if index + 1 < steps.len() {
            eprintln!("-- {} passed in {:.1} s", step.name(), start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// The steps of `only` in their order, or all.
fn chosen(only: &[Step]) -> Vec<Step> {
    let wanted = |step: &Step| only.is_empty() || only.contains(step);
    Step::value_variants().iter().copied().filter(wanted).collect()
}

/// The tests under loom: built with its flag, and so beside everything else.
fn loom(workspace: &Workspace) -> Command {
    let mut command = in_root(workspace);
    command
        .args(["test", "--package", "symphony-exchange", "--test", "loom", "--target-dir"])
        .arg(workspace.target.join("loom"))
        .env("RUSTFLAGS", "--cfg loom");
    command
}

/// Runs the clients against the binary of the same profile that `cargo test` built.
fn clients(workspace: &Workspace, pytest: &[String]) -> Result<()> {
    let environment = Environment::prepare(workspace)?;
    command::run(in_root(workspace).args(["build", "--bin", "symphony"]))?;
    command::run(
        Command::new(environment.python())
            .current_dir(workspace.root.join("tests/clients"))
            .args(["-m", "pytest"])
            .args(pytest)
            .envs(environment.variables())
            .env("SYMPHONY_TEST_BINARY", workspace.target.join("debug/symphony")),
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
        assert_eq!(chosen(&[Step::Fmt, Step::Tidy]), [Step::Tidy, Step::Fmt]);
        assert_eq!(chosen(&[]).len(), 8);
    }
}
