//! Requests of one model that are not all alike: some of low priority, some with a deadline of
//! their own. Which is which follows from seed and number alone, so every policy sees the same.

use symphony_core::{Class, RequestId, Span};
use symphony_workload::random::Random;

/// What share of a model's requests is of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// Of low priority, 0 to 1.
    pub low_share: f64,
    /// With an earlier deadline than the model's objective gives.
    pub tight: Option<Tight>,
}

/// Requests with a deadline of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tight {
    /// How many they are, 0 to 1.
    pub share: f64,
    /// When they are due, from their arrival.
    pub due: Span,
}

/// One request's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) class: Class,
    /// Its own objective, if it has one.
    pub(crate) tight: Option<Span>,
}

impl Mix {
    /// The kind of request `id` in the run with this seed.
    pub(crate) fn kind(&self, seed: u64, id: RequestId) -> Kind {
        if *self == Mix::default() {
            return Kind::default();
        }
        let mut random = Random::numbered(seed.rotate_left(32), id.number());
        let (low, tight) = (random.uniform(), random.uniform());
        Kind {
            class: if low <= self.low_share { Class::Low } else { Class::High },
            tight: self.tight.filter(|own| tight <= own.share).map(|own| own.due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_given() {
        let due = Span::from_millis(12);
        let check = |low_share: f64, tight_share: f64| {
            let mix = Mix { low_share, tight: Some(Tight { share: tight_share, due }) };
            let kinds: Vec<Kind> = (0..20_000).map(|id| mix.kind(7, RequestId::only(id))).collect();
            let share = |is: fn(&Kind) -> bool| {
                kinds.iter().filter(|kind| is(kind)).count() as f64 / kinds.len() as f64
            };
            assert!((share(|kind| kind.class == Class::Low) - low_share).abs() < 0.01);
            assert!((share(|kind| kind.tight.is_some()) - tight_share).abs() < 0.01);
        };
        check(0.0, 1.0);
        check(0.3, 0.1);
        check(1.0, 0.0);
        assert_eq!(Mix::default().kind(7, RequestId::only(1)), Kind::default());
    }
}
