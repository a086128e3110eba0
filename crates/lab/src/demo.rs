//! `symphony demo`: the bundled models under a Poisson load, once in each mode, in this process.
//!
//! The models are loaded once and the arrivals made once: every mode gets the same requests at the
//! same moments, whatever became of those before.

use crate::bench::client::{LocalClient, Payload};
use crate::bench::load::{self, Pacing, Plan};
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    /// Load as a share of what the models were seen to do alone, split over them. Above 1 it is more
    /// than can be served.
    #[arg(long, default_value_t = 1.5)]
    load: f64,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Time under load before requests are counted.
const WARMUP: Duration = Duration::from_secs(1);
/// How long each model is tried for the highest rate that it has.
const TRIAL: Duration = Duration::from_secs(1);
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
    let modes = only.map_or_else(|| Mode::ALL.to_vec(), |mode| vec![mode]);
    let ended = run(&runtime, args, config, repository, &modes)?;
    let mut rows: Vec<_> =
        ended.iter().flat_map(|ended| ended.rows.iter().map(|row| row.cells(ended.mode))).collect();
    rows.sort(); // by model, so that the modes stand below each other
    print_line(table(titles(COLUMNS), rows))?;
    let busy: Vec<_> = ended.iter().map(Ended::busy_text).collect();
    print_line(format_args!("accelerators busy, by number: {}", busy.join("; ")))?;
    print_line(lesson(args.load, &ended))
}

/// What one model went through in one mode.
struct Row {
    model: Arc<ServedModel>,
    offered: f64,
    tally: Tally,
    /// Rows that ran, and in how many batches.
    rows: u64,
    batches: u64,
    measured: Duration,
}

/// What came of one mode.
struct Ended {
    mode: Mode,
    rows: Vec<Row>,
    /// Share of the time that each accelerator was busy, by number.
    busy: Vec<f64>,
}

/// Loads the models into a pool of their own, drives them in each mode, and stops the pool.
fn run(
    runtime: &tokio::runtime::Runtime,
    args: &DemoArgs,
    config: &PoolConfig,
    repository: Repository,
    modes: &[Mode],
) -> Result<Vec<Ended>> {
    let pool = Pool::start(config)?;
    let mut models = pool.models(repository, Loader::new(config.loader.clone()));
    models.load_all(|name, result| match result {
        Ok(_) => eprintln!("{name} is ready"),
        Err(_) => eprintln!("{name} is left out: the log says why"),
    })?;
    pool.catalog.update(|catalog| catalog.ready = true);
    let ended = runtime.block_on(drive_all(args, config, &pool, modes));
    ensure!(runtime.block_on(pool.drain()), "a batch did not complete");
    drop(models);
    ensure!(pool.stop(), "an accelerator did not complete its batch");
    ended
}

/// The load, and who sends it.
struct Offered {
    served: Vec<Arc<ServedModel>>,
    streams: Vec<Stream>,
    plan: Plan,
    measured: Duration,
    clients: Vec<Arc<LocalClient>>,
}

async fn drive_all(
    args: &DemoArgs,
    config: &PoolConfig,
    pool: &Pool,
    modes: &[Mode],
) -> Result<Vec<Ended>> {
    let set =
        async |mode| pool.scheduler.set_mode(mode)?.await.context("the scheduler has stopped");
    set(Mode::Adaptive).await?;
    let offered = Offered::new(args, config, pool).await?;
    let mut ended = Vec::new();
    for &mode in modes {
        set(mode).await?;
        ended.push(drive(&offered, pool, mode).await?);
    }
    Ok(ended)
}

impl Offered {
    async fn new(args: &DemoArgs, config: &PoolConfig, pool: &Pool) -> Result<Offered> {
        let served: Vec<Arc<ServedModel>> = pool.catalog.load().served().cloned().collect();
        ensure!(!served.is_empty(), "no model of {} can be served", args.models.display());
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
        let most = highest_rates(&served, &clients, config.loader.cores.accelerators).await?;
        let stream =
            |(number, rate)| Stream::steady(ModelId::first(number), Process::Poisson, rate);
        let streams: Vec<Stream> = (0..).zip(rates(&most, args.load)).map(stream).collect();
        let measured = Duration::from_secs(args.seconds);
        let plan = Plan::new(&streams, args.seed, WARMUP, measured)?;
        Ok(Offered { served, streams, plan, measured, clients })
    }
}

