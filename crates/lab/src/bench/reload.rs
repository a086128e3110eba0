//! `symphony bench reload`: what an unload and a load of a model take, asked of a server as its
//! users do. Its profile is measured once, at the start. With `--beside`: what others feel of it.

mod beside;

use super::repository::Repository;
use super::server::{Ports, Server};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use beside::{Client, load};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use symphony_client::table::titles;
use symphony_frontend::proto::RepositoryModelUnloadRequest;
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", default_value = "examples/models")]
    models: PathBuf,
    /// The model in it.
    #[arg(long, default_value = "digits")]
    model: String,
    /// The engine it runs on.
    #[arg(long, default_value = "rten")]
    engine: String,
    /// How often it is unloaded and loaded again.
    #[arg(long, default_value_t = 20)]
    times: usize,
    /// Where generated examples and measured profiles are kept [default: ~/.cache/symphony].
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    beside: beside::BesideArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct ReloadReport {
    times: usize,
    total_s: f64,
    unload: Took,
    load: Took,
}

/// How long one kind of command took.
#[derive(Debug, Serialize)]
struct Took {
    median_ms: f64,
    max_ms: f64,
}

pub(crate) fn command(args: &ReloadArgs) -> Result<()> {
    ensure!(args.times > 0, "--times 0: give at least 1");
    if let Some(serving) = &args.beside.beside {
        let loaded = beside::Loaded {
            models: &args.models,
            model: &args.model,
            engine: &args.engine,
            cache_dir: args.cache_dir.as_ref(),
            json: args.json,
        };
        return beside::command(&args.beside, serving, loaded);
    }
    let repository = Repository::variant(&args.models, &args.model, &args.engine, None)?;
    let cache_dir = args.cache_dir.as_ref().map(|folder| folder.display().to_string());
    let flags: Vec<_> = cache_dir.into_iter().flat_map(|dir| ["--cache-dir".into(), dir]).collect();
    let server = Server::start(repository.path(), &flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?;
    runtime.block_on(reload(args, server.ports))?.show(args.json)
}

async fn reload(args: &ReloadArgs, ports: Ports) -> Result<ReloadReport> {
    let address = format!("http://127.0.0.1:{}", ports.grpc);
    let mut client = GrpcInferenceServiceClient::connect(address).await?;
    let (mut unloads, mut loads) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for _ in 0..args.times {
        unloads.push(unload(&mut client, &args.model).await?);
        loads.push(load(&mut client, &args.model).await?);
    }
    let total_s = begun.elapsed().as_secs_f64();
    Ok(ReloadReport {
        times: args.times,
        total_s,
        unload: Took::over(unloads),
        load: Took::over(loads),
    })
}

async fn unload(client: &mut Client, model: &str) -> Result<Duration> {
    let begun = Instant::now();
    let request = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..<_>::default() };
    client.repository_model_unload(request).await.context("the unload failed")?;
    Ok(begun.elapsed())
}

impl Took {
    /// Of at least one.
    fn over(mut all: Vec<Duration>) -> Took {
        all.sort_unstable();
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        Took { median_ms: ms(all[all.len() / 2]), max_ms: ms(all[all.len() - 1]) }
    }
}

impl Report for ReloadReport {
    fn columns(&self) -> Vec<String> {
        titles(["", "median ms", "max ms"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, took: &Took| {
            vec![name.to_owned(), format!("{:.1}", took.median_ms), format!("{:.1}", took.max_ms)]
        };
        vec![row("unload", &self.unload), row("load", &self.load)]
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("{} unloads and loads: {:.2} s", self.times, self.total_s)]
    }
}
