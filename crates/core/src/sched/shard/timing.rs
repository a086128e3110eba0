//! How one model's batches are timed: the execution times, delays and allowances that its plans
//! count with.
//!
//! In: the loaded profile, measured delays, slowdown and spread. Out: a [`Timing`] for each stage on
//! the way from an offer to a sealed batch.

use crate::profile::Profile;
use crate::request::Delays;
use crate::sched::margins::Margins;
use crate::sched::timing::Timing;
use crate::slowdown::Slowdown;
use crate::time::Span;

/// How far a batch has come on its way to an accelerator, which tells what of the control delay is
/// still ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its shard offers it: the candidate has to reach the matcher, and the grant to come back.
    Offered,
    /// The matcher grants it: the grant has to come back.
    Granted,
    /// The grant has come.
    Sealed,
}

impl Stage {
    /// Messages between shard and matcher that are behind it.
    fn messages(self) -> u64 {
        match self {
            Stage::Offered => 0,
            Stage::Granted => 1,
            Stage::Sealed => 2,
        }
    }
}

/// The timing of one model.
#[derive(Clone, Debug)]
pub(super) struct ModelTiming {
    slo: Span,
    /// Execution times at the model's planned slowdown.
    profile: Profile,
    /// The pool's delays, as far as the objective has room for them, from an offer on.
    delays: Delays,
    /// How long a message between shard and matcher takes, as far as the objective has room.
    message: Span,
    /// What a request needs at least from its arrival to its deadline: as a rule, and where the
    /// shard is behind.
    least: [Span; 2],
    /// How much more than the mean counts for being in time.
    margins: Margins,
    /// The spread and the rate of rows that the margins are for.
    spread: f64,
    rows_per_ns: f64,
}

impl ModelTiming {
    /// The timing of a model with this loaded profile, in a pool with these delays.
    pub(super) fn new(slo: Span, profile: Profile, delays: &Delays, message: Span) -> ModelTiming {
        let mut timing = ModelTiming {
            slo,
            profile,
            delays: Delays::default(),
            message: Span::ZERO,
            least: [Span::ZERO; 2],
            margins: Margins::NONE,
            spread: 0.0,
            rows_per_ns: 0.0,
        };
        timing.set_delays(delays, message);
        timing
    }

    /// The profile at the model's planned slowdown.
    #[inline]
    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How long a message between shard and matcher takes.
    #[inline]
    pub(super) fn message(&self) -> Span {
        self.message
    }

    /// What counts at this stage.
    #[inline]
    pub(super) fn at(&self, stage: Stage) -> Timing<'_> {
        let delays = self.delays_at(stage);
        Timing { profile: &self.profile, delays, margins: self.margins }
    }

    /// The delays that are ahead at this stage.
    #[inline]
    pub(super) fn delays_at(&self, stage: Stage) -> Delays {
        let passed = self.message.times(stage.messages());
        Delays { control: self.delays.control.saturating_sub(passed), ..self.delays }
    }

    /// Plans with this slowdown and these delays from now on.
    #[inline]
    pub(super) fn set_slowdown(&mut self, slowdown: Slowdown, delays: &Delays, message: Span) {
        self.profile.set_slowdown(slowdown);
        self.set_delays(delays, message);
    }

    /// Plans with another loaded profile, at this slowdown, whose times have this spread, and these
    /// delays from now on.
    pub(super) fn set_profile(
        &mut self,
        (profile, spread): (Profile, f64),
        delays: &Delays,
        message: Span,
    ) {
        (self.profile, self.spread) = (profile, spread);
        self.find_margins();
        self.set_delays(delays, message);
    }

    /// Plans with these delays from now on, as far as the objective has room for them.
    pub(super) fn set_delays(&mut self, delays: &Delays, message: Span) {
        (self.delays, self.message) = within_objective(delays, message, self.slo, &self.profile);
        self.find_least();
    }

    fn find_least(&mut self) {
        let luckiest = self.margins.luck.stretch(self.profile.exec(1));
        let least = luckiest + self.delays.lead(1) + self.delays.response;
        self.least = [least, least + Span(self.slo.saturating_sub(least).0 / 2)];
    }

    /// How much more than the mean counts for being in time.
    #[inline]
    pub(super) fn margins(&self) -> Margins {
        self.margins
    }

    /// Plans with margins for this spread of execution times, at this rate of rows, from now on. What is
    /// little different from before changes nothing.
    #[inline]
    pub(super) fn follow_spread(&mut self, spread: f64, rows_per_ns: f64) {
        let is_same_rate = spread <= 0.0 || is_near(rows_per_ns, self.rows_per_ns);
        if !is_near(spread, self.spread) || !is_same_rate {
            (self.spread, self.rows_per_ns) = (spread, rows_per_ns);
            self.find_margins();
        }
    }

    fn find_margins(&mut self) {
        self.margins = Margins::new(self.spread, self.rows_per_ns * self.per_row());
        self.find_least();
    }

    /// What another row adds to a batch, in nanoseconds, on average over all batches that meet the
    /// objective.
    fn per_row(&self) -> f64 {
        let rows = self.profile.rows_within(self.slo).max(2).min(self.profile.rows_max());
        let added = self.profile.exec(rows).saturating_sub(self.profile.exec(1));
        added.0 as f64 / f64::from(rows.saturating_sub(1).max(1))
    }

    /// What a request needs at least from its arrival to its deadline.
    #[inline]
    pub(super) fn least(&self) -> Span {
        self.least[0]
    }

    /// The same, where the shard may be behind.
    #[inline]
    pub(super) fn least_now(&self, is_behind: bool) -> Span {
        self.least[usize::from(is_behind)]
    }
}

