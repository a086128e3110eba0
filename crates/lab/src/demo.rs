//! `symphony demo`: the bundled models under a Poisson load, once in each mode, in this
//! process.

use crate::bench::client::{LocalClient, Payload};
use crate::bench::load::{self, Pacing, Plan};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_client::console::print_line;
use symphony_client::table::{percent, table, titles};
use symphony_client::tally::Tally;
use symphony_control::config::PoolConfig;
use symphony_control::pool::Pool;
use symphony_core::ModelId;
use symphony_core::sched::{Mode, ModelStatistics};
use symphony_frontend::{InProcess, Services};
use symphony_sim::bound::staggered;
use symphony_wire::carrier::in_process::commands;
use symphony_wire::message::{AcceleratorStatistics, ServedModel, Statistics};
use symphony_workload::{Process, Stream};

/// Options of `symphony demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", default_value = "examples/models")]
    models: PathBuf,
    /// Seconds of load that are counted, per mode.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Load as a share of what the accelerators can do, split evenly over the models.
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Time under load before requests are counted.
const WARMUP: Duration = Duration::from_secs(1);
/// Ten times what the accelerators can do shows all there is to see of overload.
const LOAD_MAX: f64 = 10.0;
/// The client shares the machine with the models: a tiny model's whole capacity would be all client.
const RATE_MAX: f64 = 1000.0;

/// Runs the load in the mode given, or once in each, and prints a table.
///
/// # Errors
/// An option makes no sense, a model cannot be loaded, or a request failed.
pub fn command(args: &DemoArgs, config: &PoolConfig, only: Option<Mode>) -> Result<()> {
    ensure!(
        args.load > 0.0 && args.load <= LOAD_MAX,
        "--load {}: give a share of the capacity above 0, 1.0 for all of it",
        args.load
    );
    ensure!(args.seconds > 0, "--seconds 0: give at least one second of load");
    let repository = Repository::open(&args.models)
        .context("the demo needs models: run it where examples/models is, or pass --models")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the client's threads")?;
    let (mut rows, mut busy) = (Vec::new(), Vec::new());
    let modes = only.map_or_else(|| Mode::ALL.to_vec(), |mode| vec![mode]);
    for mode in modes {
        let config = PoolConfig { mode, ..config.clone() };
        let ended = run(&runtime, args, &config, repository.clone())?;
        rows.extend(ended.rows.iter().map(|row| row.cells(mode)));
        busy.push(ended.busy_text(mode));
    }
    rows.sort(); // by model, so that the modes stand below each other
    print_line(table(titles(COLUMNS), rows))?;
    print_line(format_args!("accelerators busy, by number: {}", busy.join("; ")))
}

/// What one model went through in one mode.
struct Row {
    model: Arc<ServedModel>,
    offered: f64,
    tally: Tally,
    statistics: ModelStatistics,
    measured: Duration,
}

/// What came of one mode.
struct Ended {
    rows: Vec<Row>,
    /// Share of the time that each accelerator was busy, by number.
    busy: Vec<f64>,
}

/// Loads the models into a pool of their own, drives them, and stops the pool.
fn run(
    runtime: &tokio::runtime::Runtime,
    args: &DemoArgs,
    config: &PoolConfig,
    repository: Repository,
) -> Result<Ended> {
    let pool = Pool::start(config)?;
    let mut failed = Vec::new();
    let mut models = pool.models(repository, Loader::new(config.loader.clone()));
    models.load_all(|name, result| match result {
        Ok(_) => eprintln!("{}: {name} is ready", config.mode.name()),
        Err(_) => failed.push(name.to_owned()),
    })?;
    if !failed.is_empty() {
        bail!("cannot serve {}: the log says why", failed.join(", "));
    }
    pool.catalog.update(|catalog| catalog.ready = true);
    let ended = runtime.block_on(drive(args, config, &pool));
    ensure!(runtime.block_on(pool.drain()), "a batch did not complete");
    drop(models);
    ensure!(pool.stop(), "an accelerator did not complete its batch");
    ended
}

