//! `symphony bench overload`: a real model, from a quarter of what it can answer to more than it can.
//!
//! What it can answer, the capacity, is what the simulator finds for the adaptive mode with the
//! profile that was measured when it was loaded. Beside each row stands the share of bad requests
//! that the simulator foresees for the profile, the mean, the spread and the delays that the server
//! had measured when the load ended: what is lost beyond it is lost by the live system, or to a tail.

use super::client::{Payload, Protocol, RemoteClient};
use super::figures::seconds;
use super::load::{self, Pacing, Plan};
use super::repository::Repository;
use super::server::Server;
use super::settings;
use crate::measured_model::{MeasuredModel, typical_spread};
use crate::plot;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use symphony_backend::loader::{LoadedModel, Loader};
use symphony_client::table::{percent, titles};
use symphony_client::tally::{Counts, Percentiles};
use symphony_client::{Target, listing};
use symphony_core::sched::Mode;
use symphony_core::{Delays, ModelId, Profile, Slowdown, Span};
use symphony_wire::clock;
use symphony_workload::{Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OverloadArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", required_unless_present = "generate")]
    models: Option<PathBuf>,
    /// The model in it.
    #[arg(long, required_unless_present = "generate")]
    model: Option<String>,
    /// A bundled example instead, such as wider_dense.
    #[arg(long, value_name = "EXAMPLE", conflicts_with_all = ["models", "model"])]
    generate: Option<String>,
    /// Rows of the largest batch of such an example.
    #[arg(long, value_name = "ROWS", default_value_t = 64)]
    max_batch: u32,
    /// Engines to run it on, one after the other; those that cannot are left out.
    #[arg(long, value_delimiter = ',', default_values_t = ["rten".to_owned(), "onnxruntime".to_owned()])]
    engines: Vec<String>,
    /// Modes to compare.
    #[arg(long, value_delimiter = ',', default_values = ["consolidate", "adaptive", "eager"])]
    modes: Vec<Mode>,
    /// Offered rates, as shares of the capacity.
    #[arg(long, value_delimiter = ',', default_values_t = [0.25, 0.5, 0.75, 1.0, 1.2, 1.5, 2.0])]
    shares: Vec<f64>,
    /// The latency objective, in times of one row.
    #[arg(long, default_value_t = 4)]
    slo_times: u64,
    /// The latency objective in milliseconds instead.
    #[arg(long, value_name = "MS", conflicts_with = "slo_times")]
    slo_ms: Option<f64>,
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

/// The model is measured for longer than at a start, so that the capacity and what is foreseen are of
/// what it takes. The server finds the profile in the cache directory.
const MEASURED_MAX: Span = Span::from_secs(15);

/// Connections of the client.
const CONNECTIONS: usize = 16;

#[derive(Debug, Serialize)]
struct OverloadReport {
    engines: Vec<Engine>,
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Engine {
    name: &'static str,
    one_row_ms: f64,
    spread: f64,
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
    measured: Option<Times>,
    /// The bad share that the simulator foresees with what was measured.
    simulated_bad_share: f64,
}

/// What batches took while the load ran, as multiples of the profile.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Times {
    mean: f64,
    p95: f64,
    spread: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct DelaysMs {
    control: f64,
    response: f64,
    jitter: f64,
}

/// What a server says of its model and itself.
#[derive(Debug, Deserialize)]
struct Told {
    models: Vec<ToldModel>,
    delays_ms: Option<DelaysMs>,
}

#[derive(Debug, Deserialize)]
struct ToldModel {
    measured: Option<Times>,
    profile_ms: BTreeMap<u32, f64>,
    /// How many times the profile's a batch takes as a rule, and how far that spreads.
    planned_mean: f64,
    spread: f64,
}

pub(crate) fn command(args: &OverloadArgs) -> Result<()> {
    let (cache_dir, onnxruntime) = (args.cache_dir.clone(), args.onnxruntime.clone());
    let mut config = settings::loader(1, args.threads, cache_dir, onnxruntime)?;
    config.effort.time_max = MEASURED_MAX;
    let loader = Loader::new(config);
    let source = Source::new(args)?;
    let mut report = OverloadReport { engines: Vec::new(), left_out: Vec::new() };
    for engine in &args.engines {
        match measured(&source, &loader, engine) {
            Ok(loaded) => report.engines.push(run(args, &source, &loaded)?),
            Err(error) => report.left_out.push(format!("{engine} is left out: {error:#}")),
        }
    }
    if report.engines.is_empty() {
        bail!("no engine could run the model; {}", report.left_out.join("; "));
    }
    report.show(args.json)
}

/// Where the model is.
struct Source {
    models: PathBuf,
    model: String,
    /// Holds a generated example for as long as it is needed.
    _generated: Option<Repository>,
}

impl Source {
    fn new(args: &OverloadArgs) -> Result<Source> {
        if let Some(example) = &args.generate {
            let settings = format!("generate = {example:?}\nmax_batch = {}\n", args.max_batch);
            let generated = Repository::with(example, &settings)?;
            let models = generated.path().to_owned();
            return Ok(Source { models, model: example.clone(), _generated: Some(generated) });
        }
        let models = args.models.clone().context("--models DIR: say where the model is")?;
        let model = args.model.clone().context("--model NAME: say which model to serve")?;
        Ok(Source { models, model, _generated: None })
    }
}

/// The model on an engine, measured as a server measures it. Its memory is free again.
fn measured(source: &Source, loader: &Loader, engine: &str) -> Result<LoadedModel> {
    let repository = Repository::variant(&source.models, &source.model, engine, None)?;
    let opened = symphony_backend::repository::Repository::open(repository.path())?;
    let directory = opened.find(&source.model).context("the copied model is not there")?;
    let mut loaded = loader.load(&directory)?;
    loaded.residents.clear();
    Ok(loaded)
}

fn run(args: &OverloadArgs, source: &Source, loaded: &LoadedModel) -> Result<Engine> {
    let one_row = loaded.plan.exec(1);
    let times = || one_row.times(args.slo_times);
    let slo = args.slo_ms.map_or_else(times, Span::from_millis_f64);
    let model = MeasuredModel {
        profile: Arc::clone(&loaded.plan),
        objective: slo,
        accelerators: 1,
        mode: Mode::Adaptive,
        delays: Delays::default(),
    };
    let capacity = model.goodput()?;
    if capacity <= 0.0 {
        bail!("no load is served within {slo}, the objective: give a larger one");
    }
    let repository = Repository::variant(&source.models, &source.model, loaded.engine, Some(slo))?;
    let payload = Payload::new(&source.model, &loaded.signature);
    let mut lines = Vec::new();
    for &mode in &args.modes {
        let server = Server::start(repository.path(), &args.server_flags(mode.name()))?;
        let of_mode = MeasuredModel { mode, ..model.clone() };
        for &share in &args.shares {
            let offer = Offer { model: &of_mode, share, rate: share * capacity };
            lines.push(offer.run(args, &server, &payload)?);
        }
    }
    let plot = args.plots.join(format!("overload-{}.svg", loaded.engine));
    let engine = Engine {
        name: loaded.engine,
        one_row_ms: one_row.as_millis_f64(),
        spread: typical_spread(&loaded.plan),
        slo_ms: slo.as_millis_f64(),
        capacity_per_s: capacity,
        lines,
        plot,
    };
    engine.chart(&source.model, &args.modes).write(&engine.plot)?;
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
struct Offer<'a> {
    model: &'a MeasuredModel,
    share: f64,
    rate: f64,
}

impl Offer<'_> {
    fn run(&self, args: &OverloadArgs, server: &Server, payload: &Payload) -> Result<Line> {
        let &Offer { model, share, rate } = self;
        let stream = Stream::steady(ModelId::first(0), Process::Poisson, rate);
        let measured = seconds(args.seconds)?;
        let plan = Plan::new(&[stream], args.seed, seconds(args.warmup)?, measured)?;
        let objective = clock::duration(model.objective);
        let (tally, told) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the client")?
            .block_on(async {
                let client =
                    RemoteClient::connect(Protocol::Grpc, server.ports, CONNECTIONS, payload);
                let clients = [Arc::new(client.await?)];
                let tally = load::open(&clients, plan, Pacing::Sleep, objective).await?.remove(0);
                let told = listing(&Target::local(server.ports.http)).await?;
                anyhow::Ok((tally, told))
            })?;
        tally.expect_no_failure()?;
        let mut told: Told =
            serde_json::from_value(told).context("the server lists something else")?;
        let served = told.models.pop().context("the server lists no model")?;
        let simulated = as_measured(model, &served, told.delays_ms)?;
        let per_second = |count: u64| count as f64 / measured.as_secs_f64();
        Ok(Line {
            mode: model.mode.name(),
            share,
            offered_per_s: per_second(tally.counts.offered()),
            good_per_s: per_second(tally.counts.good),
            counts: tally.counts,
            latency: tally.latency(),
            measured: served.measured,
            simulated_bad_share: simulated.bad_share(rate)?,
        })
    }
}

/// The model with the times and delays that the server has measured.
fn as_measured(
    model: &MeasuredModel,
    served: &ToldModel,
    delays: Option<DelaysMs>,
) -> Result<MeasuredModel> {
    let ms = Span::from_millis_f64;
    let delays = delays.map_or(model.delays, |delays| Delays {
        control: ms(delays.control),
        response: ms(delays.response),
        jitter: ms(delays.jitter),
        ..Delays::default()
    });
    let samples: Vec<_> = served.profile_ms.iter().map(|(&rows, &time)| (rows, ms(time))).collect();
    let profile = Profile::from_samples(&samples).context("the server lists no profile")?;
    let slowdown = Slowdown::of(ms(served.planned_mean * 1e3), ms(1e3));
    let profile = profile.at_slowdown(slowdown).with_spread(&[(1, served.spread)]);
    Ok(MeasuredModel { profile: Arc::new(profile), delays, ..model.clone() })
}

impl Engine {
    fn chart<'a>(&'a self, model: &'a str, modes: &[Mode]) -> plot::Chart<'a> {
        let line = |mode: &'static str| {
            let lines = self.lines.iter().filter(|line| line.mode == mode);
            let points = lines.map(|line| (line.offered_per_s, line.good_per_s)).collect();
            plot::Line { name: mode, points }
        };
        plot::Chart {
            title: model,
            x: "offered requests/s",
            y: "good requests/s",
            lines: modes.iter().map(|mode| line(mode.name())).collect(),
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
            "simulated",
            "late",
            "dropped",
            "p50 ms",
            "p99 ms",
            "l / profile",
            "p95",
            "spread %",
        ])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |engine: &Engine, line: &Line| {
            let ms = |us: f64| format!("{:.1}", us / 1e3);
            let times = |of: fn(Times) -> f64| {
                line.measured.map_or_else(|| "-".to_owned(), |times| format!("{:.2}", of(times)))
            };
            vec![
                format!("{}, {}", engine.name, line.mode),
                format!("{:.2}", line.share),
                format!("{:.0}", line.offered_per_s),
                format!("{:.0}", line.good_per_s),
                percent(line.counts.bad_share()),
                percent(line.simulated_bad_share),
                line.counts.late.to_string(),
                (line.counts.dropped + line.counts.refused).to_string(),
                ms(line.latency.p50_us),
                ms(line.latency.p99_us),
                times(|times| times.mean),
                times(|times| times.p95),
                times(|times| 100.0 * times.spread),
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
                "{}: l(1) = {:.2} ms, spread {:.1} %, objective {:.1} ms, capacity {:.0} r/s; \
                 plot: {}",
                engine.name,
                engine.one_row_ms,
                100.0 * engine.spread,
                engine.slo_ms,
                engine.capacity_per_s,
                engine.plot.display()
            )
        };
        self.engines.iter().map(engine).chain(self.left_out.iter().cloned()).collect()
    }
}
