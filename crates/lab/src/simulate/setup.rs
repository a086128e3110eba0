//! What is simulated, validated: everything that the commands vary is a plain field here.

use super::delays::{delay, median, sigma};
use super::input::BadInput;
use super::limits::{ACCELERATORS_MAX, MESSAGE_US_MAX, MILLIS_MAX, MODELS_MAX, SIGMA_MAX};
use super::model::SimulatedModel;
use super::parameter::{Measure, Parameter};
use super::trace::Trace;
use anyhow::Result;
use std::sync::Arc;
use symphony_core::sched::ModelTerms;
use symphony_core::{ModelId, Objective, Span};
use symphony_sim::goodput::OfferedLoad;
use symphony_sim::{
    ClockError, Drift, Network, Noise, Observed, PolicyKind, Report, Scenario, Split, run_observed,
};
use symphony_workload::{Arrivals, Popularity, Process, Schedule, Stream};

/// A scenario of models, accelerators and load.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) accelerators: u32,
    /// The policies that the file asks for; may be empty.
    pub(super) policies: Vec<PolicyKind>,
    /// At least one.
    pub(super) seeds: Vec<u64>,
    pub(super) warmup: Span,
    pub(super) measured: Span,
    /// At least one.
    pub(super) models: Vec<SimulatedModel>,
    pub(super) load: Load,
    pub(super) network: Network,
    pub(super) clock_error: ClockError,
    /// Relative spread of execution times.
    pub(super) execution_sigma: f64,
    /// What else machines do to execution times and timers.
    pub(super) noise: Noise,
    /// How execution times change while it runs.
    pub(super) drift: Drift,
    /// Whether plans follow them.
    pub(super) adapt_profile: bool,
    /// What the scheduler's own policies keep for low requests that wait.
    pub(super) low_priority_share: f64,
    /// How the own rules are split over parties that send each other messages.
    pub(super) split: Option<Split>,
    pub(super) sweep: Option<Sweep>,
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Requests per second in total; commands that search for a rate need none.
    pub(super) rate: Option<f64>,
    /// What to say where one is needed.
    pub(super) rate_missing: String,
    pub(super) popularity: Popularity,
    pub(super) process: Process,
    pub(super) schedule: Schedule,
    /// Recorded requests instead of generated ones.
    pub(super) trace: Option<Trace>,
}

#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub(super) parameter: Parameter,
    /// Positive and growing.
    pub(super) values: Vec<f64>,
    /// At least one.
    pub(super) measures: Vec<Measure>,
}

impl Setup {
    /// The policies to run: those of the command line, or those of the file, or `consolidate`.
    pub(super) fn policies(&self, asked: &[PolicyKind]) -> Vec<PolicyKind> {
        let chosen = if asked.is_empty() { &self.policies } else { asked };
        let mut unique: Vec<PolicyKind> = Vec::new();
        for policy in chosen {
            if !unique.contains(policy) {
                unique.push(*policy);
            }
        }
        if unique.is_empty() { vec![PolicyKind::Consolidate] } else { unique }
    }

    /// Runs at this rate instead.
    ///
    /// # Errors
    /// It is not a positive number.
    pub(super) fn replace_rate(&mut self, rate: f64) -> Result<()> {
        if !(1e-3..=1e9).contains(&rate) {
            return Err(BadInput::error(format!("rate {rate}: give 0.001 to 1e9 per second")));
        }
        self.load.rate = Some(rate);
        Ok(())
    }

    /// Runs on so many accelerators instead, if a number is given.
    ///
    /// # Errors
    /// There cannot be so many.
    pub(super) fn replace_accelerators(&mut self, number: Option<u32>) -> Result<()> {
        if let Some(number) = number {
            let parameter = Parameter::Accelerators;
            self.accelerators = whole(parameter, f64::from(number), ACCELERATORS_MAX)?;
        }
        Ok(())
    }

    /// Runs with these seeds instead, if there are any.
    pub(super) fn replace_seeds(&mut self, seeds: &[u64]) {
        if !seeds.is_empty() {
            self.seeds = seeds.to_vec();
        }
    }

    /// Requests per second in total; those of a trace as it was recorded, unless told otherwise.
    ///
    /// # Errors
    /// The scenario names no rate and has no trace.
    pub(super) fn rate(&self) -> Result<f64> {
        let recorded = self.load.trace.as_ref().map(Trace::rate);
        let rate = self.load.rate.or(recorded);
        rate.ok_or_else(|| BadInput::error(&self.load.rate_missing))
    }

