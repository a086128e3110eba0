//! Delays measured on the running system, as the scheduler's plans need them.

use symphony_core::{Delays, Span, Time};
use symphony_wire::message::Completion;

/// Samples remembered of each delay.
const SAMPLES: usize = 256;

/// The newest samples of one delay, and a high percentile of them.
#[derive(Clone, Debug)]
struct Samples {
    ring: [Span; SAMPLES],
    taken: usize,
}

/// Plans count with the delay that this share of the samples kept.
const QUANTILE_PERCENT: usize = 99;
/// Percentiles are computed again that often; at first more often.
const UPDATE_EVERY: Span = Span::from_millis(100);
/// So many samples are the first ones.
const SAMPLES_EARLY: u64 = 128;
/// A smaller difference is none.
const DIFFERENCE_MIN: Span = Span::from_micros(10);
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

/// What completions, messages and timers teach one shard about delays.
#[derive(Debug)]
pub(crate) struct Meter {
    control: Samples,
    response: Samples,
    timer: Samples,
    /// How late the matcher's timers fire, as it says.
    matcher_late: Span,
    message: Samples,
    rhythm: Rhythm,
    told: Option<Delays>,
    told_message: Span,
}

/// How late a thread's timers fire, for plans to count with.
#[derive(Debug)]
pub(crate) struct Lateness {
    timer: Samples,
    rhythm: Rhythm,
    told: Option<Span>,
}

/// When to take over what was measured: at first whenever there is twice as much of it, then from
/// time to time. Every window is computed again then.
#[derive(Debug, Default)]
struct Rhythm {
    samples: u64,
    /// Of these, taken over already.
    taken: u64,
    due: Time,
}

impl Rhythm {
    fn is_due(&mut self, now: Time) -> bool {
        let is_early = self.samples >= 2 * self.taken && self.taken < SAMPLES_EARLY;
        if self.samples == self.taken || !is_early && now < self.due {
            return false;
        }
        self.taken = self.samples;
        self.due = now + UPDATE_EVERY;
        true
    }
}

/// Whether plans should change for another value: a smaller difference is noise.
fn is_other(value: Span, told: Span) -> bool {
    let difference = value.0.abs_diff(told.0);
    difference > DIFFERENCE_MIN.0 && difference > told.0 / 16
}

impl Lateness {
    pub(crate) fn new() -> Lateness {
        Lateness { timer: Samples::new(), rhythm: Rhythm::default(), told: None }
    }

    /// It woke up this long after it wanted to; now and then, when it is another one than before,
    /// the lateness to plan with.
    pub(crate) fn record(&mut self, now: Time, late: Span) -> Option<Span> {
        self.timer.push(late);
        self.rhythm.samples += 1;
        if !self.rhythm.is_due(now) {
            return None;
        }
        let high = self.timer.high()?;
        if self.told.is_some_and(|told| !is_other(high, told)) {
            return None;
        }
        self.told = Some(high);
        self.told
    }
}

impl Meter {
    pub(crate) fn new() -> Meter {
        Meter {
            control: Samples::new(),
            response: Samples::new(),
            timer: Samples::new(),
            matcher_late: Span::ZERO,
            message: Samples::new(),
            rhythm: Rhythm::default(),
            told: None,
            told_message: Span::ZERO,
        }
    }

    /// The shard's thread woke up this long after it wanted to.
    pub(crate) fn timer_fired(&mut self, late: Span) {
        self.timer.push(late);
        self.rhythm.samples += 1;
    }

    /// The matcher's thread does so by that much.
    pub(crate) fn matcher_late(&mut self, late: Span) {
        self.matcher_late = late;
        self.rhythm.samples += 1;
    }

    /// A message of the matcher was underway for so long.
    pub(crate) fn message(&mut self, underway: Span) {
        self.message.push(underway);
    }

    /// A batch ended; `control` is how long it took to reach an accelerator that was idle.
    pub(crate) fn completed(&mut self, completion: &Completion, control: Option<Span>) {
        if let Some(control) = control {
            self.control.push(control);
        }
        self.response.push(completion.response());
        self.rhythm.samples += 1;
    }

    /// Whether it is time to take over what was measured.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        self.rhythm.is_due(now)
    }

    /// The delays of the pool.
    pub(crate) fn delays(&self) -> Delays {
        let late = self.timer.high().unwrap_or(JITTER_UNMEASURED);
        Delays {
            control: self.control.high().unwrap_or_default(),
            data: Span::ZERO, // in one process inputs are at hand; placing them is part of `exec`
            response: self.response.high().unwrap_or_default() + RESPONSE_MIN,
            jitter: late.max(self.matcher_late),
        }
    }

    /// The delays that plans count with now.
    pub(crate) fn told(&self) -> Delays {
        self.told.unwrap_or_else(|| self.delays())
    }

    /// The delays of the pool, if they are others than the last time.
    pub(crate) fn changed_delays(&mut self) -> Option<Delays> {
        let delays = self.delays();
        let parts = |delays: &Delays| [delays.control, delays.response, delays.jitter];
        let is_same = |told: Delays| {
            let pairs = parts(&delays).into_iter().zip(parts(&told));
            !pairs.into_iter().any(|(value, told)| is_other(value, told))
        };
        if self.told.is_some_and(is_same) {
            return None;
        }
        self.told = Some(delays);
        self.told
    }

    /// How long a message of the matcher is underway, if that is another span than the last time.
    pub(crate) fn changed_message(&mut self) -> Option<Span> {
        let message = self.message.high()?;
        let difference = message.0.abs_diff(self.told_message.0);
        if difference <= self.told_message.0 / 4 {
            return None;
        }
        self.told_message = message;
        Some(message)
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
        (0..256).for_each(|i| samples.push(Span(i)));
        assert_eq!(samples.high(), Some(Span(252)));
    }
}
