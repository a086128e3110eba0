//! `symphony bench idle`: what a server costs that has nothing to do.

use super::process::cpu_time;
use super::report::{Report, percent, titles};
use super::repository::Emulated;
use super::seconds;
use super::server::Server;
use anyhow::Result;
use serde::Serialize;
use std::thread::sleep;
use std::time::Instant;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// Seconds watched.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that, for the server to settle.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Accelerators of the server.
    #[arg(long, default_value_t = 8)]
    accelerators: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct IdleReport {
    accelerators: u32,
    watched_s: f64,
    cpu_s: f64,
}

pub(crate) fn command(args: &IdleArgs) -> Result<()> {
    let repository = Emulated::INSTANT.repository()?;
    let flags = ["--accelerators".to_owned(), args.accelerators.to_string()];
    let server = Server::start(repository.path(), &flags)?;
    let watched = seconds(args.seconds)?;
    sleep(seconds(args.warmup)?);
    let (start, before) = (Instant::now(), cpu_time(server.pid())?);
    sleep(watched);
    let (watched, after) = (start.elapsed(), cpu_time(server.pid())?);
    let report = IdleReport {
        accelerators: args.accelerators,
        watched_s: watched.as_secs_f64(),
        cpu_s: after.saturating_sub(before).as_secs_f64(),
    };
    report.show(args.json)
}

impl Report for IdleReport {
    fn columns(&self) -> Vec<String> {
        titles(["accelerators", "watched s", "processor time s", "share of a core %"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.accelerators.to_string(),
            format!("{:.1}", self.watched_s),
            format!("{:.2}", self.cpu_s),
            percent(self.cpu_s / self.watched_s),
        ]]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
