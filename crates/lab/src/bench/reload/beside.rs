//! `symphony bench reload --beside MODEL`: what requests to one model feel of another's loads.
//!
//! The same arrivals come twice, first without loads and then with one every so often.

use crate::bench::client::{Payload, Protocol, RemoteClient};
use crate::bench::figures::seconds;
use crate::bench::load::{self, Pacing, Plan};
use crate::bench::repository::Repository;
use crate::bench::server::{Server, StartWith};
use crate::bench::settings;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_backend::loader::Loader;
use symphony_client::table::titles;
use symphony_client::tally::{Percentiles, Tally};
use symphony_core::ModelId;
use symphony_frontend::proto::RepositoryModelLoadRequest;
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use symphony_sim::bound::staggered;
use symphony_wire::clock;
use symphony_workload::{Process, Stream};
use tonic::transport::Channel;

pub(super) type Client = GrpcInferenceServiceClient<Channel>;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct BesideArgs {
    /// A model of the directory that serves requests meanwhile: measures these, and not the loads.
    #[arg(long, value_name = "MODEL")]
    pub(super) beside: Option<String>,
    /// Seconds from one load to the next.
    #[arg(long, default_value_t = 30.0)]
    every: f64,
    /// Seconds measured without and with loads, each.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// The rate of requests, as a share of the capacity of the model that serves.
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Forget the profile before each load, as if the model had never been measured.
    #[arg(long)]
    forget: bool,
    /// Threads of the one accelerator [default: all cores].
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Another `symphony` to start, to compare with [default: this one].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Connections of the client.
const CONNECTIONS: usize = 16;
/// Before measuring begins.
const WARMUP: Duration = Duration::from_secs(2);
/// The objective, in times of one row.
const SLO_TIMES: u64 = 8;

#[derive(Debug, Serialize)]
struct BesideReport {
    rate_per_s: f64,
    without: Percentiles,
    with: Percentiles,
    /// The 99th percentile with loads, over that without.
    ratio: f64,
    loads: usize,
    load_s: f64,
}

/// What the benchmark loads, and how.
#[derive(Clone, Copy)]
pub(super) struct Loaded<'a> {
    pub(super) models: &'a Path,
    pub(super) model: &'a str,
    pub(super) engine: &'a str,
    pub(super) cache_dir: Option<&'a PathBuf>,
    pub(super) json: bool,
}

pub(super) fn command(args: &BesideArgs, serving: &str, loaded: Loaded<'_>) -> Result<()> {
    let cache = tempfile::TempDir::with_prefix("symphony-bench-")?;
    let cache = loaded.cache_dir.cloned().unwrap_or_else(|| cache.path().to_owned());
    let loader = settings::loader(1, args.threads, Some(cache.clone()), None)?;
    let plain = Repository::variant(loaded.models, serving, loaded.engine, None)?;
    let opened = symphony_backend::repository::Repository::open(plain.path())?;
    let directory = opened.find(serving).context("the copied model is not there")?;
    let measured = Loader::new(loader).load(&directory)?;
    let slo = measured.plan.exec(1).times(SLO_TIMES);
    let rate = args.share * staggered(&measured.plan, slo, 1);
    if rate <= 0.0 {
        bail!("--share {}: give a positive number", args.share);
    }
    let payload = Payload::new(serving, &measured.signature);
    drop(measured);

    let repository = Repository::variant(loaded.models, serving, loaded.engine, Some(slo))?;
    let other = Repository::variant(loaded.models, loaded.model, loaded.engine, None)?;
    let other = other.path().join(loaded.model);
    std::os::unix::fs::symlink(&other, repository.path().join(loaded.model))?;
    let flags = ["--cache-dir".to_owned(), cache.display().to_string()];
    let threads = ["--threads".to_owned(), args.threads.to_string()];
    let flags = [flags, threads].concat();
    let with = StartWith { program: args.program.as_deref(), log_level: "warn" };
    let server = Server::start_with(repository.path(), &flags, &with)?;
    let run = Run { args, server: &server, payload: &payload, rate, slo: clock::duration(slo) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let without = run.requests().await?;
        let reloads = run.reloads(loaded.model, &other, &cache);
        let (with, loads) = tokio::join!(run.requests(), reloads);
        let (with, loads) = (with?.latency(), loads?);
        let without = without.latency();
        let load_s = loads.iter().map(Duration::as_secs_f64).sum::<f64>() / loads.len() as f64;
        let ratio = with.p99_us / without.p99_us;
        BesideReport { rate_per_s: rate, without, with, ratio, loads: loads.len(), load_s }
            .show(loaded.json)
    })
}

struct Run<'a> {
    args: &'a BesideArgs,
    server: &'a Server,
    payload: &'a Payload,
    rate: f64,
    slo: Duration,
}

impl Run<'_> {
    async fn requests(&self) -> Result<Tally> {
        let stream = Stream::steady(ModelId::first(0), Process::Poisson, self.rate);
        let plan = Plan::new(&[stream], 1, WARMUP, seconds(self.args.seconds)?)?;
        let ports = self.server.ports;
        let client =
            RemoteClient::connect(Protocol::Grpc, ports, CONNECTIONS, self.payload).await?;
        let tallies = load::open(&[Arc::new(client)], plan, Pacing::Sleep, self.slo).await?;
        tallies.into_iter().next().context("nothing was counted")
    }

    /// Loads the model every so often, each time with other settings. Returns how long each took.
    async fn reloads(&self, name: &str, model: &Path, cache: &Path) -> Result<Vec<Duration>> {
        let address = format!("http://127.0.0.1:{}", self.server.ports.grpc);
        let mut client: Client = GrpcInferenceServiceClient::connect(address).await?;
        let settings = fs::read_to_string(model.join("model.toml"))?;
        let (every, total) = (seconds(self.args.every)?, WARMUP + seconds(self.args.seconds)?);
        let begun = Instant::now();
        let mut took = Vec::new();
        // The first comes early enough to be measured to its end.
        let mut next = WARMUP + every / 4;
        while next < total {
            tokio::time::sleep(next.saturating_sub(begun.elapsed())).await;
            let changed = format!("{settings}\n# load {}\n", took.len());
            fs::write(model.join("model.toml"), changed)?;
            if self.args.forget {
                forget(&cache.join("profiles"))?;
            }
            took.push(load(&mut client, name).await?);
            next += every;
        }
        Ok(took)
    }
}

/// Loads a model. Returns how long that took.
pub(super) async fn load(client: &mut Client, model: &str) -> Result<Duration> {
    let begun = Instant::now();
    let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..<_>::default() };
    client.repository_model_load(request).await.context("the load failed")?;
    Ok(begun.elapsed())
}

fn forget(profiles: &Path) -> Result<()> {
    for profile in fs::read_dir(profiles)? {
        fs::remove_file(profile?.path())?;
    }
    Ok(())
}

impl Report for BesideReport {
    fn columns(&self) -> Vec<String> {
        titles(["", "p50 ms", "p99 ms", "p99.9 ms"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, latency: &Percentiles| {
            let ms = [latency.p50_us, latency.p99_us, latency.p999_us];
            let ms = ms.map(|us| format!("{:.1}", us / 1e3));
            std::iter::once(name.to_owned()).chain(ms).collect()
        };
        vec![row("without loads", &self.without), row("with loads", &self.with)]
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "{:.0} r/s; p99 with loads is {:.2} of that without; {} loads, {:.2} s each",
            self.rate_per_s, self.ratio, self.loads, self.load_s
        )]
    }
}