/// The highest rate that each model has alone, tried out here and now: the machine may be busy with
/// something else, and the client runs on it as well.
async fn highest_rates(
    served: &[Arc<ServedModel>],
    clients: &[Arc<LocalClient>],
    accelerators: usize,
) -> Result<Vec<f64>> {
    let mut rates = Vec::new();
    for (model, client) in served.iter().zip(clients) {
        // One batch runs on each accelerator, and the next one gathers.
        let concurrency = 2 * accelerators * model.rows_max as usize;
        let begun = Instant::now();
        let tally = load::closed(client, concurrency, TRIAL).await?;
        tally.expect_no_failure().with_context(|| format!("model {:?}", model.name))?;
        rates.push(tally.counts.good as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(rates)
}

/// The rate of each model, from the highest that it could have alone: each gets the same share of
/// the accelerators, except for those that come to the client's bound. The others share what these
/// leave.
fn rates(most: &[f64], load: f64) -> Vec<f64> {
    let mut rates = vec![0.0; most.len()];
    let mut order: Vec<usize> = (0..most.len()).collect();
    // Those that come to the bound first.
    order.sort_by(|&a, &b| most[b].total_cmp(&most[a]));
    let mut left = load;
    for (done, index) in order.into_iter().enumerate() {
        let share = left / (most.len() - done) as f64;
        rates[index] = (share * most[index]).min(RATE_MAX);
        if most[index] > 0.0 {
            left -= rates[index] / most[index];
        }
    }
    rates
}

async fn drive(offered: &Offered, pool: &Pool, mode: Mode) -> Result<Ended> {
    let before = statistics(pool).await?;
    let bar = progress(mode, WARMUP + offered.measured);
    let begun = pool.clock.now();
    let plan = offered.plan.clone();
    let tallies = load::open(&offered.clients, plan, Pacing::Sleep, Duration::MAX).await?;
    bar.abandon();
    let elapsed = pool.clock.now().since(begun).as_secs_f64();
    let after = statistics(pool).await?;
    let row = |((model, tally), stream): ((&Arc<ServedModel>, Tally), &Stream)| {
        let (before, after) = (of_model(&before, model), of_model(&after, model));
        Row {
            model: Arc::clone(model),
            offered: stream.rate,
            tally,
            rows: after.rows - before.rows,
            batches: after.batches - before.batches,
            measured: offered.measured,
        }
    };
    let rows = offered.served.iter().zip(tallies).zip(&offered.streams).map(row).collect();
    let busy = |(after, before): (&AcceleratorStatistics, &AcceleratorStatistics)| {
        after.busy.saturating_sub(before.busy).as_secs_f64() / elapsed
    };
    let busy = after.accelerators.iter().zip(&before.accelerators).map(busy).collect();
    Ok(Ended { mode, rows, busy })
}

fn of_model(statistics: &Statistics, model: &ServedModel) -> ModelStatistics {
    let found = statistics.models.iter().find(|(id, _)| *id == model.id);
    found.map(|(_, statistics)| *statistics).unwrap_or_default()
}

/// A mode that loses a larger share of a model's requests is overloaded.
const BAD_MAX: f64 = 0.05;

/// What to see in the table, in one line.
fn lesson(load: f64, ended: &[Ended]) -> String {
    let rates = |ended: &Ended| ended.rows.iter().map(|row| row.offered).sum();
    let offered: f64 = ended.first().map_or(0.0, rates);
    let good: Vec<_> =
        ended.iter().map(|ended| format!("{:.0} in {}", ended.good(), ended.mode.name())).collect();
    let good = good.join(", ");
    let is_overloaded = |row: &Row| row.tally.counts.bad_share() > BAD_MAX;
    if ended.iter().flat_map(|ended| &ended.rows).any(is_overloaded) {
        return format!(
            "see good r/s: of {offered:.0} r/s offered in every mode were answered in time {good}"
        );
    }
    format!(
        "see p50 and rows/batch: every mode can serve the {offered:.0} r/s; adaptive waits no longer \
         than the load asks, consolidate for large batches, eager never (--load {:.1} is more than \
         can be served)",
        load.max(1.0) + 1.0
    )
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
    fn busy_text(&self) -> String {
        let shares: Vec<_> =
            self.busy.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        format!("{} {}", self.mode.name(), shares.join(" "))
    }

    /// Requests answered in time per second, of all models.
    fn good(&self) -> f64 {
        self.rows.iter().map(Row::good).sum()
    }
}

impl Row {
    fn good(&self) -> f64 {
        self.tally.counts.good as f64 / self.measured.as_secs_f64()
    }

    fn cells(&self, mode: Mode) -> Vec<String> {
        let latency = self.tally.latency();
        let good = self.good();
        let rows = self.rows as f64 / (self.batches as f64).max(1.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_share_the_load_and_leave_what_the_client_cannot_send() {
        for (most, load, expected) in [
            (&[100.0, 300.0][..], 0.5, &[25.0, 75.0][..]),
            // 1000 r/s are a tenth of what the second can do; the first has all the rest.
            (&[100.0, 10_000.0], 1.0, &[90.0, 1000.0]),
            (&[0.0, 200.0], 1.0, &[0.0, 100.0]),
            (&[], 1.0, &[]),
        ] {
            let rates = rates(most, load);
            let same = rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(same && rates.len() == expected.len(), "{rates:?} for {expected:?}");
        }
    }
}
