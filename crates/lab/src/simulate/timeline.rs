//! `symphony simulate timeline`: which batch ran where and when, as a picture and as a trace for
//! Chrome's tracing page or Perfetto. Several policies are shown on the same requests.

mod chrome;
mod picture;
mod shown;

use super::input::BadInput;
use super::noise::NoiseArgs;
use super::setup::Setup;
use super::{file, output};
use crate::plot::write_picture;
use anyhow::Result;
use shown::{Arrival, ShownBatch, ShownDrop, ShownModel, ShownRun, Timeline};
use std::path::PathBuf;
use symphony_client::console::print_line;
use symphony_core::{Request, Span, Time};
use symphony_sim::{Observed, PolicyKind};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct TimelineArgs {
    /// The scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Policies to show below each other, on the same requests [default: the scenario's, or
    /// consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Offered requests per second in total [default: the scenario's].
    #[arg(long)]
    rate: Option<f64>,
    /// Seed of the requests [default: the scenario's first].
    #[arg(long)]
    seed: Option<u64>,
    /// Show from this millisecond on, counted from the end of the warm-up.
    #[arg(long, default_value_t = 0.0)]
    from_ms: f64,
    /// Show this many milliseconds.
    #[arg(long, default_value_t = 100.0)]
    for_ms: f64,
    /// Where to draw it: SVG, or PNG by the file's ending.
    #[arg(long, value_name = "FILE", default_value = "timeline.svg")]
    plot: PathBuf,
    /// Where to write the trace, a JSON file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    noise: NoiseArgs,
}

/// More batches than this in one picture are a smear.
const BATCHES_MAX: usize = 20_000;

pub(super) fn command(args: &TimelineArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    args.noise.apply(&mut setup)?;
    if let Some(rate) = args.rate {
        setup.replace_rate(rate)?;
    }
    output::check(&args.plot, &["svg", "png"])?;
    if let Some(trace) = &args.trace {
        output::check(trace, &["json"])?;
    }
    let timeline = record(args, &mut setup)?;
    write_picture(&args.plot, &picture::svg(&timeline))?;
    for run in &timeline.runs {
        let (policy, count) = (run.policy, run.batches.len());
        print_line(format_args!("{policy}: {count} batches, {} dropped", run.drops.len()))?;
    }
    print_line(format_args!("picture: {}", args.plot.display()))?;
    if let Some(trace) = &args.trace {
        output::write(trace, &chrome::trace(&timeline).to_string())?;
        let viewers = "chrome://tracing or ui.perfetto.dev";
        print_line(format_args!("trace: {} (open it in {viewers})", trace.display()))?;
    }
    Ok(())
}

/// Runs each policy to the end of what is shown.
fn record(args: &TimelineArgs, setup: &mut Setup) -> Result<Timeline> {
    let seed = args.seed.unwrap_or(setup.seeds[0]);
    if !(args.from_ms >= 0.0 && args.for_ms > 0.0 && args.from_ms + args.for_ms <= 1e9) {
        return Err(BadInput::error("--from-ms and --for-ms: give a span of at most 1e9 ms"));
    }
    let rate = setup.rate()?;
    let from = Time::ZERO + setup.scenario(rate)?.warmup + Span::from_millis_f64(args.from_ms);
    // Of a trace, the scenario's times are those of its recording.
    let shown = (args.from_ms + args.for_ms) * setup.speed(rate);
    setup.measured = Span::from_millis_f64(shown);
    let mut timeline = Timeline {
        models: (setup.models.iter())
            .map(|model| ShownModel { name: model.name.clone(), objective: model.objective })
            .collect(),
        accelerators: setup.accelerators,
        from,
        to: from + Span::from_millis_f64(args.for_ms),
        from_ms: args.from_ms,
        arrivals: Vec::new(),
        runs: Vec::new(),
    };
    for policy in setup.policies(&args.policy) {
        timeline.begin(policy);
        setup.observe(policy, rate, seed, |observed| timeline.add(observed))?;
        timeline.end()?;
    }
    Ok(timeline)
}

impl Timeline {
    /// What is added from now on is of this policy.
    fn begin(&mut self, policy: PolicyKind) {
        self.arrivals.clear();
        self.runs.push(ShownRun { policy, batches: Vec::new(), drops: Vec::new() });
    }

    fn add(&mut self, observed: Observed<'_>) {
        let (from, to) = (self.from, self.to);
        let Some(run) = self.runs.last_mut() else { return };
        match observed {
            Observed::Arrived { now, model }
                if now >= from && now < to && self.arrivals.len() < BATCHES_MAX =>
            {
                self.arrivals.push(Arrival { at: now, model: model.index() });
            }
            Observed::Started { start, requests, begin, end, .. }
                if begin < to && end > from && run.batches.len() < BATCHES_MAX =>
            {
                run.batches.push(ShownBatch {
                    id: start.batch,
                    accelerator: start.accelerator.index(),
                    model: start.model.index(),
                    size: requests.len(),
                    begin,
                    end,
                    deadline: requests.iter().map(deadline).min().unwrap_or(end),
                });
            }
            Observed::Preempted { now, batch, .. } => {
                if let Some(stopped) = run.batches.iter_mut().rev().find(|b| b.id == batch) {
                    stopped.end = now;
                }
            }
            Observed::Dropped { now, model, reason, .. } if now >= from && now < to => {
                let (model, reason) = (model.index(), reason.name());
                run.drops.push(ShownDrop { at: now, model, reason });
            }
            _ => {}
        }
    }

    /// The policy's run is over.
    fn end(&mut self) -> Result<()> {
        let Some(run) = self.runs.last_mut() else { return Ok(()) };
        let from = self.from;
        run.batches.retain(|batch| batch.end > from);
        if run.batches.len() >= BATCHES_MAX {
            return Err(BadInput::error(format!(
                "--for-ms: more than {BATCHES_MAX} batches; show a shorter part"
            )));
        }
        Ok(())
    }
}

fn deadline(request: &Request) -> Time {
    request.deadline
}
