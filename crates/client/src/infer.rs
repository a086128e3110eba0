//! `symphony infer`: asks a running server for one inference, or for many of the same.

use crate::answer;
use crate::asking::AskedServer;
use crate::console::print_line;
use crate::input::{self, InputArg, SizeArg};
use crate::metadata;
use crate::output::{self, OutputArg};
use crate::payload::{Encoding, HttpPayload};
use crate::repeated::{RepeatedRequest, repeat};
use crate::tally::Tally;
use crate::target::{ServerArgs, Target};
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Options of `symphony infer`.
#[derive(Clone, Debug, clap::Args)]
pub struct InferArgs {
    /// The model's name; `symphony models` lists what is served.
    #[arg(value_name = "MODEL")]
    model: String,
    // In a documentation comment the brackets would be a link.
    #[arg(
        long,
        value_name = "NAME=WHAT",
        help = "An input: NAME=FILE.npy, NAME=FILE.json, NAME=JSON, NAME=@random or \
                NAME=@random[1,40]. Without any, all inputs are random"
    )]
    input: Vec<InputArg>,
    /// How large an open dimension of random inputs is, such as sequence=40 or batch=4.
    #[arg(long, value_name = "NAME=N")]
    size: Vec<SizeArg>,
    /// Where to save the outputs: a folder for all, or NAME=FILE.npy or NAME=FILE.json for one.
    /// Without it they are printed.
    #[arg(long, value_name = "WHERE")]
    output: Vec<OutputArg>,
    /// Requests to send in all; their latencies are summed up.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Requests under way at a time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrency: u64,
    /// How long the server may take, in milliseconds [default: the model's objective].
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<f64>,
    /// The model's version [default: the one that the server chooses].
    #[arg(long, value_name = "VERSION", default_value = "")]
    model_version: String,
    /// Seed of random inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    server: ServerArgs,
}

/// More connections than this are no test of latency any more.
const CONCURRENCY_MAX: u64 = 4096;

/// Asks, and prints or saves what the model gives.
///
/// # Errors
/// No server answers, it does not serve the model, an input is not what the model takes, or a
/// request gets no answer.
pub fn command(args: &InferArgs) -> Result<()> {
    ensure!(args.repeat > 0, "--repeat 0: send at least one request");
    ensure!(
        (1..=CONCURRENCY_MAX).contains(&args.concurrency),
        "--concurrency {}: give 1 to {CONCURRENCY_MAX}",
        args.concurrency
    );
    let limit = args.timeout_ms.map(limit).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?;
    runtime.block_on(infer(args, limit))
}

fn limit(ms: f64) -> Result<Duration> {
    let limit = Duration::try_from_secs_f64(ms / 1e3).ok().filter(|limit| !limit.is_zero());
    limit.with_context(|| format!("--timeout-ms {ms}: give a positive number of milliseconds"))
}

async fn infer(args: &InferArgs, limit: Option<Duration>) -> Result<()> {
    let target = Target::open(&args.server)?;
    let server = AskedServer::find(&target).await?;
    let model = metadata::inputs(&server, &args.model, &args.model_version).await?;
    let payload = HttpPayload {
        model: args.model.clone(),
        version: args.model_version.clone(),
        inputs: input::inputs(&model, &args.input, &args.size, args.seed)?,
        limit,
    };
    let connections = usize::try_from(args.concurrency.min(args.repeat))?;
    let request =
        RepeatedRequest::connect(&target, connections, &payload, Encoding::Binary).await?;
    if args.repeat > 1 {
        return many(args, Arc::new(request)).await;
    }
    let sent = Instant::now();
    let reply = request.send().await?;
    let took = sent.elapsed();
    show(args, &answer::read(&reply)?, took)
}

fn show(args: &InferArgs, answer: &answer::Answer, took: Duration) -> Result<()> {
    let version = match answer.version.as_str() {
        "" => String::new(),
        version => format!(" version {version}"),
    };
    let ms = took.as_secs_f64() * 1e3;
    print_line(format_args!("{}{version} in {ms:.2} ms", answer.model))?;
    if !args.output.is_empty() {
        return output::save(answer, &args.output);
    }
    answer.outputs.iter().try_for_each(|tensor| print_line(output::line(tensor)?))
}

/// Sends the request as often as is asked for; shows what the first one gave, and what became of
/// the others.
async fn many(args: &InferArgs, request: Arc<RepeatedRequest>) -> Result<()> {
    let begun = Instant::now();
    let tally = repeat(&request, args.repeat, args.concurrency).await?;
    let took = begun.elapsed();
    if !args.output.is_empty() {
        output::save(&answer::read(&request.send().await?)?, &args.output)?;
    }
    summary(args, &tally, took).iter().try_for_each(print_line)?;
    match (&tally.failure, tally.counts.good) {
        (Some(first), _) => bail!("{} requests failed, the first: {first}", tally.counts.failed),
        (None, 0) => bail!("no request was answered in time"),
        (None, _) => Ok(()),
    }
}

fn summary(args: &InferArgs, tally: &Tally, took: Duration) -> [String; 3] {
    let counts = tally.counts;
    let latency = tally.latency();
    let seconds = took.as_secs_f64();
    let rate = counts.good as f64 / seconds.max(f64::MIN_POSITIVE);
    [
        format!(
            "{} requests, {} at a time, in {seconds:.2} s: {rate:.1} answered a second",
            counts.offered(),
            args.concurrency.min(args.repeat)
        ),
        format!(
            "latency p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            latency.p50_us / 1e3,
            latency.p99_us / 1e3,
            tally.latency_max().as_secs_f64() * 1e3
        ),
        format!(
            "answered {}, dropped for their deadline {}, refused for lack of room {}, failed {}",
            counts.good, counts.dropped, counts.refused, counts.failed
        ),
    ]
}