async fn drive(args: &DemoArgs, config: &PoolConfig, pool: &Pool) -> Result<Ended> {
    let served: Vec<Arc<ServedModel>> = pool.catalog.load().served().cloned().collect();
    ensure!(!served.is_empty(), "there is no model in {}", args.models.display());
    let accelerators = u32::try_from(config.loader.cores.accelerators)?;
    let share = args.load / served.len() as f64;
    let rate = |model: &ServedModel| {
        (share * staggered(&model.profile, model.objective.span(), accelerators)).min(RATE_MAX)
    };
    let stream = |(number, model): (u32, &Arc<ServedModel>)| {
        Stream::steady(ModelId::first(number), Process::Poisson, rate(model))
    };
    let streams: Vec<Stream> = (0..).zip(&served).map(stream).collect();
    let measured = Duration::from_secs(args.seconds);
    let plan = Plan::new(&streams, args.seed, WARMUP, measured)?;
    let (repository, _commands) = commands();
    let server = InProcess::new(&Services {
        catalog: pool.catalog.clone(),
        inflight: pool.in_flight.clone(),
        scheduler: pool.scheduler.clone(),
        repository,
        clock: pool.clock,
    });
    let client = |model: &Arc<ServedModel>| {
        let payload = Payload::new(&model.name, &model.signature);
        Arc::new(LocalClient { server: server.clone(), payload })
    };
    let clients: Vec<_> = served.iter().map(client).collect();
    let bar = progress(config.mode, WARMUP + measured);
    let begun = pool.clock.now();
    let tallies = load::open(&clients, plan, Pacing::Sleep, Duration::MAX).await?;
    bar.abandon();
    let elapsed = pool.clock.now().since(begun).as_secs_f64();
    let statistics = statistics(pool).await?;
    let of = |model: &ServedModel| {
        let found = statistics.models.iter().find(|(id, _)| *id == model.id);
        found.map(|(_, statistics)| *statistics).unwrap_or_default()
    };
    let row = |((model, tally), stream): ((Arc<ServedModel>, Tally), Stream)| {
        let statistics = of(&model);
        Row { offered: stream.rate, statistics, tally, model, measured }
    };
    let rows = served.into_iter().zip(tallies).zip(streams).map(row).collect();
    let share = |a: &AcceleratorStatistics| a.busy.as_secs_f64() / elapsed;
    Ok(Ended { rows, busy: statistics.accelerators.iter().map(share).collect() })
}

async fn statistics(pool: &Pool) -> Result<Statistics> {
    pool.scheduler.statistics()?.await.context("the scheduler has stopped")
}

/// A bar that fills while the load runs.
fn progress(mode: Mode, duration: Duration) -> ProgressBar {
    let bar = ProgressBar::new(duration.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{prefix:11} {bar:40} {pos}/{len} s") {
        bar.set_style(style);
    }
    bar.set_prefix(mode.name());
    let ticking = bar.clone();
    tokio::spawn(async move {
        while !ticking.is_finished() && ticking.position() < duration.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ticking.inc(1);
        }
    });
    bar
}

const COLUMNS: [&str; 8] = [
    "model and mode",
    "SLO ms",
    "offered r/s",
    "good r/s",
    "bad %",
    "rows/batch",
    "p50 ms",
    "p99 ms",
];

impl Ended {
    fn busy_text(&self, mode: Mode) -> String {
        let shares: Vec<_> =
            self.busy.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        format!("{} {}", mode.name(), shares.join(" "))
    }
}

impl Row {
    fn cells(&self, mode: Mode) -> Vec<String> {
        let latency = self.tally.latency();
        let good = self.tally.counts.good as f64 / self.measured.as_secs_f64();
        let rows = self.statistics.rows as f64 / (self.statistics.batches as f64).max(1.0);
        vec![
            format!("{} {}", self.model.name, mode.name()),
            format!("{}", self.model.objective.span().as_millis_f64()),
            format!("{:.0}", self.offered),
            format!("{good:.0}"),
            percent(self.tally.counts.bad_share()),
            format!("{rows:.1}"),
            format!("{:.2}", latency.p50_us / 1e3),
            format!("{:.2}", latency.p99_us / 1e3),
        ]
    }
}
