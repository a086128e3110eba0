//! Delays measured on the running system, as the scheduler's plans need them.

use std::collections::HashMap;
use symphony_core::{Delays, ModelId, Span};
use symphony_wire::schedule::Completion;

/// The newest samples of one delay, and a high percentile of them.
#[derive(Clone, Debug)]
struct Samples {
    ring: [Span; SAMPLES],
    taken: usize,
}

/// Samples remembered of each delay.
const SAMPLES: usize = 256;
/// Plans count with the delay that this share of the samples kept.
const QUANTILE_PERCENT: usize = 99;
/// Percentiles are computed again after so many samples; at first more often.
const SAMPLES_PER_UPDATE: u64 = 32;
/// From the backend's outcome to the client's socket: the part nobody in the scheduler sees.
const RESPONSE_MIN: Span = Span::from_micros(200);
/// How late timers are taken to be before one has fired.
const JITTER_UNMEASURED: Span = Span::from_micros(500);

impl Samples {
    fn new() -> Samples {
        Samples { ring: [Span::ZERO; SAMPLES], taken: 0 }
    }

    fn push(&mut self, sample: Span) {
        self.ring[self.taken % SAMPLES] = sample;
        self.taken += 1;
    }

    /// The percentile that plans count with; `None` before the first sample.
    fn high(&self) -> Option<Span> {
        let count = self.taken.min(SAMPLES);
        let at = count.checked_sub(1)? * QUANTILE_PERCENT / 100;
        let mut sorted = self.ring;
        Some(*sorted[..count].select_nth_unstable(at).1)
    }
}

/// What completions and timers teach about delays.
#[derive(Debug)]
pub(crate) struct Meter {
    control: Samples,
    response: Samples,
    timer: Samples,
    overruns: HashMap<ModelId, Samples>,
    samples: u64,
}

impl Meter {
    pub(crate) fn new() -> Meter {
        Meter {
            control: Samples::new(),
            response: Samples::new(),
            timer: Samples::new(),
            overruns: HashMap::new(),
            samples: 0,
        }
    }

    /// The scheduler woke up this long after it wanted to.
    pub(crate) fn timer_fired(&mut self, late: Span) {
        self.timer.push(late);
        self.samples += 1;
    }

    /// A batch ended; `control` is how long it took to reach an accelerator that was idle.
    pub(crate) fn completed(
        &mut self,
        model: ModelId,
        completion: &Completion,
        control: Option<Span>,
        planned: Span,
    ) {
        if let Some(control) = control {
            self.control.push(control);
        }
        let after = completion.finished.since(completion.taken).saturating_sub(completion.exec);
        self.response.push(after);
        let overrun = self.overruns.entry(model).or_insert_with(Samples::new);
        overrun.push(completion.exec.saturating_sub(planned));
        self.samples += 1;
    }

    /// Whether it is time to take over what was measured: after each of the first samples, then
    /// from time to time.
    pub(crate) fn is_due(&self) -> bool {
        self.samples.is_power_of_two() || self.samples.is_multiple_of(SAMPLES_PER_UPDATE)
    }

    /// The delays of the pool.
    pub(crate) fn delays(&self) -> Delays {
        Delays {
            control: self.control.high().unwrap_or_default(),
            data: Span::ZERO, // in one process inputs are at hand; placing them is part of `exec`
            response: self.response.high().unwrap_or_default() + RESPONSE_MIN,
            jitter: self.timer.high().unwrap_or(JITTER_UNMEASURED),
        }
    }

    /// How much longer than planned the batches of each model run.
    pub(crate) fn overruns(&self) -> impl Iterator<Item = (ModelId, Span)> {
        let overrun = |samples: &Samples| samples.high().unwrap_or_default();
        self.overruns.iter().map(move |(model, samples)| (*model, overrun(samples)))
    }

    pub(crate) fn forget(&mut self, model: ModelId) {
        self.overruns.remove(&model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_percentile_is_of_the_newest_samples() {
        let mut samples = Samples::new();
        assert_eq!(samples.high(), None);
        samples.push(Span(1000));
        assert_eq!(samples.high(), Some(Span(1000)));
        (0..SAMPLES as u64).for_each(|i| samples.push(Span(i)));
        assert_eq!(samples.high(), Some(Span(252)));
    }
}
