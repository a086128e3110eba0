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
/// Rows of a large batch.
const ROWS_LARGE: u64 = 32;
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

/// How long the inputs of the newest batches were on their way, and of how many rows.
#[derive(Clone, Debug)]
struct InputSamples {
    ring: [(u32, Span); SAMPLES],
    taken: usize,
}

/// The way of a batch's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InputDelay {
    /// What each row adds.
    row: Span,
    /// What any batch takes.
    batch: Span,
}

impl InputSamples {
    fn new() -> InputSamples {
        InputSamples { ring: [(0, Span::ZERO); SAMPLES], taken: 0 }
    }

    fn push(&mut self, rows: u32, data: Span) {
        self.ring[self.taken % SAMPLES] = (rows.max(1), data);
        self.taken += 1;
    }

    /// The delay that plans count with: what a row adds is seen by comparing large batches with small
    /// ones, and the rest is the percentile of what they took beside it.
    fn high(&self) -> InputDelay {
        let mut newest = self.ring;
        let newest = &mut newest[..self.taken.min(SAMPLES)];
        if newest.iter().all(|(_, data)| *data == Span::ZERO) {
            return InputDelay::default(); // they are at hand
        }
        let row = added_by_row(newest);
        let mut rest = Samples::new();
        for (rows, data) in newest {
            rest.push(data.saturating_sub(row.times(u64::from(*rows))));
        }
        InputDelay { row, batch: rest.high().unwrap_or_default() }
    }
}

/// What each row adds, as a rule. Where all batches have as many rows, all of the delay is taken for
/// theirs, so that a larger batch, of which nothing is known, is given more time.
fn added_by_row(newest: &mut [(u32, Span)]) -> Span {
    newest.sort_unstable();
    let rows = newest.iter().map(|(rows, _)| u64::from(*rows)).sum::<u64>();
    let mean = rows / newest.len() as u64;
    let small = newest.partition_point(|(rows, _)| u64::from(*rows) <= mean);
    let (small, large) = newest.split_at_mut(small);
    let (few, short) = middle(small);
    if large.is_empty() {
        return Span(short.0 / u64::from(few));
    }
    let (many, long) = middle(large);
    Span(long.saturating_sub(short).0 / u64::from(many - few))
}

/// The rows of the middle one of some batches in order of their rows, and the middle of their delays.
fn middle(batches: &mut [(u32, Span)]) -> (u32, Span) {
    let middle = batches.len() / 2;
    let (rows, _) = batches[middle];
    let (_, (_, data), _) = batches.select_nth_unstable_by_key(middle, |(_, data)| *data);
    (rows, *data)
}

/// What completions, messages and timers teach one shard about delays.
#[derive(Debug)]
pub(crate) struct Meter {
    control: Samples,
    inputs: InputSamples,
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
            inputs: InputSamples::new(),
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

    /// A batch of so many rows ended; `control` is how long it took to reach an accelerator that was
    /// idle.
    pub(crate) fn completed(&mut self, completion: &Completion, rows: u32, control: Option<Span>) {
        if let Some(control) = control {
            self.control.push(control);
        }
        self.inputs.push(rows, completion.data);
        self.response.push(completion.response);
        self.rhythm.samples += 1;
    }

    /// Whether it is time to take over what was measured.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        self.rhythm.is_due(now)
    }

    /// The delays of the pool.
    pub(crate) fn delays(&self) -> Delays {
        let late = self.timer.high().unwrap_or(JITTER_UNMEASURED);
        let inputs = self.inputs.high();
        Delays {
            control: self.control.high().unwrap_or_default() + inputs.batch,
            data: inputs.row,
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
        // A little for each row is much for a large batch.
        let data = |delays: &Delays| delays.data.times(ROWS_LARGE);
        let parts =
            |delays: &Delays| [delays.control, data(delays), delays.response, delays.jitter];
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
    use symphony_core::{AcceleratorId, BatchId, ModelId};

    #[test]
    fn the_high_percentile_is_of_the_newest_samples() {
        let mut samples = Samples::new();
        assert_eq!(samples.high(), None);
        samples.push(Span(1000));
        assert_eq!(samples.high(), Some(Span(1000)));
        (0..256).for_each(|i| samples.push(Span(i)));
        assert_eq!(samples.high(), Some(Span(252)));
    }

    /// What is learned of batches with so many rows each, whose inputs were underway for
    /// `batch + row * rows`, and now and then for longer.
    fn learned(rows: &[u32], batch: u64, row: u64) -> InputDelay {
        let mut samples = InputSamples::new();
        for (at, rows) in rows.iter().cycle().take(300).enumerate() {
            let late = if at % 200 == 0 { 1_000_000 } else { 0 };
            samples.push(*rows, Span(batch + row * u64::from(*rows) + late));
        }
        samples.high()
    }

    #[test]
    fn what_rows_add_to_the_way_of_inputs_is_told_from_what_a_batch_takes() {
        assert_eq!(learned(&[1, 4, 8, 16, 2], 0, 0), InputDelay::default());
        let delay = |batch, row| InputDelay { batch: Span(batch), row: Span(row) };
        for rows in [&[1, 4, 8, 16, 2][..], &[1, 2], &[32, 31, 33, 32]] {
            assert_eq!(learned(rows, 90_000, 2_000), delay(90_000, 2_000), "{rows:?}");
            assert_eq!(learned(rows, 90_000, 0), delay(90_000, 0), "{rows:?}");
            assert_eq!(learned(rows, 0, 2_000), delay(0, 2_000), "{rows:?}");
        }
        assert_eq!(learned(&[4], 8_000, 1_000), delay(0, 3_000), "all are as large");
    }

    #[test]
    fn a_batch_that_had_to_wait_tells_how_long_its_inputs_took_and_no_more() {
        let mut meter = Meter::new();
        let batch = Completion::not_run(AcceleratorId(0), BatchId(1), ModelId::first(0));
        let ms = Span::from_millis;
        let batch = Completion { data: ms(3), exec: ms(5), response: ms(1), stay: ms(50), ..batch };
        meter.completed(&batch, 3, None);
        let Delays { control, data, response, .. } = meter.delays();
        assert_eq!((control, data, response), (ms(0), ms(1), ms(1) + RESPONSE_MIN));
        assert!(meter.changed_delays().is_some() && meter.changed_delays().is_none());
        let more = Completion { data: ms(6), ..batch };
        meter.completed(&more, 6, Some(ms(2)));
        assert_eq!(meter.changed_delays().map(|delays| delays.control), Some(ms(2)));
        assert_eq!(meter.told().data, ms(1));
    }
}