    /// Each model's part of the load; they sum to one.
    ///
    /// # Errors
    /// The weights are not as many as the models.
    pub(super) fn shares(&self) -> Result<Vec<f64>> {
        match &self.load.trace {
            Some(trace) => Ok(trace.shares()),
            None => self.load.popularity.shares(self.models.len()).map_err(BadInput::error),
        }
    }

    /// Rows of each model that come with one request of the load, on average.
    ///
    /// # Errors
    /// The weights are not as many as the models.
    pub(super) fn rows(&self) -> Result<Vec<f64>> {
        let shares = self.shares()?;
        Ok(match &self.load.trace {
            Some(trace) => {
                shares.iter().zip(trace.rows()).map(|(share, rows)| share * rows).collect()
            }
            None => shares,
        })
    }

    /// How many times faster than recorded a trace runs at a rate.
    pub(super) fn speed(&self, rate: f64) -> f64 {
        self.load.trace.as_ref().map_or(1.0, |trace| trace.speed(rate))
    }

    /// The simulator's view of it at a rate, in requests per second.
    ///
    /// # Errors
    /// Nothing of its trace would be measured.
    pub(super) fn scenario(&self, rate: f64) -> Result<Scenario> {
        let terms = |model: &SimulatedModel| ModelTerms {
            profile: Arc::clone(&model.profile),
            objective: model.objective,
            queue_max: u32::MAX,
            loss_weight: model.loss_weight,
            lane_of: None,
        };
        let models = self.models.iter().map(terms).collect();
        let (warmup, measured) = match &self.load.trace {
            Some(trace) => trace.window(self.warmup, self.measured, rate)?,
            None => (self.warmup, self.measured),
        };
        let mut scenario = Scenario::ideal(models, self.accelerators, warmup, measured);
        for (sim, model) in scenario.models.iter_mut().zip(&self.models) {
            sim.mix = model.mix;
            sim.sizes.clone_from(&model.sizes);
        }
        Ok(Scenario {
            network: self.network,
            clock_error: self.clock_error,
            execution_sigma: self.execution_sigma,
            noise: self.noise.clone(),
            drift: self.drift.clone(),
            adapt_profile: self.adapt_profile,
            low_priority_share: self.low_priority_share,
            split: self.split,
            ..scenario
        })
    }

    /// Every model's requests; the rates are shares of the total.
    ///
    /// # Errors
    /// The weights are not as many as the models.
    fn streams(&self) -> Result<OfferedLoad> {
        let streams = (0u32..).zip(self.shares()?).filter(|(_, share)| *share > 0.0);
        let stream = |(number, share)| Stream {
            schedule: self.load.schedule.clone(),
            ..Stream::steady(ModelId::first(number), self.load.process, share)
        };
        Ok(OfferedLoad { streams: streams.map(stream).collect() })
    }

    /// Requests per second in total that no schedule passes: every model always runs the largest
    /// batch that its objective allows.
    ///
    /// # Errors
    /// The weights are not as many as the models.
    pub(super) fn bound(&self) -> Result<f64> {
        let bimodal = self.noise.bimodal;
        let per_request =
            |(model, part): (&SimulatedModel, f64)| part * model.seconds_per_row(bimodal);
        let work: f64 = self.models.iter().zip(self.rows()?).map(per_request).sum();
        Ok(f64::from(self.accelerators) / work)
    }

    /// One run at a rate, in requests per second. Equal seeds are equal requests, whatever the
    /// policy.
    ///
    /// # Errors
    /// A model's part of the rate cannot be simulated, or the trace cannot be read.
    pub(super) fn simulate(&self, policy: PolicyKind, rate: f64, seed: u64) -> Result<Report> {
        self.observe(policy, rate, seed, |_| {})
    }

