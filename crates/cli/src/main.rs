//! The `symphony` command: every role of the system and every question about it.

mod args;
mod bench;
mod config;
mod console;
mod demo;
mod logging;
mod plot;
mod profile;
mod serve;
mod simulate;

use args::{Args, Command};
use clap::Parser;
use simulate::input::BadInput;
use std::process::ExitCode;

/// As for a mistyped flag: what was given cannot be used.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(args) => serve::command(args),
        Command::Profile(args) => profile::command(args),
        Command::Demo(args) => demo::command(args),
        Command::Bench(args) => bench::command(args),
        Command::Simulate(args) => simulate::command(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<BadInput>() { BAD_INPUT.into() } else { ExitCode::FAILURE }
        }
    }
}
