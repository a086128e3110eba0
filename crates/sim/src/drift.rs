//! Execution times that drift during a simulation: another process runs on the same device, or the
//! device slows down as it gets hot.

use symphony_core::{AcceleratorId, Span, Time};

/// A change of execution times on all or some accelerators.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When the change begins.
    pub at: Time,
    /// From then on executions take this many times the profile's time; more than zero.
    pub factor: f64,
    /// How long the change takes, linearly; zero for a step.
    pub over: Span,
    /// The accelerators that change; `None` for all.
    pub accelerators: Option<Vec<u32>>,
}

/// Changes in the order in which they begin. A change that begins before the last one has ended
/// starts from the factor reached by then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drift {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Drift {
    /// The factor on the profile's time for an execution that begins at `now`.
    #[must_use]
    pub fn factor(&self, now: Time, accelerator: AcceleratorId) -> f64 {
        let mine = |change: &&Change| {
            change.accelerators.as_ref().is_none_or(|some| some.contains(&accelerator.0))
        };
        let mut changes = self.changes.iter().filter(mine).peekable();
        let mut factor = 1.0;
        while let Some(change) = changes.next_if(|change| change.at <= now) {
            let until = changes.peek().map_or(now, |next| next.at.min(now));
            let passed = until.since(change.at);
            let share = match change.over {
                over if passed >= over => 1.0,
                over => passed.0 as f64 / over.0 as f64,
            };
            factor += (change.factor - factor) * share;
        }
        factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_ramps_and_some_accelerators() {
        let change = |at, factor, over, accelerators: Option<&[u32]>| Change {
            at: Time(at),
            factor,
            over: Span(over),
            accelerators: accelerators.map(<[u32]>::to_vec),
        };
        let drift = Drift {
            changes: vec![
                change(10, 2.0, 0, Some(&[1])),
                change(20, 1.5, 10, None),
                change(25, 1.0, 5, None),
            ],
        };
        let at = |time, accelerator| drift.factor(Time(time), AcceleratorId(accelerator));
        let factors = [at(9, 1), at(10, 1), at(10, 0), at(22, 0), at(25, 0), at(30, 0), at(99, 1)];
        assert_eq!(
            factors.map(|f| format!("{f:.2}")).join(" "),
            "1.00 2.00 1.00 1.10 1.25 1.00 1.00"
        );
        assert_eq!(Drift::default().factor(Time(5), AcceleratorId(0)).to_bits(), 1f64.to_bits());
    }
}
