//! `cargo xtask`: everything that CI and a newcomer run, as one program.
//!
//! It knows how to check the repository and how to make the environment its tests need. It knows
//! nothing about serving: the tests that start the server are in `crates/*/tests` and `tests/clients`.

mod command;
mod instructions;
mod perf_analyzer;
mod pictures;
mod python;
mod steps;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::python::Environment;
use crate::steps::Step;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks the repository and runs its tests")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check and test, in order, stopping at the first that fails
    Test {
        /// Run these steps only
        #[arg(long, value_enum, value_delimiter = ',', value_name = "STEPS")]
        only: Vec<Step>,
        /// Arguments for pytest in the `clients` step
        #[arg(last = true)]
        pytest: Vec<String>,
    },
    /// Check what no compiler checks: crate arrows, licences, module docs, file sizes, links,
    /// the width of documents
    Tidy,
    /// Count the instructions that the scheduler's decisions take and compare them with the
    /// figures in crates/core/instructions.toml
    Instructions {
        /// Make what was counted the figures for this compiler
        #[arg(long)]
        write: bool,
    },
    /// Make the pictures of the documents anew, by the commands in docs/plots/pictures.toml
    Pictures {
        /// Change none; fail if one is not what its command makes
        #[arg(long)]
        check: bool,
    },
    /// Make the Python environment of the tests under target/ and print how to use it
    Python,
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::load()?;
    match task {
        Task::Test { only, pytest } => steps::run(&workspace, &only, &pytest),
        Task::Tidy => tidy::run(&workspace),
        Task::Instructions { write } => instructions::run(&workspace, write),
        Task::Pictures { check } => pictures::run(&workspace, check),
        Task::Python => print_exports(&Environment::prepare(&workspace)?),
    }
}

/// Prints the environment as shell lines, for running `cargo test` or pytest by hand.
fn print_exports(environment: &Environment) -> Result<()> {
    for (name, value) in environment.variables() {
        println!("export {name}='{}'", value.display());
    }
    Ok(())
}
