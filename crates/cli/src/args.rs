//! The command line as typed. What is left out is decided in `config`.

use clap::{Parser, Subcommand, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;
use symphony_core::sched::Mode;
use symphony_lease::LeaseAddress;
use symphony_wire::carrier::link::Endpoint;

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
    /// Take requests over HTTP and gRPC for a scheduler and backends that are processes of their own.
    #[command(after_help = "Example:\n  symphony frontend --scheduler 10.0.0.5:7000,10.0.0.6:7000")]
    Frontend(FrontendArgs),
    /// Schedule for frontends and backends that are processes of their own, or stand by for that.
    #[command(
        after_help = "Example:\n  symphony scheduler --models /models --listen 0.0.0.0:7000 \
                            --lease file:/shared/lease"
    )]
    Scheduler(SchedulerArgs),
    /// Run batches on this machine's accelerators for a scheduler elsewhere.
    #[command(after_help = "Example:\n  symphony backend --scheduler 10.0.0.5:7000,10.0.0.6:7000")]
    Backend(BackendArgs),
    /// Start a local cluster: frontends, a scheduler with a standby, and backends, each a process.
    #[command(
        after_help = "Example:\n  symphony up --models examples/models --frontends 2 --backends 4"
    )]
    Up(UpArgs),
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
    /// How batches are scheduled: adaptive (no more waiting than the load asks for), consolidate
    /// (as few accelerators as possible), eager (no waiting at all) [default: adaptive].
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    #[command(flatten)]
    pub(crate) accelerators: AcceleratorArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// What every process takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ProcessArgs {
    /// Configuration file; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Format of log lines [default: text].
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Least severe level that is logged: error, warn, info, debug, trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// The accelerators of this machine, and how models are loaded on them.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AcceleratorArgs {
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
    /// The interpreter that runs Python models [default: python3].
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", visible_alias = "model-repository")]
    pub(crate) models: PathBuf,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
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

/// Where clients find a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ListenArgs {
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
}

/// What every process of a cluster takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct RoleArgs {
    /// Its name in logs; a backend's is its own in the cluster [default: host and process id].
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FrontendArgs {
    /// Every scheduler, active or standing by: host:port, or unix:/path.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    pub(crate) scheduler: Vec<Endpoint>,
    /// Where backends fetch inputs, the best first; backends of the same host read them from shared
    /// memory through unix:/path; port 0 takes a free one [default: a socket among the temporary
    /// files, and 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) listen_data: Vec<Endpoint>,
    /// What backends are told to connect to, the best first [default: where it listens].
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) advertise_data: Vec<Endpoint>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SchedulerArgs {
    /// The directory of models; backends see it at the same path, unless models are streamed.
    #[arg(long, value_name = "DIR", visible_alias = "model-repository")]
    pub(crate) models: PathBuf,
    /// Send backends the files of models, which then need no directory of models.
    #[arg(long)]
    pub(crate) stream_models: bool,
    /// Where frontends and backends connect; port 0 takes a free one [default: 127.0.0.1:7000].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Endpoint>,
    /// Who of several schedulers is active: file:/path (on one host), etcd:http://host:2379/key, or
    /// kubernetes:namespace/name [default: a file that only this scheduler has].
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<LeaseAddress>,
    /// How batches are scheduled: adaptive, consolidate, eager [default: adaptive].
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// Be ready even with no model to serve: models are loaded later.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Write where it listens as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) ports_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BackendArgs {
    /// Every scheduler, active or standing by: host:port, or unix:/path.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    pub(crate) scheduler: Vec<Endpoint>,
    #[command(flatten)]
    pub(crate) accelerators: AcceleratorArgs,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// The directory of models.
    #[arg(long, value_name = "DIR", visible_alias = "model-repository")]
    pub(crate) models: PathBuf,
    /// How many frontends.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) frontends: u16,
    /// How many backends.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) backends: u16,
    /// Accelerators of each backend.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) accelerators: u32,
    /// Threads of each accelerator.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: u32,
    /// Schedulers: one is active, the others stand by.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) schedulers: u16,
    /// HTTP port of the first frontend, gRPC and metrics follow; each further frontend's ports are
    /// ten higher. 0 takes free ones.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) http_port: u16,
    /// Address that frontends listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Where logs, the lease and port files are kept [default: a directory that is removed].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Configuration file of every process.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Leave a process that ends ended, instead of starting it again.
    #[arg(long)]
    pub(crate) no_restart: bool,
}
