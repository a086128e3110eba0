//! `symphony serve`: every role in one process.

mod announce;
mod check;
mod progress;
mod shutdown;

use crate::args::ServeArgs;
use crate::config::ServeConfig;
use crate::console::say;
use crate::logging;
use crate::ports::PortsFile;
use crate::runtime;
use crate::signals::Signals;
use anyhow::{Context, Result, anyhow, bail};
use check::Check;
use progress::LoadProgress;
use shutdown::{Running, RunningFrontend, serve_on, shut_down};
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_control::models_thread::{ModelsStartError, ModelsThread};
use symphony_control::pool::Pool;
use symphony_frontend::{Addresses, Frontend, Services};
use symphony_wire::carrier::in_process::{SharedCatalog, commands};
use tokio::sync::oneshot;

/// Exit status after a signal to end at once: what a shell reports of an interrupted program.
const EXIT_AT_ONCE: i32 = 130;

pub(crate) fn command(args: ServeArgs) -> Result<()> {
    let check = args.check.then_some(Check { run: args.run, verbose: args.verbose });
    let config = ServeConfig::resolve(args)?;
    logging::start(config.process.log);
    let repository = Repository::open(&config.models)?;
    if let Some(check) = check {
        return check.repository(&config, &repository);
    }
    runtime::run(config.threads, "frontend", serve(config, repository))
}

async fn serve(config: ServeConfig, repository: Repository) -> Result<()> {
    let mut signals = Signals::listen()?;
    let ports_file = config.ports_file.clone().map(PortsFile::prepare).transpose()?;
    let pool = Pool::start(&config.process.pool)?;
    let (port, commands) = commands();
    let services = Services {
        catalog: pool.catalog.clone(),
        inflight: pool.in_flight.clone(),
        scheduler: pool.scheduler.clone(),
        repository: port.clone(),
        clock: pool.clock,
    };
    let frontend = Frontend::bind(config.frontend.clone(), services).await?;
    let addresses = frontend.addresses();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(frontend.serve(async {
        let _ = stopped.await;
    }));

    let progress = LoadProgress::start();
    let loader = Loader::new(config.process.pool.loader.clone()).watched_by(progress.watcher());
    say(format_args!("symphony {} loads {}", env!("CARGO_PKG_VERSION"), config.models.display()));
    let report = |report: &_| say(announce::loaded(report));
    let models = pool.models(repository, loader);
    let mut models = ModelsThread::start(models, commands, config.start, report)
        .context("cannot start the thread that loads models")?;
    let work = async {
        tokio::select! {
            started = start(&config, &mut models) => {
                progress.end();
                started?;
                announce(&config, &pool.catalog, addresses, ports_file)?;
                signals.until_shutdown(&port).await;
            }
            () = signals.until_shutdown(&port) => {}
        }
        Ok::<_, anyhow::Error>(())
    };
    let mut broken = tokio::select! {
        ended = work => {
            ended?;
            None
        }
        broken = pool.broken() => Some(broken),
    };
    if broken.is_none() {
        broken = serve_on(&pool, config.shutdown_delay, &mut signals).await.err();
    }
    let frontend = RunningFrontend { stop, task };
    let running = Running { frontend, models, repository: port };
    tokio::select! {
        ended = shut_down(pool, broken, running) => ended,
        () = signals.again() => {
            tracing::warn!("one more signal: stopping at once");
            std::process::exit(EXIT_AT_ONCE);
        }
    }
}

/// Waits until the server is ready.
async fn start(config: &ServeConfig, models: &mut ModelsThread) -> Result<()> {
    const ENDED: &str = "the thread that loads models has ended";
    let count = models.started().await.map_err(|error| match error {
        Some(error @ ModelsStartError::Models(_)) => {
            anyhow!("{error}; fix or remove what cannot be served, or pass --skip-failed")
        }
        Some(error) => error.into(),
        None => anyhow!(ENDED),
    })?;
    if count == 0 {
        let folder = config.models.display();
        if config.start.allow_empty {
            tracing::info!("there is no model in {folder}");
        } else {
            tracing::warn!(
                "there is no model in {folder}: the server is not ready until one is loaded \
                 (pass --allow-empty to be ready without)"
            );
        }
    }
    if !models.ready().await {
        bail!(ENDED);
    }
    Ok(())
}

fn announce(
    config: &ServeConfig,
    catalog: &SharedCatalog,
    addresses: Addresses,
    ports_file: Option<PortsFile>,
) -> Result<()> {
    let security = &config.frontend.security;
    say(format_args!("{}", announce::ready(addresses, security)));
    let served = catalog.load();
    let models = || served.served().map(AsRef::as_ref);
    if let Some(line) = announce::without_objective(models(), &config.models) {
        say(format_args!("{line}"));
    }
    if let Some(curl) = announce::curl(models(), addresses.http, security) {
        say(format_args!("try:\n  {curl}"));
    }
    ports_file.map_or(Ok(()), |file| file.publish(addresses))
}
