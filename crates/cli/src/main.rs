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

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(args) => serve::command(args),
        Command::Profile(args) => profile::command(args),
        Command::Demo(args) => demo::command(args),
        Command::Bench(args) => bench::command(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
