//! `symphony bench overload`: a real model, and more requests than it can answer.
//!
//! Objective and capacity follow from the measured profile: four times `l(1)`, and the rate that
//! batches in a steady rhythm reach within it.

use super::client::{Payload, Protocol, RemoteClient};
use super::figures::seconds;
use super::load::{self, Pacing, Plan};
use super::repository::Repository;
use super::server::Server;
use super::settings;
use crate::plot;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use symphony_backend::loader::{LoadedModel, Loader};
use symphony_client::table::{percent, titles};
use symphony_client::tally::{Counts, Percentiles};
use symphony_core::sched::Mode;
use symphony_core::{ModelId, Span};
use symphony_sim::bound::staggered;
use symphony_wire::clock;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OverloadArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// The model in it.
    #[arg(long)]
    model: String,
    /// Engines to run it on, one after the other; those that cannot are left out.
    #[arg(long, value_delimiter = ',', default_values_t = ["rten".to_owned(), "onnxruntime".to_owned()])]
    engines: Vec<String>,
    /// Offered rates, as shares of the capacity.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0])]
    shares: Vec<f64>,
    /// The latency objective, in times of one row.
    #[arg(long, default_value_t = 4)]
    slo_times: u64,
    /// Seconds measured at each rate.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Seconds before measuring begins, at each rate.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Threads of the one accelerator; the other cores are for client and frontend.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the plots go, one per engine [default: here].
    #[arg(long, value_name = "DIR", default_value = ".")]
    plots: PathBuf,
    /// Where generated examples and measured profiles are kept [default: ~/.cache/symphony].
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The onnxruntime library [default: ORT_DYLIB_PATH, or an installed Python package's].
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Connections of the client.
const CONNECTIONS: usize = 16;

const MODES: [Mode; 3] = [Mode::Consolidate, Mode::Adaptive, Mode::Eager];

#[derive(Debug, Serialize)]
struct OverloadReport {
    engines: Vec<Engine>,
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Engine {
    name: &'static str,
    one_row_ms: f64,
    slo_ms: f64,
    capacity_per_s: f64,
    lines: Vec<Line>,
    plot: PathBuf,
}

#[derive(Debug, Serialize)]
struct Line {
    mode: &'static str,
    /// Of the capacity.
    share: f64,
    offered_per_s: f64,
    good_per_s: f64,
    counts: Counts,
    latency: Percentiles,
}

pub(crate) fn command(args: &OverloadArgs) -> Result<()> {
    let (cache_dir, onnxruntime) = (args.cache_dir.clone(), args.onnxruntime.clone());
    let loader = Loader::new(settings::loader(1, args.threads, cache_dir, onnxruntime)?);
    let mut report = OverloadReport { engines: Vec::new(), left_out: Vec::new() };
    for engine in &args.engines {
        match measured(args, &loader, engine) {
            Ok(loaded) => report.engines.push(run(args, &loaded)?),
            Err(error) => report.left_out.push(format!("{engine} is left out: {error:#}")),
        }
    }
    if report.engines.is_empty() {
        bail!("no engine could run the model; {}", report.left_out.join("; "));
    }
    report.show(args.json)
}

/// The model on an engine, measured as a server measures it. Its memory is free again.
fn measured(args: &OverloadArgs, loader: &Loader, engine: &str) -> Result<LoadedModel> {
    let repository = Repository::variant(&args.models, &args.model, engine, None)?;
    let opened = symphony_backend::repository::Repository::open(repository.path())?;
    let directory = opened.find(&args.model).context("the copied model is not there")?;
    let mut loaded = loader.load(&directory)?;
    loaded.residents.clear();
    Ok(loaded)
}

fn run(args: &OverloadArgs, loaded: &LoadedModel) -> Result<Engine> {
    let one_row = loaded.plan.exec(1);
    let slo = one_row.times(args.slo_times);
    let capacity = staggered(&loaded.plan, slo, 1);
    if capacity <= 0.0 {
        bail!("no batch fits twice into {slo}, the objective: give a larger --slo-times");
    }
    let repository = Repository::variant(&args.models, &args.model, loaded.engine, Some(slo))?;
    let payload = Payload::new(&args.model, &loaded.signature);
    let mut lines = Vec::new();
    for mode in MODES.map(Mode::name) {
        let server = Server::start(repository.path(), &args.server_flags(mode))?;
        for &share in &args.shares {
            lines.push(offer(args, &server, &payload, Offer { mode, share, capacity, slo })?);
        }
    }
    let plot = args.plots.join(format!("overload-{}.svg", loaded.engine));
    let engine = Engine {
        name: loaded.engine,
        one_row_ms: one_row.as_millis_f64(),
        slo_ms: slo.as_millis_f64(),
        capacity_per_s: capacity,
        lines,
        plot,
    };
    engine.chart(&args.model).write(&engine.plot)?;
    Ok(engine)
}

impl OverloadArgs {
    fn server_flags(&self, mode: &str) -> Vec<String> {
        let mut flags = vec!["--mode".to_owned(), mode.to_owned()];
        flags.extend(["--accelerators".to_owned(), "1".to_owned()]);
        flags.extend(["--threads".to_owned(), self.threads.to_string()]);
        let paths = [("--cache-dir", &self.cache_dir), ("--onnxruntime", &self.onnxruntime)];
        for (flag, path) in paths {
            if let Some(path) = path {
                flags.extend([flag.to_owned(), path.display().to_string()]);
            }
        }
        flags
    }
}

/// One rate in one mode.
#[derive(Clone, Copy)]
struct Offer {
    mode: &'static str,
    share: f64,
    capacity: f64,
    slo: Span,
}

fn offer(args: &OverloadArgs, server: &Server, payload: &Payload, offer: Offer) -> Result<Line> {
    let Offer { mode, share, capacity, slo } = offer;
    let stream = Stream::steady(ModelId::first(0), Process::Poisson, share * capacity);
    let measured = seconds(args.seconds)?;
    let plan = Plan::new(&[stream], args.seed, seconds(args.warmup)?, measured)?;
    let tally = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?
        .block_on(async {
            let client =
                RemoteClient::connect(Protocol::Grpc, server.ports, CONNECTIONS, payload).await?;
            load::open(&[Arc::new(client)], plan, Pacing::Sleep, clock::duration(slo)).await
        })?
        .remove(0);
    tally.expect_no_failure()?;
    let per_second = |count: u64| count as f64 / measured.as_secs_f64();
    Ok(Line {
        mode,
        share,
        offered_per_s: per_second(tally.counts.offered()),
        good_per_s: per_second(tally.counts.good),
        counts: tally.counts,
        latency: tally.latency(),
    })
}

impl Engine {
    fn chart<'a>(&'a self, model: &'a str) -> plot::Chart<'a> {
        let line = |mode: &'static str| {
            let lines = self.lines.iter().filter(|line| line.mode == mode);
            let points = lines.map(|line| (line.offered_per_s, line.good_per_s)).collect();
            plot::Line { name: mode, points }
        };
        plot::Chart {
            title: model,
            x: "offered requests/s",
            y: "good requests/s",
            lines: MODES.into_iter().map(|mode| line(mode.name())).collect(),
            diagonal: Some("all offered"),
        }
    }
}

impl Report for OverloadReport {
    fn columns(&self) -> Vec<String> {
        titles([
            "",
            "of capacity",
            "offered r/s",
            "good r/s",
            "bad %",
            "late",
            "dropped",
            "p50 ms",
            "p99 ms",
        ])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |engine: &Engine, line: &Line| {
            let ms = |us: f64| format!("{:.1}", us / 1e3);
            vec![
                format!("{}, {}", engine.name, line.mode),
                format!("{:.2}", line.share),
                format!("{:.0}", line.offered_per_s),
                format!("{:.0}", line.good_per_s),
                percent(line.counts.bad_share()),
                line.counts.late.to_string(),
                (line.counts.dropped + line.counts.refused).to_string(),
                ms(line.latency.p50_us),
                ms(line.latency.p99_us),
            ]
        };
        let lines = |engine: &'_ Engine| -> Vec<Vec<String>> {
            engine.lines.iter().map(|line| row(engine, line)).collect()
        };
        self.engines.iter().flat_map(lines).collect()
    }

    fn notes(&self) -> Vec<String> {
        let engine = |engine: &Engine| {
            format!(
                "{}: l(1) = {:.2} ms, objective {:.1} ms, capacity {:.0} r/s; plot: {}",
                engine.name,
                engine.one_row_ms,
                engine.slo_ms,
                engine.capacity_per_s,
                engine.plot.display()
            )
        };
        self.engines.iter().map(engine).chain(self.left_out.iter().cloned()).collect()
    }
}