/// Whether a number is another only by a sixteenth.
fn is_near(number: f64, known: f64) -> bool {
    (number - known).abs() * 16.0 <= known
}

/// The delays together with those of a message and its answer, and a message's own, shrunk to three
/// quarters of what the objective leaves beside execution. Delays that were measured in a bad moment
/// and taken whole could make every request hopeless; then no batch would run, and nothing would be
/// measured again.
fn within_objective(
    delays: &Delays,
    message: Span,
    slo: Span,
    profile: &Profile,
) -> (Delays, Span) {
    let left = slo.saturating_sub(profile.exec(1));
    let all = Delays { control: delays.control + message.times(2), ..*delays };
    let all = all.within(Span(left.0 / 4 * 3));
    (all, message.min(Span(all.control.0 / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Span = Span::from_millis;

    fn timing(control: Span, message: Span) -> ModelTiming {
        let profile = Profile::linear(MS(1), MS(3), 8).expect("valid profile");
        let delays = Delays { control, ..Delays::default() };
        ModelTiming::new(MS(20), profile, &delays, message)
    }

    #[test]
    fn each_message_that_has_arrived_is_no_delay_any_more() {
        let timing = timing(MS(2), MS(1));
        let stages = [Stage::Offered, Stage::Granted, Stage::Sealed];
        let control = stages.map(|stage| timing.delays_at(stage).control);
        assert_eq!(control, [MS(4), MS(3), MS(2)]);
        assert_eq!(timing.least(), MS(8));
        assert_eq!(timing.least_now(true), MS(14), "half of the 12 ms that are left");
    }

    #[test]
    fn delays_never_take_more_than_three_quarters_of_the_room() {
        let timing = timing(MS(500), MS(1));
        assert_eq!(timing.delays_at(Stage::Offered).control, MS(12));
        assert!(timing.least() <= MS(16));
    }

    #[test]
    fn what_may_end_early_needs_less_at_least() {
        let mut timing = timing(MS(2), Span::ZERO);
        assert_eq!(timing.least(), MS(6));
        timing.follow_spread(0.25, 1e-6);
        assert_eq!(timing.least(), MS(5), "four less a deviation");
        let margins = timing.margins();
        assert_eq!(margins, Margins::new(0.25, 1.0), "a row takes a millisecond");
        timing.follow_spread(0.26, 1.05e-6);
        assert_eq!(timing.margins(), margins, "next to nothing");
        timing.follow_spread(0.25, 2e-6);
        assert_eq!(timing.margins(), Margins::new(0.25, 2.0));
    }
}
