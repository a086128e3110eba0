//! Requests of one model that differ: some have low priority, and some have a deadline of their
//! own. The kind of a request depends only on the seed and its number, so every policy receives the
//! same ones.

use symphony_core::{Class, RequestId, Span};
use symphony_workload::random::Random;

/// The shares of each kind among a model's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// The share of requests of low priority, 0 to 1.
    pub low_share: f64,
    /// The requests with a deadline that is earlier than the model's objective.
    pub tight: Option<Tight>,
}

/// Requests with a deadline of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tight {
    /// Their share, 0 to 1.
    pub share: f64,
    /// The time from their arrival to their deadline.
    pub due: Span,
}

/// The kind of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestKind {
    pub(crate) class: Class,
    /// Its own objective, if it has one.
    pub(crate) tight: Option<Span>,
}

impl Mix {
    /// The kind of request `id` in the run with this seed.
    pub(crate) fn kind(&self, seed: u64, id: RequestId) -> RequestKind {
        if *self == Mix::default() {
            return RequestKind::default();
        }
        let mut random = Random::numbered(seed.rotate_left(32), id.number());
        let (low, tight) = (random.uniform(), random.uniform());
        RequestKind {
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
            let kinds: Vec<RequestKind> =
                (0..20_000).map(|id| mix.kind(7, RequestId::only(id))).collect();
            let share = |is: fn(&RequestKind) -> bool| {
                kinds.iter().filter(|kind| is(kind)).count() as f64 / kinds.len() as f64
            };
            assert!((share(|kind| kind.class == Class::Low) - low_share).abs() < 0.01);
            assert!((share(|kind| kind.tight.is_some()) - tight_share).abs() < 0.01);
        };
        check(0.0, 1.0);
        check(0.3, 0.1);
        check(1.0, 0.0);
        assert_eq!(Mix::default().kind(7, RequestId::only(1)), RequestKind::default());
    }
}
