//! `symphony serve`: every role in one process.

mod announce;
mod models;
mod pool;
mod signals;

pub(crate) use models::Models;
pub(crate) use pool::Pool;

use crate::args::ServeArgs;
use crate::config::ServeConfig;
use crate::logging;
use anyhow::{Context, Result, bail};
use signals::Signals;
use std::path::Path;
use std::thread;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_frontend::{Addresses, Frontend, Services};
use symphony_wire::catalog::SharedCatalog;
use symphony_wire::repository::{RepositoryCommand, RepositoryPort, commands};
use tokio::sync::{mpsc, oneshot};

/// Exit status after a second signal: what a shell reports of an interrupted program.
const EXIT_AT_ONCE: i32 = 130;

pub(crate) fn command(args: ServeArgs) -> Result<()> {
    let check = args.check;
    let config = ServeConfig::resolve(args)?;
    logging::start(config.pool.log);
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
    let loader = Loader::new(config.pool.loader.clone());
    let directories = repository.scan()?;
    let mut failed = 0;
    for directory in &directories {
        match loader.check(directory) {
            Ok(source) => println!("ok    {} {}", source.name, source.version),
            Err(error) => {
                println!("error {error}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} models cannot be served", directories.len());
    }
    println!("{} models can be served", directories.len());
    Ok(())
}

async fn serve(config: ServeConfig, repository: Repository) -> Result<()> {
    let mut signals = Signals::listen()?;
    let pool = Pool::start(&config.pool)?;
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

    let loader = Loader::new(config.pool.loader.clone());
    let models = pool.models(repository, loader);
    let mut loading = spawn_models(models, commands, config.skip_failed)?;
    println!("symphony {} loads {}", env!("CARGO_PKG_VERSION"), config.models.display());
    tokio::select! {
        loaded = &mut loading => {
            loaded.context("the thread that loads models ended")??;
            pool.catalog.update(|catalog| catalog.ready = true);
            announce(&config, &pool.catalog, addresses)?;
            signals.until_shutdown(&port).await;
        }
        () = signals.until_shutdown(&port) => {}
    }

    tracing::info!("shutting down: no new requests, what is queued ends or is dropped");
    tokio::select! {
        () = shut_down(pool, port, stop, serving) => Ok(()),
        () = signals.second() => {
            tracing::warn!("a second signal: stopping at once");
            std::process::exit(EXIT_AT_ONCE);
        }
    }
}

async fn shut_down(
    pool: Pool,
    port: RepositoryPort,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
) {
    pool.drain().await;
    let _ = stop.send(());
    if serving.await.is_err() {
        tracing::error!("the frontend's task panicked");
    }
    drop(port);
    if tokio::task::spawn_blocking(move || pool.stop()).await.is_err() {
        tracing::error!("ending the pool's threads panicked");
    }
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
            Ok(report) => println!("{}", announce::loaded(report)),
            Err(_) => failed.push(name.to_owned()),
        });
        let result = result.and_then(|()| match failed.is_empty() || skip_failed {
            true => Ok(()),
            false => bail!(
                "cannot serve {} (the log says why): mend or remove it, or pass --skip-failed",
                failed.join(", ")
            ),
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

fn announce(config: &ServeConfig, catalog: &SharedCatalog, addresses: Addresses) -> Result<()> {
    let Addresses { http, grpc, metrics } = addresses;
    println!("ready: HTTP {http}, gRPC {grpc}, metrics http://{metrics}/metrics");
    if let Some(curl) = announce::curl(catalog.load().models.values().map(AsRef::as_ref), http) {
        println!("try:\n  {curl}");
    }
    match &config.ports_file {
        Some(path) => write_ports(path, addresses),
        None => Ok(()),
    }
}

/// Written under another name first: whoever waits for the file finds it whole.
fn write_ports(path: &Path, addresses: Addresses) -> Result<()> {
    let ports = serde_json::json!({
        "http": addresses.http.port(),
        "grpc": addresses.grpc.port(),
        "metrics": addresses.metrics.port(),
    });
    let unfinished = path.with_extension("part");
    std::fs::write(&unfinished, ports.to_string())
        .and_then(|()| std::fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
