//! `symphony simulate timeline`: which batch ran where and when, as a picture and as a trace for
//! Chrome's tracing page or Perfetto.

use super::input::BadInput;
use super::setup::Setup;
use super::{file, output};
use crate::console::print_line;
use crate::plot::write_picture;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use symphony_core::{BatchId, Request, Span, Time};
use symphony_sim::{Observed, PolicyKind};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct TimelineArgs {
    /// The scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The policy [default: the scenario's first, or consolidate].
    #[arg(long)]
    policy: Option<PolicyKind>,
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
}

/// More batches than this in one picture are a smear.
const BATCHES_MAX: usize = 20_000;

/// The part of a run that is shown.
struct Timeline {
    policy: PolicyKind,
    models: Vec<String>,
    accelerators: u32,
    from: Time,
    to: Time,
    batches: Vec<Batch>,
    drops: Vec<Drop>,
}

struct Batch {
    id: BatchId,
    accelerator: usize,
    model: usize,
    size: usize,
    begin: Time,
    end: Time,
    /// The earliest of its requests.
    deadline: Time,
}

struct Drop {
    at: Time,
    model: usize,
    reason: &'static str,
}

pub(super) fn command(args: &TimelineArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    if let Some(rate) = args.rate {
        setup.replace_rate(rate)?;
    }
    output::check(&args.plot, &["svg", "png"])?;
    if let Some(trace) = &args.trace {
        output::check(trace, &["json"])?;
    }
    let timeline = record(args, &mut setup)?;
    write_picture(&args.plot, &timeline.svg())?;
    let count = timeline.batches.len();
    print_line(format_args!("{count} batches: {}", args.plot.display()))?;
    if let Some(trace) = &args.trace {
        output::write(trace, &timeline.chrome().to_string())?;
        let viewers = "chrome://tracing or ui.perfetto.dev";
        print_line(format_args!("trace: {} (open it in {viewers})", trace.display()))?;
    }
    Ok(())
}

/// Runs to the end of what is shown.
fn record(args: &TimelineArgs, setup: &mut Setup) -> Result<Timeline> {
    let policy = args.policy.unwrap_or_else(|| setup.policies(&[])[0]);
    let seed = args.seed.unwrap_or(setup.seeds[0]);
    if !(args.from_ms >= 0.0 && args.for_ms > 0.0 && args.from_ms + args.for_ms <= 1e9) {
        return Err(BadInput::error("--from-ms and --for-ms: give a span of at most 1e9 ms"));
    }
    let rate = setup.rate()?;
    let from = Time::ZERO + setup.scenario(rate)?.warmup + Span::from_millis_f64(args.from_ms);
    let to = from + Span::from_millis_f64(args.for_ms);
    // Of a trace, the scenario's times are those of its recording.
    let shown = (args.from_ms + args.for_ms) * setup.speed(rate);
    setup.measured = Span::from_millis_f64(shown);
    let mut timeline = Timeline {
        policy,
        models: setup.models.iter().map(|model| model.name.clone()).collect(),
        accelerators: setup.accelerators,
        from,
        to,
        batches: Vec::new(),
        drops: Vec::new(),
    };
    setup.observe(policy, rate, seed, |observed| timeline.add(observed))?;
    timeline.batches.retain(|batch| batch.end > from);
    if timeline.batches.len() >= BATCHES_MAX {
        return Err(BadInput::error(format!(
            "--for-ms: more than {BATCHES_MAX} batches; show a shorter part"
        )));
    }
    Ok(timeline)
}

impl Timeline {
    fn add(&mut self, observed: Observed<'_>) {
        match observed {
            Observed::Started { start, requests, begin, end, .. }
                if begin < self.to && end > self.from && self.batches.len() < BATCHES_MAX =>
            {
                self.batches.push(Batch {
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
                if let Some(stopped) = self.batches.iter_mut().rev().find(|b| b.id == batch) {
                    stopped.end = now;
                }
            }
            Observed::Dropped { now, model, reason, .. } if now >= self.from && now < self.to => {
                let (model, reason) = (model.index(), reason.name());
                self.drops.push(Drop { at: now, model, reason });
            }
            _ => {}
        }
    }

    /// Accelerators as rows, batches as boxes, the earliest deadline of each batch as a red line,
    /// dropped requests as crosses below.
    fn svg(&self) -> String {
        let scale = WIDTH / self.to.since(self.from).as_millis_f64();
        let x = |time: Time| LEFT + time.since(self.from).as_millis_f64() * scale;
        let right = LEFT + WIDTH;
        let rows = f64::from(self.accelerators);
        let height = TOP + (rows + 1.0) * ROW + BOTTOM;
        let mut svg = String::new();
        let mut add = |text: String| writeln!(svg, "{text}").expect("a string takes any text");
        add(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}, {} to {} ms</text>",
            right + 20.0,
            self.policy,
            self.from.since(Time::ZERO).as_millis_f64(),
            self.to.since(Time::ZERO).as_millis_f64(),
        ));
        for row in 0..self.accelerators {
            let y = TOP + f64::from(row) * ROW;
            let (text, line) = (y + ROW * 0.65, y + ROW - 2.0);
            add(format!("<text x=\"8\" y=\"{text:.1}\">accelerator {row}</text>"));
            add(format!(
                "<path d=\"M{LEFT} {line:.1}H{right:.1}\" stroke=\"#ddd\" fill=\"none\"/>"
            ));
        }
        for batch in &self.batches {
            let (begin, end) = (x(batch.begin), x(batch.end).min(right));
            let y = TOP + batch.accelerator as f64 * ROW;
            let (model, size) = (escaped(&self.models[batch.model]), batch.size);
            let fill = COLOURS[batch.model % COLOURS.len()];
            let (width, tall) = (end - begin, ROW - 6.0);
            add(format!(
                "<rect x=\"{begin:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{tall:.1}\" \
                 fill=\"{fill}\" stroke=\"white\"><title>{model}: {size} requests, {} to {}, due \
                 {}</title></rect>",
                batch.begin, batch.end, batch.deadline
            ));
            let named = format!("{model} {size}");
            let text = if width > named.len() as f64 * LETTER { named } else { size.to_string() };
            if width > text.len() as f64 * LETTER {
                let (middle, base) = (begin + width / 2.0, y + ROW * 0.55);
                add(format!(
                    "<text x=\"{middle:.2}\" y=\"{base:.1}\" text-anchor=\"middle\">{text}</text>"
                ));
            }
        }
        self.deadlines(&mut add, x);
        self.drops_and_legend(&mut add, x);
        add("</svg>".to_owned());
        svg
    }

