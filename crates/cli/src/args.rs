//! The command line as typed. What is left out is decided in `config`.

use clap::{Parser, Subcommand, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;
use symphony_core::sched::Mode;

/// Serve deep neural networks within their latency objectives, on few accelerators.
#[derive(Debug, Parser)]
#[command(name = "symphony", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a directory of models over HTTP and gRPC.
    #[command(after_help = "Example:\n  symphony serve --models examples/models")]
    Serve(ServeArgs),
    /// Ask a running server for an inference.
    #[command(after_help = "Examples:
  symphony infer digits
  symphony infer digits --input image=image.npy --output answers
  symphony infer digits --repeat 1000 --concurrency 8")]
    Infer(symphony_client::InferArgs),
    /// List what a running server serves.
    #[command(after_help = "Example:\n  symphony models --url http://127.0.0.1:8000")]
    Models(symphony_client::ModelsArgs),
    /// Print the model.toml that says what a config.pbtxt of NVIDIA Triton says.
    #[command(after_help = "Example:\n  symphony convert models/resnet --write")]
    Convert(ConvertArgs),
    /// Measure one model's latency by batch size, and simulate what each objective costs in
    /// goodput.
    #[cfg(feature = "lab")]
    #[command(after_help = "Example:\n  symphony profile --models examples/models digits")]
    Profile(OnPool<symphony_lab::ProfileArgs>),
    /// Drive the example models in every scheduling mode and compare the results.
    #[cfg(feature = "lab")]
    #[command(after_help = "Example:\n  symphony demo --models examples/models --seconds 10")]
    Demo(OnPool<symphony_lab::DemoArgs>),
    /// Measure the server itself: the figures of docs/performance.md.
    #[cfg(feature = "lab")]
    #[command(after_help = "Example:\n  symphony bench latency")]
    Bench(symphony_lab::BenchArgs),
    /// Ask the scheduler under simulated time: rates, accelerators, policies compared.
    #[cfg(feature = "lab")]
    #[command(after_help = "Example:\n  symphony simulate goodput experiments/reference.toml")]
    Simulate(symphony_lab::SimulateArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// A model's directory, or a directory of models.
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// Write each model.toml into its model's directory instead.
    #[arg(long)]
    pub(crate) write: bool,
}

/// A command that runs on a pool in this process, and the options of that pool.
#[cfg(feature = "lab")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OnPool<T: clap::Args> {
    #[command(flatten)]
    pub(crate) command: T,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

/// Options of every command that starts a pool in this process.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PoolArgs {
    /// Configuration file; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How batches are scheduled: adaptive (no more waiting than the load asks for), consolidate
    /// (as few accelerators as possible), eager (no waiting at all) [default: adaptive].
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// Accelerators to split the machine's cores into [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) accelerators: Option<u32>,
    /// Threads of each accelerator [default: the cores there are for it].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Where generated examples and measured profiles are kept [default: ~/.cache/symphony].
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// The onnxruntime library [default: ORT_DYLIB_PATH, or an installed Python package's].
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Format of log lines [default: text].
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Least severe level that is logged: error, warn, info, debug, trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", visible_alias = "model-repository")]
    pub(crate) models: PathBuf,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long)]
    pub(crate) host: Option<IpAddr>,
    /// Port for HTTP; 0 takes a free one [default: 8000].
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// Port for gRPC; 0 takes a free one [default: 8001].
    #[arg(long, value_name = "PORT")]
    pub(crate) grpc_port: Option<u16>,
    /// Port for /metrics; 0 takes a free one [default: 8002].
    #[arg(long, value_name = "PORT")]
    pub(crate) metrics_port: Option<u16>,
    /// A port of its own, for HTTP and gRPC, for calls that change the server; 0 takes a free one
    /// [default: none].
    #[arg(long, value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,
    /// Write the ports as JSON to this file once the server is ready.
    #[arg(long, value_name = "FILE")]
    pub(crate) ports_file: Option<PathBuf>,
    /// Serve the models that load and leave out those that do not, instead of giving up.
    #[arg(long)]
    pub(crate) skip_failed: bool,
    /// Be ready even with no model to serve: models are loaded later.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Check the configuration and every model of the repository, then exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: also load each model and run it once, so that "ok" is a promise.
    #[arg(long, requires = "check")]
    pub(crate) run: bool,
    /// With --check: say everything that is wrong with a model, not only the first.
    #[arg(short, long, requires = "check")]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
