//! A scenario file as people wrote it: its keys and what each may be. It becomes a validated
//! [`Setup`](super::setup::Setup) once, in [`read`].

use super::input::BadInput;
use super::profile_file;
use super::setup::{Load, Measure, Model, Parameter, Setup, Sweep};
use super::trace::Trace;
use anyhow::Result;
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_backend::repository::{ConfigError, TomlSource};
use symphony_core::sched::LOW_SHARE_DEFAULT;
use symphony_core::{ModelId, Profile, Span, Time};
use symphony_sim::{
    Change, ClockError, Delay, Drift, MESSAGE_MAX, Mix, Network, PolicyKind, Split, Tight,
};
use symphony_workload::{Arrivals, Popularity, Process, Schedule, Stream};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    accelerators: Spanned<u32>,
    #[serde(default)]
    policies: Vec<Spanned<String>>,
    seeds: Option<Spanned<Vec<u64>>>,
    warmup_s: Option<Spanned<f64>>,
    seconds: Option<Spanned<f64>>,
    #[serde(default)]
    model: Vec<ModelFile>,
    load: Spanned<LoadFile>,
    network: Option<NetworkFile>,
    execution_sigma: Option<Spanned<f64>>,
    #[serde(default)]
    drift: Vec<Spanned<ChangeFile>>,
    adapt_profile: Option<bool>,
    low_priority_share: Option<Spanned<f64>>,
    split: Option<SplitFile>,
    sweep: Option<SweepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    name: Spanned<String>,
    slo_ms: Spanned<f64>,
    profile: Option<Spanned<PathBuf>>,
    alpha_ms: Option<Spanned<f64>>,
    beta_ms: Option<Spanned<f64>>,
    table_ms: Option<Spanned<Vec<f64>>>,
    max_batch: Option<Spanned<u32>>,
    weight: Option<Spanned<f64>>,
    loss_weight: Option<Spanned<f64>>,
    copies: Option<Spanned<u32>>,
    priority: Option<PriorityName>,
    low_share: Option<Spanned<f64>>,
    tight: Option<Spanned<TightFile>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PriorityName {
    High,
    Low,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TightFile {
    share: f64,
    deadline_ms: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadFile {
    rate: Option<Spanned<f64>>,
    process: Option<Spanned<ProcessName>>,
    cv: Option<Spanned<f64>>,
    on_ms: Option<Spanned<f64>>,
    off_ms: Option<Spanned<f64>>,
    zipf: Option<Spanned<f64>>,
    trace: Option<Spanned<PathBuf>>,
    steps: Option<Spanned<Vec<Step>>>,
    ramp: Option<Spanned<Ramp>>,
    day: Option<Spanned<Day>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProcessName {
    Constant,
    Poisson,
    Gamma,
    OnOff,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at_s: f64,
    factor: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ramp {
    from: f64,
    to: f64,
    begin_s: f64,
    end_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    low: f64,
    high: f64,
    period_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    control: Option<Spanned<DelayFile>>,
    data: Option<Spanned<DelayFile>>,
    response: Option<Spanned<DelayFile>>,
    clock_offset_ms: Option<Spanned<f64>>,
    clock_sigma_ms: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFile {
    at_s: f64,
    factor: f64,
    #[serde(default)]
    over_s: f64,
    accelerators: Option<Vec<u32>>,
}

/// Log-normal; constant where sigma is zero.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayFile {
    median_ms: f64,
    #[serde(default)]
    sigma: f64,
}

/// Messages log-normal; constant where the spread is zero.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitFile {
    shards: Spanned<u32>,
    message_us: Spanned<f64>,
    spread: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepFile {
    parameter: Parameter,
    values: Spanned<Vec<f64>>,
    measure: Measure,
}

const ACCELERATORS_MAX: u32 = 4096;
const SHARDS_MAX: u32 = 1024;
pub(super) const MESSAGE_US_MAX: f64 = MESSAGE_MAX.0 as f64 / 1e3;
const MODELS_MAX: u32 = 10_000;
const SEEDS_MAX: usize = 100;
const SECONDS_MAX: f64 = 1e6;
const RATE_MAX: f64 = 1e9;
pub(super) const MILLIS_MAX: f64 = 1e6;
const ROWS_MAX: u32 = 65_536;
const DRIFT_MAX: f64 = 100.0;
pub(super) const SIGMA_MAX: f64 = 5.0;
const ROWS_USUAL: u32 = 64;

/// Reads and validates a scenario.
///
/// # Errors
/// [`BadInput`]: the file cannot be read, or says something that cannot be simulated.
pub(super) fn read(path: &Path) -> Result<Setup> {
    let source = TomlSource::read(path).map_err(BadInput::error)?;
    let file: File = source.parse().map_err(|error| BadInput::error(quoting(&source, error)))?;
    Reader { source: &source, folder: path.parent().unwrap_or(Path::new(".")) }.setup(file)
}

/// A value of the wrong kind is named by its kind alone: adds what stands there, and says what is
/// expected in words for people.
fn quoting(source: &TomlSource, error: ConfigError) -> ConfigError {
    let ConfigError::Invalid { path, line: Some(line), problem } = error else { return error };
    let written = source.text().lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    let problem = match problem.strip_prefix("invalid type: ") {
        Some(rest) => {
            let rest = rest.replace("expected u32", "expected a whole number");
            let rest = rest.replace("expected f64", "expected a number");
            format!("`{written}`: {rest}")
        }
        None => problem,
    };
    ConfigError::Invalid { path, line: Some(line), problem }
}

/// The scenario text and the folder that paths in it start from.
struct Reader<'a> {
    source: &'a TomlSource,
    folder: &'a Path,
}

impl Reader<'_> {
    fn refuse<T>(&self, at: Range<usize>, problem: String) -> Result<T> {
        Err(BadInput::error(self.source.refuse(Some(at), problem)))
    }

    fn number(&self, key: &str, value: &Spanned<f64>, low: f64, high: f64) -> Result<f64> {
        let &number = value.get_ref();
        if (low..=high).contains(&number) {
            return Ok(number);
        }
        self.refuse(value.span(), format!("{key} = {number}: give a number from {low} to {high}"))
    }

    fn count(&self, key: &str, value: &Spanned<u32>, high: u32) -> Result<u32> {
        let &number = value.get_ref();
        if (1..=high).contains(&number) {
            return Ok(number);
        }
        self.refuse(value.span(), format!("{key} = {number}: give a whole number from 1 to {high}"))
    }

    fn span_or(&self, key: &str, value: Option<&Spanned<f64>>, usual: f64) -> Result<Span> {
        let low = if key == "warmup_s" { 0.0 } else { 0.001 };
        let seconds = value.map_or(Ok(usual), |value| self.number(key, value, low, SECONDS_MAX))?;
        Ok(Span::from_millis_f64(seconds * 1e3))
    }

    fn setup(&self, file: File) -> Result<Setup> {
        if file.model.is_empty() {
            return Err(BadInput::error(self.source.refuse(
                None,
                "no model: add a [[model]] section with name, slo_ms and a profile",
            )));
        }
        let mut models = Vec::new();
        let mut weights = Vec::new();
        for model in &file.model {
            self.models(model, &mut models, &mut weights)?;
        }
        let weighted = file.model.iter().any(|model| model.weight.is_some());
        let load = self.load(&file.load, &models, weights, weighted)?;
        let mut setup = Setup {
            accelerators: self.count("accelerators", &file.accelerators, ACCELERATORS_MAX)?,
            policies: file
                .policies
                .iter()
                .map(|name| {
                    let parsed = name.get_ref().parse::<PolicyKind>();
                    parsed.or_else(|error| self.refuse(name.span(), error.to_string()))
                })
                .collect::<Result<_>>()?,
            seeds: self.seeds(file.seeds.as_ref())?,
            warmup: self.span_or("warmup_s", file.warmup_s.as_ref(), 2.0)?,
            measured: self.span_or("seconds", file.seconds.as_ref(), 20.0)?,
            models,
            load,
            network: self.network(file.network.as_ref())?,
            clock_error: self.clock_error(file.network.as_ref())?,
            execution_sigma: file
                .execution_sigma
                .as_ref()
                .map_or(Ok(0.0), |sigma| self.number("execution_sigma", sigma, 0.0, SIGMA_MAX))?,
            drift: self.drift(&file.drift, *file.accelerators.get_ref())?,
            adapt_profile: file.adapt_profile.unwrap_or(true),
            low_priority_share: file
                .low_priority_share
                .as_ref()
                .map_or(Ok(LOW_SHARE_DEFAULT), |share| {
                    self.number("low_priority_share", share, 0.0, 1.0)
                })?,
            split: file.split.as_ref().map(|split| self.split(split)).transpose()?,
            sweep: None,
        };
        setup.sweep = file.sweep.map(|sweep| self.sweep(sweep, &setup)).transpose()?;
        Ok(setup)
    }

    fn drift(&self, changes: &[Spanned<ChangeFile>], accelerators: u32) -> Result<Drift> {
        let mut read: Vec<Change> = Vec::new();
        for change in changes {
            let ChangeFile { at_s, factor, over_s, accelerators: some } = change.get_ref();
            let time = |seconds: f64| Time::ZERO + Span::from_millis_f64(seconds * 1e3);
            let problem = if !(0.0..=SECONDS_MAX).contains(at_s) {
                format!("drift.at_s = {at_s}: give seconds from 0 to {SECONDS_MAX}")
            } else if read.last().is_some_and(|before| time(*at_s) < before.at) {
                format!("drift.at_s = {at_s}: give the changes in order of time")
            } else if !(0.0..=SECONDS_MAX).contains(over_s) {
                format!("drift.over_s = {over_s}: give seconds from 0 to {SECONDS_MAX}")
            } else if !(1.0 / DRIFT_MAX..=DRIFT_MAX).contains(factor) {
                format!("drift.factor = {factor}: give a number from 0.01 to {DRIFT_MAX}")
            } else if let Some(other) = some.iter().flatten().find(|other| **other >= accelerators)
            {
                format!("drift.accelerators: there is no accelerator {other}, the first is 0")
            } else {
                let (at, over) = (time(*at_s), time(*over_s).since(Time::ZERO));
                read.push(Change { at, factor: *factor, over, accelerators: some.clone() });
                continue;
            };
            return self.refuse(change.span(), problem);
        }
        Ok(Drift { changes: read })
    }

    fn seeds(&self, seeds: Option<&Spanned<Vec<u64>>>) -> Result<Vec<u64>> {
        let Some(seeds) = seeds else { return Ok(vec![1, 2, 3]) };
        if (1..=SEEDS_MAX).contains(&seeds.get_ref().len()) {
            return Ok(seeds.get_ref().clone());
        }
        self.refuse(seeds.span(), format!("seeds: give 1 to {SEEDS_MAX} numbers"))
    }

    fn models(
        &self,
        file: &ModelFile,
        models: &mut Vec<Model>,
        weights: &mut Vec<f64>,
    ) -> Result<()> {
        let name = file.name.get_ref();
        let slo =
            Span::from_millis_f64(self.number("model.slo_ms", &file.slo_ms, 0.001, MILLIS_MAX)?);
        let profile = Arc::new(self.profile(file)?);
        if slo < profile.exec(1) {
            let (slo, alone) = (slo.as_millis_f64(), profile.exec(1).as_millis_f64());
            return self.refuse(
                file.slo_ms.span(),
                format!(
                    "model.slo_ms = {slo}: model {name:?} takes {alone} ms alone, l(1): \
                     no request could be in time; give at least that"
                ),
            );
        }
        let loss_weight = file
            .loss_weight
            .as_ref()
            .map_or(Ok(1.0), |weight| self.number("model.loss_weight", weight, 0.01, 100.0))?;
        let weight = file
            .weight
            .as_ref()
            .map_or(Ok(1.0), |weight| self.number("model.weight", weight, 1e-9, 1e9))?;
        let copies = file
            .copies
            .as_ref()
            .map_or(Ok(1), |copies| self.count("model.copies", copies, MODELS_MAX))?;
        let mix = self.mix(file, slo)?;
        for copy in 0..copies {
            let name = if copies == 1 { name.clone() } else { format!("{name}-{copy}") };
            if name.is_empty() || models.iter().any(|model: &Model| model.name == name) {
                return self.refuse(
                    file.name.span(),
                    format!("model.name = {name:?}: give each model a name of its own"),
                );
            }
            let profile = Arc::clone(&profile);
            models.push(Model { name, profile, slo, mix, loss_weight });
            weights.push(weight);
        }
        Ok(())
    }

    fn mix(&self, file: &ModelFile, slo: Span) -> Result<Mix> {
        let low_share = match (file.priority, &file.low_share) {
            (None, Some(share)) => self.number("model.low_share", share, 0.0, 1.0)?,
            (Some(_), Some(share)) => self.refuse(
                share.span(),
                "model.low_share: the model has a priority, which is that of all its requests; \
                 give one or the other"
                    .to_owned(),
            )?,
            (Some(PriorityName::Low), None) => 1.0,
            (Some(PriorityName::High) | None, None) => 0.0,
        };
        let Some(tight) = &file.tight else { return Ok(Mix { low_share, tight: None }) };
        let &TightFile { share, deadline_ms } = tight.get_ref();
        let due = Span::from_millis_f64(deadline_ms);
        if !(0.0..=1.0).contains(&share) || due == Span::ZERO || due > slo {
            return self.refuse(
                tight.span(),
                format!(
                    "model.tight: give share from 0 to 1 and deadline_ms above 0, at most slo_ms = {}",
                    slo.as_millis_f64()
                ),
            );
        }
        Ok(Mix { low_share, tight: Some(Tight { share, due }) })
    }

    fn profile(&self, file: &ModelFile) -> Result<Profile> {
        let rows_max = file
            .max_batch
            .as_ref()
            .map_or(Ok(ROWS_USUAL), |rows| self.count("model.max_batch", rows, ROWS_MAX))?;
        let millis = |key, value| self.number(key, value, 0.0, MILLIS_MAX);
        match (&file.profile, &file.alpha_ms, &file.beta_ms, &file.table_ms) {
            (Some(path), None, None, None) => {
                let read = profile_file::read(&self.folder.join(path.get_ref()))
                    .or_else(|error| self.refuse(path.span(), format!("model.profile: {error}")))?;
                match &file.max_batch {
                    None => Ok(read),
                    Some(max) => profile_file::cut(&read, rows_max)
                        .or_else(|error| self.refuse(max.span(), error.to_string())),
                }
            }
            (None, Some(alpha), Some(beta), None) => {
                let alpha = Span::from_millis_f64(millis("model.alpha_ms", alpha)?);
                let line = Span::from_millis_f64(millis("model.beta_ms", beta)?);
                Profile::linear(alpha, line, rows_max)
                    .or_else(|error| self.refuse(beta.span(), error.to_string()))
            }
            (None, None, None, Some(table)) => {
                let spans = table.get_ref().iter().map(|&ms| Span::from_millis_f64(ms)).collect();
                Profile::from_table(spans)
                    .or_else(|error| self.refuse(table.span(), error.to_string()))
            }
            _ => self.refuse(
                file.name.span(),
                format!(
                    "model {:?}: give its latency as one of profile = \"FILE\", alpha_ms with \
                     beta_ms, or table_ms",
                    file.name.get_ref()
                ),
            ),
        }
    }

    fn load(
        &self,
        place: &Spanned<LoadFile>,
        models: &[Model],
        weights: Vec<f64>,
        weighted: bool,
    ) -> Result<Load> {
        let file = place.get_ref();
        let popularity = match &file.zipf {
            Some(zipf) if weighted => self.refuse(
                zipf.span(),
                "load.zipf: the models have weights of their own; give one or the other".to_owned(),
            )?,
            Some(zipf) => Popularity::Zipf(self.number("load.zipf", zipf, 0.0, 10.0)?),
            None => Popularity::Weights(weights),
        };
        let rate = file
            .rate
            .as_ref()
            .map(|rate| self.number("load.rate", rate, 1e-3, RATE_MAX))
            .transpose()?;
        let missing = "load.rate is missing: this command needs the offered requests per second";
        Ok(Load {
            rate,
            rate_missing: self.source.refuse(Some(place.span()), missing).to_string(),
            popularity,
            process: self.process(file)?,
            schedule: self.schedule(file)?,
            trace: self.trace(file, models)?,
        })
    }

    fn trace(&self, file: &LoadFile, models: &[Model]) -> Result<Option<Trace>> {
        let Some(path) = &file.trace else { return Ok(None) };
        // Nothing that would be without effect passes unnoticed.
        let unused = [
            ("process", file.process.as_ref().map(Spanned::span)),
            ("zipf", file.zipf.as_ref().map(Spanned::span)),
            ("steps", file.steps.as_ref().map(Spanned::span)),
            ("ramp", file.ramp.as_ref().map(Spanned::span)),
            ("day", file.day.as_ref().map(Spanned::span)),
        ];
        if let Some((key, Some(at))) = unused.into_iter().find(|(_, at)| at.is_some()) {
            return self.refuse(at, format!("load.{key}: the trace has its own; remove it"));
        }
        let read = Trace::read(&self.folder.join(path.get_ref()), models);
        read.map(Some).or_else(|error| self.refuse(path.span(), format!("load.trace: {error}")))
    }

    fn process(&self, file: &LoadFile) -> Result<Process> {
        let named = file.process.as_ref();
        let process = named.map_or(ProcessName::Poisson, |name| *name.get_ref());
        let unused = [
            ("load.cv", &file.cv, matches!(process, ProcessName::Gamma), "gamma"),
            ("load.on_ms", &file.on_ms, matches!(process, ProcessName::OnOff), "on-off"),
            ("load.off_ms", &file.off_ms, matches!(process, ProcessName::OnOff), "on-off"),
        ];
        for (key, value, used, name) in unused {
            match value {
                Some(value) if !used => {
                    return self.refuse(
                        value.span(),
                        format!("{key} is for process = {name:?} only: remove it"),
                    );
                }
                None if used => {
                    let problem = format!("load.process = {name:?} needs {key}");
                    let at = named.map(Spanned::span);
                    return Err(BadInput::error(self.source.refuse(at, problem)));
                }
                _ => {}
            }
        }
        let millis = |key, value: &Spanned<f64>| {
            self.number(key, value, 0.001, MILLIS_MAX).map(Span::from_millis_f64)
        };
        Ok(match (process, &file.cv, &file.on_ms, &file.off_ms) {
            (ProcessName::Gamma, Some(cv), ..) => {
                Process::Gamma { cv: self.number("load.cv", cv, 0.01, 100.0)? }
            }
            (ProcessName::OnOff, _, Some(on), Some(off)) => {
                Process::OnOff { on: millis("load.on_ms", on)?, off: millis("load.off_ms", off)? }
            }
            (ProcessName::Constant, ..) => Process::Constant,
            _ => Process::Poisson,
        })
    }

    fn schedule(&self, file: &LoadFile) -> Result<Schedule> {
        let (at, schedule) = match (&file.steps, &file.ramp, &file.day) {
            (None, None, None) => return Ok(Schedule::Constant),
            (Some(steps), None, None) => {
                let at = steps.span();
                let pair = |step: &Step| {
                    Ok((self.time("load.steps.at_s", step.at_s, at.clone())?, step.factor))
                };
                let pairs = steps.get_ref().iter().map(pair).collect::<Result<_>>()?;
                (at, Schedule::Steps(pairs))
            }
            (None, Some(ramp), None) => {
                let Ramp { from, to, begin_s, end_s } = *ramp.get_ref();
                let begin = self.time("load.ramp.begin_s", begin_s, ramp.span())?;
                let end = self.time("load.ramp.end_s", end_s, ramp.span())?;
                (ramp.span(), Schedule::Ramp { from, to, begin, end })
            }
            (None, None, Some(day)) => {
                let Day { low, high, period_s } = *day.get_ref();
                let period = self.time("load.day.period_s", period_s, day.span())?;
                let period = period.since(Time::ZERO);
                (day.span(), Schedule::Day { low, high, period })
            }
            (steps, ramp, day) => {
                let spans = [
                    steps.as_ref().map(Spanned::span),
                    ramp.as_ref().map(Spanned::span),
                    day.as_ref().map(Spanned::span),
                ];
                let last = spans.into_iter().flatten().max_by_key(|span| span.start);
                let problem = "load: give only one of steps, ramp and day";
                return Err(BadInput::error(self.source.refuse(last, problem)));
            }
        };
        let stream =
            Stream { schedule, ..Stream::steady(ModelId::first(0), Process::Constant, 1.0) };
        match Arrivals::new(std::slice::from_ref(&stream), 0) {
            Ok(_) => Ok(stream.schedule),
            Err(error) => self.refuse(at, error.to_string()),
        }
    }

    /// A moment of a schedule.
    fn time(&self, key: &str, seconds: f64, at: Range<usize>) -> Result<Time> {
        if (0.0..=SECONDS_MAX).contains(&seconds) {
            return Ok(Time::ZERO + Span::from_millis_f64(seconds * 1e3));
        }
        self.refuse(at, format!("{key} = {seconds}: give a number from 0 to {SECONDS_MAX}"))
    }

    fn network(&self, file: Option<&NetworkFile>) -> Result<Network> {
        let Some(file) = file else { return Ok(Network::default()) };
        Ok(Network {
            control: self.delay("network.control", file.control.as_ref())?,
            data: self.delay("network.data", file.data.as_ref())?,
            response: self.delay("network.response", file.response.as_ref())?,
        })
    }

    fn delay(&self, key: &str, file: Option<&Spanned<DelayFile>>) -> Result<Delay> {
        let Some(file) = file else { return Ok(Delay::default()) };
        let &DelayFile { median_ms, sigma } = file.get_ref();
        if !(0.0..=MILLIS_MAX).contains(&median_ms) || !(0.0..=SIGMA_MAX).contains(&sigma) {
            return self.refuse(
                file.span(),
                format!(
                    "{key}: give median_ms from 0 to {MILLIS_MAX} and sigma from 0 to {SIGMA_MAX}"
                ),
            );
        }
        Ok(delay(Span::from_millis_f64(median_ms), sigma))
    }

    fn split(&self, file: &SplitFile) -> Result<Split> {
        let shards = self.count("split.shards", &file.shards, SHARDS_MAX)?;
        let us = self.number("split.message_us", &file.message_us, 0.0, MESSAGE_US_MAX)?;
        let spread = file
            .spread
            .as_ref()
            .map_or(Ok(0.0), |spread| self.number("split.spread", spread, 0.0, SIGMA_MAX))?;
        Ok(Split { shards, message: delay(Span::from_millis_f64(us / 1e3), spread) })
    }

    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    fn clock_error(&self, file: Option<&NetworkFile>) -> Result<ClockError> {
        let number = |key, value: Option<&Spanned<f64>>, low| {
            value.map_or(Ok(0.0), |value| self.number(key, value, low, MILLIS_MAX))
        };
        let Some(file) = file else { return Ok(ClockError::default()) };
        let offset = number("network.clock_offset_ms", file.clock_offset_ms.as_ref(), -MILLIS_MAX)?;
        let sigma = number("network.clock_sigma_ms", file.clock_sigma_ms.as_ref(), 0.0)?;
        Ok(ClockError { offset_ns: (offset * 1e6) as i64, sigma: Span::from_millis_f64(sigma) })
    }

    fn sweep(&self, file: SweepFile, setup: &Setup) -> Result<Sweep> {
        let values = file.values.get_ref();
        if !super::sweep::are_usable(values) {
            let problem = "sweep.values: give numbers from 0, in growing order";
            return self.refuse(file.values.span(), problem.to_owned());
        }
        for &value in values {
            if let Err(error) = setup.with(file.parameter, value) {
                return self.refuse(file.values.span(), format!("sweep.values: {error}"));
            }
        }
        Ok(Sweep {
            parameter: file.parameter,
            values: values.clone(),
            measures: vec![file.measure],
        })
    }
}

/// A log-normal delay, or a constant one where there is no spread.
pub(super) fn delay(median: Span, sigma: f64) -> Delay {
    if sigma == 0.0 { Delay::Constant(median) } else { Delay::LogNormal { median, sigma } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_is_one_and_names_its_source() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles");
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in files {
            profile_file::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(std::fs::read_to_string(&path).unwrap().starts_with("source = "), "{path:?}");
            count += 1;
        }
        assert!(count > 5, "{count} profiles in {}", folder.display());
    }

    /// Also with what it shows only as a comment.
    #[test]
    fn the_documented_scenario_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(root.join("docs/simulate.md")).unwrap();
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (scenario, _) = rest.split_once("```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("profiles")).unwrap();
        std::fs::create_dir_all(folder.path().join("scenarios")).unwrap();
        let profile = "profiles/resnet50.toml";
        std::fs::copy(root.join(profile), folder.path().join(profile)).unwrap();
        let path = folder.path().join("scenarios/s.toml");
        let by_rank = scenario.replace("\nweight =", "\n# weight =").replace("# zipf =", "zipf =");
        for text in [scenario, &by_rank] {
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_ne!(scenario, by_rank);
    }

    #[test]
    fn every_shipped_experiment_is_a_scenario() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in files {
            read(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
        assert!(count > 10, "{count} experiments in {}", folder.display());
    }
}