    /// Over the boxes, since a batch mostly ends before it is due and the next one begins.
    fn deadlines(&self, add: &mut impl FnMut(String), x: impl Fn(Time) -> f64) {
        let shown = |batch: &&Batch| batch.deadline >= self.from && batch.deadline < self.to;
        for batch in self.batches.iter().filter(shown) {
            let y = TOP + batch.accelerator as f64 * ROW;
            let (at, top, low) = (x(batch.deadline), y - 2.0, y + ROW - 3.0);
            add(format!("<path d=\"M{at:.2} {top:.1}V{low:.1}\" stroke=\"#d00\" fill=\"none\"/>"));
        }
    }

    fn drops_and_legend(&self, add: &mut impl FnMut(String), x: impl Fn(Time) -> f64) {
        let y = TOP + f64::from(self.accelerators) * ROW + ROW * 0.5;
        add(format!("<text x=\"8\" y=\"{:.1}\">dropped</text>", y + 4.0));
        for drop in &self.drops {
            let at = x(drop.at);
            let (left, right, top, low) = (at - 2.5, at + 2.5, y - 2.5, y + 2.5);
            let stroke = COLOURS[drop.model % COLOURS.len()];
            add(format!(
                "<path d=\"M{left:.2} {top:.1}L{right:.2} {low:.1}M{left:.2} {low:.1}L{right:.2} \
                 {top:.1}\" stroke=\"{stroke}\"><title>{}: {}</title></path>",
                escaped(&self.models[drop.model]),
                drop.reason
            ));
        }
        let base = y + ROW * 0.5 + 24.0;
        for (number, (name, colour)) in self.models.iter().zip(COLOURS).enumerate() {
            let left = LEFT + 130.0 * number as f64;
            let (top, text) = (base - 10.0, left + 16.0);
            add(format!(
                "<rect x=\"{left}\" y=\"{top:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{text}\" y=\"{base:.1}\">{}</text>",
                escaped(name)
            ));
        }
    }

    /// The trace event format: complete events in microseconds, a thread per accelerator.
    fn chrome(&self) -> Value {
        let us = |time: Time| time.0 as f64 / 1e3;
        let mut events = vec![];
        for row in 0..self.accelerators {
            events.push(json!({
                "ph": "M", "pid": 0, "tid": row, "name": "thread_name",
                "args": { "name": format!("accelerator {row}") }
            }));
        }
        events.extend(self.batches.iter().map(|batch| {
            let name = format!("{} x{}", self.models[batch.model], batch.size);
            json!({
                "ph": "X", "pid": 0, "tid": batch.accelerator, "name": name,
                "ts": us(batch.begin), "dur": us(batch.end) - us(batch.begin),
                "args": { "requests": batch.size, "deadline_us": us(batch.deadline) }
            })
        }));
        events.extend(self.drops.iter().map(|drop| {
            let name = format!("{}: {}", self.models[drop.model], drop.reason);
            json!({ "ph": "i", "s": "p", "pid": 0, "tid": 0, "name": name, "ts": us(drop.at) })
        }));
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

const LEFT: f64 = 110.0;
const WIDTH: f64 = 1400.0;
const TOP: f64 = 34.0;
const ROW: f64 = 28.0;
const BOTTOM: f64 = 40.0;
/// About how wide a letter is.
const LETTER: f64 = 6.5;
const COLOURS: [&str; 10] = [
    "#8ecae6", "#ffb703", "#95d5b2", "#cdb4db", "#f4a261", "#a3b18a", "#e5989b", "#90dbf4",
    "#d4a373", "#bde0fe",
];

fn deadline(request: &Request) -> Time {
    request.deadline
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
