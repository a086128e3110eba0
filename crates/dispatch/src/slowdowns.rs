//! What the log says of execution times that moved away from the profiles.

use std::collections::HashMap;
use symphony_core::{AcceleratorId, ModelId, Slowdown, Span, Time};

/// Whose executions changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A model's.
    Model(ModelId),
    /// All that run on an accelerator.
    Accelerator(AcceleratorId),
}

/// The slowdowns that were told last.
#[derive(Debug, Default)]
pub(crate) struct Slowdowns {
    told: HashMap<Subject, (Time, Slowdown)>,
}

/// Between two lines about the same subject: one that moves all the time must not fill the log.
const QUIET: Span = Span::from_secs(10);

impl Slowdowns {
    /// Whether there is something to tell: the slowdown is another one, and nothing was told of the
    /// subject for a while.
    pub(crate) fn is_news(&mut self, now: Time, subject: Subject, slowdown: Slowdown) -> bool {
        let told = self.told.get(&subject);
        let known = told.map_or(Slowdown::ONE, |(_, slowdown)| *slowdown);
        if slowdown == known || told.is_some_and(|(at, _)| now.since(*at) < QUIET) {
            return false;
        }
        self.told.insert(subject, (now, slowdown));
        true
    }

    /// Says it where there is something to tell.
    pub(crate) fn tell(&mut self, now: Time, subject: Subject, slowdown: Slowdown) {
        if !self.is_news(now, subject, slowdown) {
            return;
        }
        let slowdown = slowdown.as_f64();
        match subject {
            Subject::Model(model) => tracing::info!(
                id = %model,
                "this model's batches are planned to take {slowdown:.2} times what its profile says"
            ),
            Subject::Accelerator(accelerator) => tracing::info!(
                accelerator = accelerator.0,
                "batches on this accelerator take {slowdown:.2} times what they take on the others"
            ),
        }
    }

    pub(crate) fn forget(&mut self, model: ModelId) {
        self.told.remove(&Subject::Model(model));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told_and_not_too_often() {
        let mut slowdowns = Slowdowns::default();
        let at = |s| Time(Span::from_secs(s).0);
        let subject = Subject::Model(ModelId::first(3));
        let (slow, slower) = (Slowdown::ONE.scaled(3, 2), Slowdown::ONE.scaled(2, 1));
        assert!(!slowdowns.is_news(at(0), subject, Slowdown::ONE));
        assert!(slowdowns.is_news(at(1), subject, slow));
        assert!(!slowdowns.is_news(at(2), subject, slower), "too soon");
        assert!(!slowdowns.is_news(at(12), subject, slow), "nothing new");
        assert!(slowdowns.is_news(at(12), subject, Slowdown::ONE));
        assert!(slowdowns.is_news(at(12), Subject::Accelerator(AcceleratorId(3)), slow));
    }
}