    /// Like [`Setup::simulate`], and shows every step to `observe`.
    ///
    /// # Errors
    /// As there.
    pub(super) fn observe(
        &self,
        policy: PolicyKind,
        rate: f64,
        seed: u64,
        observe: impl FnMut(Observed<'_>),
    ) -> Result<Report> {
        let scenario = self.scenario(rate)?;
        if let Some(trace) = &self.load.trace {
            return trace.run(&scenario, policy, (rate, seed), observe);
        }
        let streams = self.streams()?;
        let arrivals = Arrivals::new(&streams.at(rate), seed).map_err(BadInput::error)?;
        let mut policy = policy.build(&scenario, &streams.rates(rate, self.models.len()));
        Ok(run_observed(&scenario, &mut *policy, arrivals, seed, observe))
    }

    /// The same with one parameter changed.
    ///
    /// # Errors
    /// The value is not one that the parameter can have.
    pub(super) fn with(&self, parameter: Parameter, value: f64) -> Result<Setup> {
        let mut setup = self.clone();
        match parameter {
            Parameter::Accelerators => {
                setup.accelerators = whole(parameter, value, ACCELERATORS_MAX)?
            }
            Parameter::Rate => setup.replace_rate(value)?,
            Parameter::SloMs => setup.replace_slo(value)?,
            Parameter::Cv => {
                self.needs_generated_load(parameter)?;
                setup.load.process = Process::Gamma { cv: within(parameter, value, 0.01, 100.0)? };
            }
            Parameter::Sigma => {
                setup.execution_sigma = within(parameter, value, 0.0, SIGMA_MAX)?;
            }
            Parameter::Models => {
                self.needs_generated_load(parameter)?;
                let first = &self.models[0];
                let copy = |number| SimulatedModel {
                    name: format!("{}-{number}", first.name),
                    ..first.clone()
                };
                setup.models = (0..whole(parameter, value, MODELS_MAX)?).map(copy).collect();
                if let Popularity::Weights(_) = setup.load.popularity {
                    setup.load.popularity = Popularity::Uniform;
                }
            }
            Parameter::ControlMs | Parameter::DataMs | Parameter::ResponseMs => {
                let median = Span::from_millis_f64(within(parameter, value, 0.0, MILLIS_MAX)?);
                if let Some(changed) = parameter.delay(&mut setup.network) {
                    *changed = delay(median, sigma(*changed));
                }
            }
            Parameter::ControlSigma | Parameter::DataSigma | Parameter::ResponseSigma => {
                let sigma = within(parameter, value, 0.0, SIGMA_MAX)?;
                if let Some(changed) = parameter.delay(&mut setup.network) {
                    if median(*changed) == Span::ZERO {
                        let title = parameter.title();
                        return Err(BadInput::error(format!(
                            "{title}: there is no such delay; give its median_ms in [network]"
                        )));
                    }
                    *changed = delay(median(*changed), sigma);
                }
            }
            Parameter::MessageUs => {
                let us = within(parameter, value, 0.0, MESSAGE_US_MAX)?;
                let Some(split) = &mut setup.split else {
                    let title = parameter.title();
                    return Err(BadInput::error(format!(
                        "{title}: there are no messages; give shards and message_us in [split]"
                    )));
                };
                let median = Span::from_millis_f64(us / 1e3);
                split.message = delay(median, sigma(split.message));
            }
        }
        Ok(setup)
    }

    /// # Errors
    /// Some model takes longer alone.
    fn replace_slo(&mut self, slo_ms: f64) -> Result<()> {
        let slo = Span::from_millis_f64(within(Parameter::SloMs, slo_ms, 0.001, MILLIS_MAX)?);
        for model in &mut self.models {
            if slo < model.profile.exec(1) {
                let (name, alone) = (&model.name, model.profile.exec(1));
                return Err(BadInput::error(format!(
                    "slo-ms = {slo_ms}: model {name:?} takes {alone} alone, l(1)"
                )));
            }
            model.objective = Objective::Slo(slo);
        }
        Ok(())
    }

    /// # Errors
    /// The requests come from a trace, which fixes whose they are and when they come.
    fn needs_generated_load(&self, parameter: Parameter) -> Result<()> {
        match self.load.trace {
            None => Ok(()),
            Some(_) => Err(BadInput::error(format!(
                "{}: a trace has its own; give load.rate and load.process instead of load.trace",
                parameter.title()
            ))),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, checked")]
fn whole(parameter: Parameter, value: f64, max: u32) -> Result<u32> {
    if value.fract() == 0.0 && (1.0..=f64::from(max)).contains(&value) {
        return Ok(value as u32);
    }
    let title = parameter.title();
    Err(BadInput::error(format!("{title} = {value}: give a whole number from 1 to {max}")))
}

fn within(parameter: Parameter, value: f64, low: f64, high: f64) -> Result<f64> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    let title = parameter.title();
    Err(BadInput::error(format!("{title} = {value}: give a number from {low} to {high}")))
}
