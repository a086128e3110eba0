//! How long an accelerator lies idle between two batches of which the second was planned before the first
//! ended: what the cluster around it costs in work that it could do.

use std::collections::VecDeque;
use symphony_core::{Span, Time};
use symphony_wire::message::GapFigures;

/// So many of the newest gaps count.
const NEWEST: usize = 256;
/// How often somebody is told.
const TELL_EVERY: Span = Span::from_secs(1);

/// When the batch that begins was planned, and when its inputs were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its plan came.
    pub planned: Time,
    /// Nothing was missing to run it.
    pub inputs: Time,
}

/// One gap.
#[derive(Clone, Copy, Debug)]
struct IdleGap {
    length: Span,
    /// How much of it passed before the inputs were there.
    inputs: Span,
}

/// The gaps of one accelerator.
#[derive(Debug, Default)]
pub(super) struct IdleGaps {
    /// When the last batch ended.
    ended: Option<Time>,
    newest: VecDeque<IdleGap>,
    count: u64,
    told: Option<Time>,
}

impl IdleGaps {
    /// A batch begins.
    pub(super) fn began(&mut self, now: Time, ready: Ready) {
        let Some(ended) = self.ended.filter(|ended| ready.planned <= *ended) else { return };
        let length = now.since(ended);
        if self.newest.len() == NEWEST {
            self.newest.pop_front();
        }
        let inputs = ready.inputs.since(ended).min(length);
        self.newest.push_back(IdleGap { length, inputs });
        self.count += 1;
    }

    /// A batch has ended. Returns what is to be told now, if anything is.
    pub(super) fn ended(&mut self, now: Time) -> Option<GapFigures> {
        self.ended = Some(now);
        let told = *self.told.get_or_insert(now);
        if self.newest.is_empty() || now.since(told) < TELL_EVERY {
            return None;
        }
        self.told = Some(now);
        Some(self.figures())
    }

    fn figures(&self) -> GapFigures {
        let mut lengths: Vec<_> = self.newest.iter().map(|gap| gap.length).collect();
        lengths.sort_unstable();
        let count = lengths.len().max(1) as u64;
        let mean = |of: fn(&IdleGap) -> Span| {
            Span(self.newest.iter().map(|gap| of(gap).0).sum::<u64>() / count)
        };
        GapFigures {
            count: self.count,
            mean: mean(|gap| gap.length),
            p95: lengths.get(lengths.len() * 95 / 100).copied().unwrap_or_default(),
            inputs: mean(|gap| gap.inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(planned: u64, inputs: u64) -> Ready {
        Ready { planned: Time(planned), inputs: Time(inputs) }
    }

    #[test]
    fn a_gap_counts_when_the_next_batch_was_planned_before_it() {
        let mut gaps = IdleGaps::default();
        gaps.began(Time(100), ready(50, 60));
        assert_eq!(gaps.ended(Time(200)), None);
        gaps.began(Time(210), ready(150, 160));
        assert_eq!(gaps.ended(Time(300)), None, "somebody was told too lately");
        gaps.began(Time(400), ready(301, 350));
        assert_eq!(gaps.ended(Time(500)), None, "planned when the accelerator was idle already");
        gaps.began(Time(530), ready(400, 520));
        let figures = gaps.ended(Time(200) + TELL_EVERY).unwrap();
        let expected = GapFigures { count: 2, mean: Span(20), p95: Span(30), inputs: Span(10) };
        assert_eq!(figures, expected);
    }

    #[test]
    fn only_the_newest_count() {
        let mut gaps = IdleGaps::default();
        for gap in 0..1000u64 {
            let at = gap * 10_000;
            gaps.began(Time(at + gap), ready(0, 0));
            let _ = gaps.ended(Time(at + 10_000));
        }
        let figures = gaps.figures();
        assert_eq!(gaps.newest.len(), NEWEST);
        assert_eq!((figures.count, figures.mean), (999, Span(871)));
    }
}
