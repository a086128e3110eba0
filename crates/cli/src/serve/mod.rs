//! `symphony serve`: every role in one process.

mod announce;
mod ports;
mod signals;

use crate::args::ServeArgs;
use crate::config::ServeConfig;
use crate::console::say;
use crate::logging;
use anyhow::{Context, Result, anyhow, bail};
use ports::PortsFile;
use signals::Signals;
use std::thread;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_control::models::Models;
use symphony_control::pool::{BrokenPool, Pool};
use symphony_frontend::{Addresses, Frontend, Services};
use symphony_wire::catalog::{Intake, SharedCatalog};
use symphony_wire::repository::{RepositoryCommand, RepositoryPort, commands};
use tokio::sync::{mpsc, oneshot};

/// Exit status after a second signal: what a shell reports of an interrupted program.
const EXIT_AT_ONCE: i32 = 130;

pub(crate) fn command(args: ServeArgs) -> Result<()> {
    let check = args.check;
    let config = ServeConfig::resolve(args)?;
    logging::start(config.process.log);
    let repository = Repository::open(&config.models)?;
    if check {
        return check_only(&config, &repository);
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .thread_name("frontend")
        .build()
        .context("cannot start the frontend's threads")?
        .block_on(serve(config, repository))
}

/// Reads and checks everything that can be told without running a model.
fn check_only(config: &ServeConfig, repository: &Repository) -> Result<()> {
    let loader = Loader::new(config.process.pool.loader.clone());
    let directories = repository.scan()?;
    let mut failed = 0;
    for directory in &directories {
        match loader.check(directory) {
            Ok(source) => say(format_args!("ok    {} {}", source.name, source.version)),
            Err(error) => {
                say(format_args!("error {error}"));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} models cannot be served", directories.len());
    }
    say(format_args!("{} models can be served", directories.len()));
    Ok(())
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
    let serving = tokio::spawn(frontend.serve(async {
        let _ = stopped.await;
    }));

    let loader = Loader::new(config.process.pool.loader.clone());
    let models = pool.models(repository, loader);
    say(format_args!("symphony {} loads {}", env!("CARGO_PKG_VERSION"), config.models.display()));
    let loading = spawn_models(models, commands, config.skip_failed)?;
    let work = async {
        tokio::select! {
            loaded = loading => {
                loaded.context("the thread that loads models ended")??;
                pool.catalog.update(|catalog| catalog.ready = true);
                announce(&pool.catalog, addresses, ports_file)?;
                signals.until_shutdown(&port).await;
            }
            () = signals.until_shutdown(&port) => {}
        }
        Ok::<_, anyhow::Error>(())
    };
    let broken = tokio::select! {
        ended = work => {
            ended?;
            None
        }
        broken = pool.broken() => Some(broken),
    };
    tokio::select! {
        ended = shut_down(pool, broken, port, Serving { stop, task: serving }) => ended,
        () = signals.second() => {
            tracing::warn!("a second signal: stopping at once");
            std::process::exit(EXIT_AT_ONCE);
        }
    }
}

const NOT_ENDED: &str = "a batch did not complete: stopped without it";

/// The frontend at work.
struct Serving {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// Ends everything in order: requests, connections, threads. Of a pool that is broken or does
/// not drain the threads are left to the end of the process.
async fn shut_down(
    pool: Pool,
    broken: Option<BrokenPool>,
    port: RepositoryPort,
    serving: Serving,
) -> Result<()> {
    let drained = match broken {
        None => {
            tracing::info!(
                "shutting down: new requests are refused, queued requests complete or are dropped"
            );
            if pool.drain().await { Ok(()) } else { Err(anyhow!("{NOT_ENDED}")) }
        }
        Some(broken) => {
            tracing::error!("the server cannot go on: {broken}");
            pool.catalog.update(|catalog| catalog.intake = Intake::Closed);
            Err(anyhow!(broken).context("the server cannot go on"))
        }
    };
    let _ = serving.stop.send(());
    if serving.task.await.is_err() {
        tracing::error!("the frontend's task panicked");
    }
    drained?;
    drop(port);
    let stopped = tokio::task::spawn_blocking(move || pool.stop()).await;
    if !stopped.context("ending the pool's threads")? {
        bail!("{NOT_ENDED}");
    }
    Ok(())
}

/// Loads all models on a thread of its own, which then carries out commands. The receiver tells
/// when the first part is done.
fn spawn_models(
    mut models: Models,
    mut commands: mpsc::Receiver<RepositoryCommand>,
    skip_failed: bool,
) -> Result<oneshot::Receiver<Result<()>>> {
    let (done, loaded) = oneshot::channel();
    let work = move || {
        let mut failed = Vec::new();
        let result = models.load_all(|name, result| match result {
            Ok(report) => say(announce::loaded(report)),
            Err(_) => failed.push(name.to_owned()),
        });
        let result = result.map_err(anyhow::Error::from).and_then(|()| {
            if !failed.is_empty() && !skip_failed {
                bail!(
                    "cannot serve {} (the log says why): fix or remove it, or pass --skip-failed",
                    failed.join(", ")
                );
            }
            Ok(())
        });
        // Nobody waits any more when the server is shutting down already.
        let _ = done.send(result);
        models.serve(&mut commands);
    };
    thread::Builder::new()
        .name("models".to_owned())
        .spawn(work)
        .context("cannot start the thread that loads models")?;
    Ok(loaded)
}

fn announce(
    catalog: &SharedCatalog,
    addresses: Addresses,
    ports_file: Option<PortsFile>,
) -> Result<()> {
    let Addresses { http, grpc, metrics } = addresses;
    say(format_args!("ready: HTTP {http}, gRPC {grpc}, metrics http://{metrics}/metrics"));
    if let Some(curl) = announce::curl(catalog.load().models.values().map(AsRef::as_ref), http) {
        say(format_args!("try:\n  {curl}"));
    }
    ports_file.map_or(Ok(()), |file| file.publish(addresses))
}
