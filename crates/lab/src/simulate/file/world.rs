//! The sections of a scenario file about delays, clocks and execution times.

use super::reader::Reader;
use super::schema::{ChangeFile, DelayFile, NetworkFile, SplitFile};
use crate::simulate::delays::delay;
use crate::simulate::limits::{
    DRIFT_MAX, MESSAGE_US_MAX, MILLIS_MAX, SECONDS_MAX, SHARDS_MAX, SIGMA_MAX,
};
use anyhow::Result;
use symphony_core::{Span, Time};
use symphony_sim::{Change, ClockError, Delay, Drift, Network, Split};
use toml::Spanned;

impl Reader<'_> {
    pub(super) fn drift(
        &self,
        changes: &[Spanned<ChangeFile>],
        accelerators: u32,
    ) -> Result<Drift> {
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

    pub(super) fn network(&self, file: Option<&NetworkFile>) -> Result<Network> {
        let Some(file) = file else { return Ok(Network::default()) };
        Ok(Network {
            control: self.delay("network.control", file.control.as_ref())?,
            data: self.delay("network.data", file.data.as_ref())?,
            response: self.delay("network.response", file.response.as_ref())?,
        })
    }

    pub(super) fn delay(&self, key: &str, file: Option<&Spanned<DelayFile>>) -> Result<Delay> {
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

    pub(super) fn split(&self, file: &SplitFile) -> Result<Split> {
        let shards = self.count("split.shards", &file.shards, SHARDS_MAX)?;
        let us = self.number("split.message_us", &file.message_us, 0.0, MESSAGE_US_MAX)?;
        let spread = file
            .spread
            .as_ref()
            .map_or(Ok(0.0), |spread| self.number("split.spread", spread, 0.0, SIGMA_MAX))?;
        Ok(Split { shards, message: delay(Span::from_millis_f64(us / 1e3), spread) })
    }

    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    pub(super) fn clock_error(&self, file: Option<&NetworkFile>) -> Result<ClockError> {
        let number = |key, value: Option<&Spanned<f64>>, low| {
            value.map_or(Ok(0.0), |value| self.number(key, value, low, MILLIS_MAX))
        };
        let Some(file) = file else { return Ok(ClockError::default()) };
        let offset = number("network.clock_offset_ms", file.clock_offset_ms.as_ref(), -MILLIS_MAX)?;
        let sigma = number("network.clock_sigma_ms", file.clock_sigma_ms.as_ref(), 0.0)?;
        Ok(ClockError { offset_ns: (offset * 1e6) as i64, sigma: Span::from_millis_f64(sigma) })
    }
}
