//! `symphony bench pool`: the scheduler, its threads and emulated accelerators under a load from
//! the same process, and what the simulator says of the same load.

use super::client::{LocalClient, Payload};
use super::figures::{ratio, seconds};
use super::load::{self, Pacing, Plan};
use super::repository::{ELEMENTS, Emulated, Repository};
use super::settings;
use crate::measured_model::spread_times;
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_client::table::{percent, titles};
use symphony_client::tally::{Counts, Tally};
use symphony_control::config::PoolConfig;
use symphony_control::pool::Pool;
use symphony_core::sched::{Mode, ModelTerms, Scheduler};
use symphony_core::{ModelId, Objective, Profile, Span};
use symphony_frontend::{InProcess, Services};
use symphony_sim::Scenario;
use symphony_wire::carrier::in_process::{SchedulerPort, commands};
use symphony_wire::clock::span;
use symphony_wire::message::Statistics;
use symphony_workload::{Arrivals, Process, Stream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PoolBenchArgs {
    /// Emulated time per row, in milliseconds.
    #[arg(long, default_value_t = 1.053)]
    alpha_ms: f64,
    /// Emulated time per batch, in milliseconds.
    #[arg(long, default_value_t = 5.072)]
    beta_ms: f64,
    /// How far times spread: their standard deviation, as a share of them, up to 1.
    #[arg(long, default_value_t = 0.0)]
    spread: f64,
    /// The latency objective in milliseconds.
    #[arg(long, default_value_t = 25.0)]
    slo_ms: f64,
    /// Largest batch.
    #[arg(long, default_value_t = 64)]
    max_batch: u32,
    /// Emulated accelerators.
    #[arg(long, default_value_t = 8)]
    accelerators: u32,
    /// Requests per second, Poisson.
    #[arg(long, default_value_t = 4500.0)]
    rate: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// How batches are scheduled.
    #[arg(long, default_value = "consolidate")]
    mode: Mode,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct PoolReport {
    live: Figures,
    simulated: Figures,
}

#[derive(Debug, Serialize)]
struct Figures {
    counts: Counts,
    good_per_s: f64,
    batches: u64,
    mean_batch: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Share of the measured time that each accelerator was busy.
    busy: Vec<f64>,
    /// How late the load generator sent, 99th percentile; none in a simulation.
    lag_p99_ms: Option<f64>,
}

pub(crate) fn command(args: &PoolBenchArgs) -> Result<()> {
    let loader = settings::loader(args.accelerators, 1, None, None)?;
    let config = PoolConfig { mode: args.mode, ..PoolConfig::new(loader) };
    let repository = args.model().repository()?;
    let live = live(args, &config, &repository)?;
    let simulated = simulated(args, config.mode)?;
    PoolReport { live, simulated }.show(args.json)
}

impl PoolBenchArgs {
    fn model(&self) -> Emulated {
        let PoolBenchArgs { alpha_ms, beta_ms, spread, slo_ms, max_batch, .. } = *self;
        Emulated { alpha_ms, beta_ms, spread, slo_ms, max_batch, elements: ELEMENTS }
    }

    fn stream(&self) -> Stream {
        Stream::steady(ModelId::first(0), Process::Poisson, self.rate)
    }
}

fn live(args: &PoolBenchArgs, config: &PoolConfig, repository: &Repository) -> Result<Figures> {
    in_pool(config, repository, async |pool| drive(args, pool, &repository.model).await)
}

/// Starts a pool with the models of a repository, does this with it, and ends it.
///
/// # Errors
/// The pool cannot be started, a model cannot be loaded, or the work failed.
pub(super) fn in_pool<T>(
    config: &PoolConfig,
    repository: &Repository,
    work: impl AsyncFnOnce(&Pool) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator")?;
    let pool = Pool::start(config)?;
    let opened = symphony_backend::repository::Repository::open(repository.path())?;
    let mut models = pool.models(opened, Loader::new(config.loader.clone()));
    let mut refused = None;
    models.load_all(|_, result| {
        if let Err(error) = result {
            refused = Some(error.to_string());
        }
    })?;
    if let Some(error) = refused {
        bail!(error);
    }
    pool.catalog.update(|catalog| catalog.ready = true);
    let done = runtime.block_on(work(&pool));
    runtime.block_on(pool.drain());
    drop(models);
    ensure!(pool.stop(), "an accelerator did not complete its batch");
    done
}

/// A client in the process of a pool.
pub(super) fn client(pool: &Pool) -> InProcess {
    // Nobody carries out repository commands here, and nobody sends any.
    let (repository, _commands) = commands();
    InProcess::new(&Services {
        catalog: pool.catalog.clone(),
        inflight: Arc::clone(&pool.in_flight),
        scheduler: pool.scheduler.clone(),
        repository,
        clock: pool.clock,
    })
}

async fn drive(args: &PoolBenchArgs, pool: &Pool, model: &str) -> Result<Figures> {
    let (warmup, measured) = (seconds(args.warmup)?, seconds(args.seconds)?);
    let plan = Plan::new(&[args.stream()], args.seed, warmup, measured)?;
    let server = client(pool);
    let payload = Payload::new(model, &Emulated::INSTANT.signature());
    let clients = [Arc::new(LocalClient { server, payload })];
    let objective = Duration::from_secs_f64(args.slo_ms / 1e3);
    let (tallies, counters) = tokio::join!(
        load::open(&clients, plan, Pacing::Sleep, objective),
        counters(&pool.scheduler, warmup, measured),
    );
    let tally = tallies?.remove(0);
    tally.expect_no_failure()?;
    Ok(Figures::live(&tally, &counters?, measured))
}

/// The scheduler's counters at the beginning and at the end of the measured time.
async fn counters(
    scheduler: &SchedulerPort,
    warmup: Duration,
    measured: Duration,
) -> Result<[Statistics; 2]> {
    tokio::time::sleep(warmup).await;
    let before = scheduler.statistics()?.await?;
    tokio::time::sleep(measured).await;
    Ok([before, scheduler.statistics()?.await?])
}

impl Figures {
    fn live(tally: &Tally, [before, after]: &[Statistics; 2], measured: Duration) -> Figures {
        let models = |statistics: &Statistics| {
            let models = statistics.models.iter().map(|(_, model)| (model.batches, model.requests));
            models.fold((0, 0), |sum, model| (sum.0 + model.0, sum.1 + model.1))
        };
        let ((batches_before, before_requests), (batches_after, after_requests)) =
            (models(before), models(after));
        let batches = batches_after - batches_before;
        let accelerators = before.accelerators.iter().zip(&after.accelerators);
        let busy = accelerators
            .map(|(before, after)| after.busy.saturating_sub(before.busy).as_secs_f64())
            .map(|busy| busy / measured.as_secs_f64());
        let latency = tally.latency();
        Figures {
            counts: tally.counts,
            good_per_s: tally.counts.good as f64 / measured.as_secs_f64(),
            batches,
            mean_batch: ratio(after_requests - before_requests, batches),
            p50_ms: latency.p50_us / 1e3,
            p99_ms: latency.p99_us / 1e3,
            busy: busy.collect(),
            lag_p99_ms: Some(tally.lag().p99_us / 1e3),
        }
    }
}

/// The same load through the same scheduler, under simulated time and without delays.
fn simulated(args: &PoolBenchArgs, mode: Mode) -> Result<Figures> {
    let profile = Profile::linear(
        Span::from_millis_f64(args.alpha_ms),
        Span::from_millis_f64(args.beta_ms),
        args.max_batch,
    )?;
    let terms = ModelTerms {
        profile: Arc::new(profile.with_spread(&[(1, args.spread)])),
        objective: Objective::Slo(Span::from_millis_f64(args.slo_ms)),
        queue_max: u32::MAX,
        loss_weight: 1.0,
        lane_of: None,
    };
    let (warmup, measured) = (span(seconds(args.warmup)?), span(seconds(args.seconds)?));
    let mut scenario = Scenario::ideal(vec![terms], args.accelerators, warmup, measured);
    spread_times(&mut scenario, args.spread);
    let arrivals = Arrivals::new(&[args.stream()], args.seed)?;
    let mut scheduler = Scheduler::new(mode, args.accelerators);
    let report = symphony_sim::run(&scenario, &mut scheduler, arrivals, args.seed);
    let good_per_s = report.good_rate();
    let model = report.models.first().context("the simulator reports every model")?;
    Ok(Figures {
        counts: Counts {
            good: model.good,
            late: model.late,
            dropped: model.dropped.iter().sum(),
            ..Counts::default()
        },
        good_per_s,
        batches: model.batches,
        mean_batch: model.mean_batch(),
        p50_ms: model.latency(0.5).as_millis_f64(),
        p99_ms: model.latency(0.99).as_millis_f64(),
        busy: report.busy.clone(),
        lag_p99_ms: None,
    })
}

impl Report for PoolReport {
    fn columns(&self) -> Vec<String> {
        titles(["", "live", "simulated"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let PoolReport { live, simulated } = self;
        let row = |name: &str, text: &dyn Fn(&Figures) -> String| {
            vec![name.to_owned(), text(live), text(simulated)]
        };
        vec![
            row("offered", &|figures| figures.counts.offered().to_string()),
            row("good", &|figures| figures.counts.good.to_string()),
            row("late", &|figures| figures.counts.late.to_string()),
            row("dropped", &|figures| figures.counts.dropped.to_string()),
            row("bad %", &|figures| percent(figures.counts.bad_share())),
            row("good r/s", &|figures| format!("{:.0}", figures.good_per_s)),
            row("batches", &|figures| figures.batches.to_string()),
            row("mean batch", &|figures| format!("{:.2}", figures.mean_batch)),
            row("p50 ms", &|figures| format!("{:.2}", figures.p50_ms)),
            row("p99 ms", &|figures| format!("{:.2}", figures.p99_ms)),
            row("busy %, by accelerator", &|figures| {
                let shares = figures.busy.iter().map(|busy| format!("{:.0}", busy * 100.0));
                shares.collect::<Vec<_>>().join(" ")
            }),
            row("sent late, p99 ms", &|figures| {
                figures.lag_p99_ms.map_or(String::new(), |lag| format!("{lag:.2}"))
            }),
        ]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
