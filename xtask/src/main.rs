//! `cargo xtask`: everything that CI and a newcomer run, as one program.
//!
//! It checks the repository and prepares the environment of its tests. It knows nothing about
//! serving: the tests that start the server are in `crates/*/tests` and `tests/clients`.

mod bounded;
mod build_times;
mod command;
mod debian;
mod etcd;
mod files;
mod house;
mod instructions;
mod perf_analyzer;
mod pictures;
mod processes;
mod python;
mod source;
mod steps;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::python::Environment;
use crate::steps::{Limits, TestStep};
use crate::workspace::{OWN_ROOT, Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks the repository and runs its tests")]
struct XtaskArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check and test, in order, stopping at the first that fails
    Test {
        /// Run only these steps
        #[arg(long, value_enum, value_delimiter = ',', value_name = "STEPS")]
        only: Vec<TestStep>,
        /// Seconds after which a test binary is killed
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        limit_s: u64,
        /// Arguments for pytest in the steps `clients` and `cluster`
        #[arg(last = true)]
        pytest: Vec<String>,
    },
    /// Check what no compiler checks: imports between crates and files, licences, module docs, file
    /// sizes, links, the width of documents
    Tidy,
    /// Count the instructions that the scheduler's decisions take and compare them with the
    /// figures in crates/core/instructions.toml
    Instructions {
        /// Make the counts the figures for this compiler
        #[arg(long)]
        write: bool,
    },
    /// Make the pictures of the documents anew, by the commands in docs/plots/pictures.toml
    Pictures {
        /// Change none; fail if one is not what its command makes
        #[arg(long)]
        check: bool,
    },
    /// Print figures about the sources: sizes of functions and files, circles of imports, and names
    /// that several types share
    House {
        /// The checkout to measure instead of this one
        #[arg(long, value_name = "DIR", default_value = OWN_ROOT, hide_default_value = true)]
        root: PathBuf,
    },
    /// Measure how long the server takes to build: from nothing, and after a change of one line in
    /// some crates. It builds a copy of the sources, which it removes afterwards
    BuildTimes {
        /// The checkout to measure instead of this one
        #[arg(long, value_name = "DIR", default_value = OWN_ROOT, hide_default_value = true)]
        root: PathBuf,
        /// Build in the release profile
        #[arg(long)]
        release: bool,
    },
    /// Run a test binary, and kill it with everything that it started after a limit
    #[command(hide = true)]
    Bounded {
        #[arg(long, value_name = "SECONDS")]
        limit_s: u64,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make the Python environment of the tests under target/ and print how to use it
    Python,
}

fn main() -> ExitCode {
    match run(XtaskArgs::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test { only, limit_s, pytest } => {
            let limits = Limits::of_test_binaries(Duration::from_secs(limit_s));
            steps::run(&Workspace::load()?, &only, &limits, &pytest)?;
        }
        Task::Tidy => tidy::run(&Workspace::load()?)?,
        Task::Instructions { write } => instructions::run(&Workspace::load()?, write)?,
        Task::Pictures { check } => pictures::run(&Workspace::load()?, check)?,
        Task::House { root } => house::run(&Workspace::load_own(root)?)?,
        Task::BuildTimes { root, release } => {
            build_times::run(&Workspace::load_own(root)?, release)?;
        }
        Task::Python => print_exports(&Environment::prepare(&Workspace::load()?)?),
        Task::Bounded { limit_s, program, arguments } => {
            let mut command = Command::new(program);
            let limit = Duration::from_secs(limit_s);
            return bounded::run_tests(command.args(arguments), limit, io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the environment as shell lines, for running `cargo test` or pytest by hand.
fn print_exports(environment: &Environment) {
    for (name, value) in environment.variables() {
        println!("export {name}='{}'", value.display());
    }
}
