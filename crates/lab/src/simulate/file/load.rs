//! The `[load]` section of a scenario file.

use super::reader::Reader;
use super::schema::{Day, LoadFile, ProcessName, Ramp, Step};
use crate::simulate::input::BadInput;
use crate::simulate::limits::{MILLIS_MAX, RATE_MAX, SECONDS_MAX};
use crate::simulate::model::SimulatedModel;
use crate::simulate::setup::Load;
use crate::simulate::trace::Trace;
use anyhow::Result;
use std::ops::Range;
use symphony_core::{ModelId, Span, Time};
use symphony_workload::{Arrivals, Popularity, Process, Schedule, Stream};
use toml::Spanned;

impl Reader<'_> {
    pub(super) fn load(
        &self,
        place: &Spanned<LoadFile>,
        models: &[SimulatedModel],
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

    fn trace(&self, file: &LoadFile, models: &[SimulatedModel]) -> Result<Option<Trace>> {
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
}
