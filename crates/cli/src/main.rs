//! The `symphony` command: `serve` puts the roles of a server together, `infer` and `models` ask one
//! that runs, `convert` writes settings of models; the other commands are the lab's, which the
//! feature `lab`, on by default, builds in.

mod args;
mod cluster_config;
mod config;
mod console;
mod convert;
mod logging;
mod ports;
mod roles;
mod runtime;
mod serve;
mod signals;

use anyhow::Result;
use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// The exit code of a command that cannot use what it was given, as for a mistyped flag.
#[cfg(feature = "lab")]
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(args) => serve::command(args),
        Command::Frontend(args) => roles::frontend::command(args),
        Command::Scheduler(args) => roles::scheduler::command(args),
        Command::Backend(args) => roles::backend::command(args),
        Command::Up(args) => roles::up::command(&args),
        Command::Infer(args) => symphony_client::infer(&args),
        Command::Models(args) => symphony_client::models(&args),
        Command::Convert(args) => convert::command(&args),
        #[cfg(feature = "lab")]
        Command::Profile(args) => symphony_lab::profile(args.command, &on_pool(args.pool)?),
        #[cfg(feature = "lab")]
        Command::Demo(args) => {
            let only = args.pool.mode;
            symphony_lab::demo(&args.command, &on_pool(args.pool)?, only)
        }
        #[cfg(feature = "lab")]
        Command::Bench(args) => {
            logging::start(logging::WARNINGS);
            symphony_lab::bench(args)
        }
        #[cfg(feature = "lab")]
        Command::Simulate(args) => symphony_lab::simulate(args),
    }
}

/// The pool of a command of the lab. Starts the log.
#[cfg(feature = "lab")]
fn on_pool(args: args::PoolArgs) -> Result<symphony_control::config::PoolConfig> {
    let config::ProcessConfig { pool, log } = config::ProcessConfig::resolve(args)?;
    logging::start(log);
    Ok(pool)
}

#[cfg(feature = "lab")]
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<symphony_lab::BadInput>() { BAD_INPUT.into() } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "lab"))]
fn exit_code(_: &anyhow::Error) -> ExitCode {
    ExitCode::FAILURE
}
