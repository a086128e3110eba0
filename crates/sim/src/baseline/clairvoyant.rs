//! The most requests that a scheduler which knows the future could answer in time: an upper bound
//! for small cases.
//!
//! The bound is exact, by dynamic programming over sets of requests. For one accelerator, the
//! earliest time at which it can have answered a whole set in time is the minimum over its last
//! batch. Several accelerators can answer a set if one can answer a part of it and the others the
//! rest. Finishing earlier never hurts what follows, so only the earliest time is kept. There are
//! no delays: a batch starts when its last request has arrived and its accelerator is free.

use symphony_core::{ModelId, Profile, Request, Time};

/// The largest number of requests. The search takes three to the power of this many steps.
pub const REQUESTS_MAX: usize = 12;

/// A case that is too large to search, or that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClairvoyantError {
    /// Too many requests.
    #[error("{requests} requests: the exhaustive search takes at most {REQUESTS_MAX}")]
    Requests {
        /// The number of requests.
        requests: usize,
    },
    /// A request of a model without a profile.
    #[error("a request of {model:?}, which has no profile: give one")]
    Model {
        /// Its model.
        model: ModelId,
    },
}

/// A set of requests, one bit each.
type Set = usize;

/// The largest number of these requests that any schedule on `accelerators` accelerators answers in
/// time. `profiles` holds the models' profiles by number.
///
/// # Errors
/// More than [`REQUESTS_MAX`] requests, or one of an unknown model.
pub fn clairvoyant(
    requests: &[(ModelId, Request)],
    profiles: &[&Profile],
    accelerators: u32,
) -> Result<u32, ClairvoyantError> {
    if requests.len() > REQUESTS_MAX {
        return Err(ClairvoyantError::Requests { requests: requests.len() });
    }
    if let Some(&(model, _)) = requests.iter().find(|(model, _)| model.index() >= profiles.len()) {
        return Err(ClairvoyantError::Model { model });
    }
    let one = on_one(requests, profiles);
    let mut feasible: Vec<bool> = (0..one.len()).map(|set| set == 0).collect();
    // More accelerators than requests add nothing.
    for _ in 0..accelerators.min(u32::try_from(REQUESTS_MAX).unwrap_or(u32::MAX)) {
        let with_one_more =
            |set: Set| subsets(set).any(|part| one[part].is_some() && feasible[set & !part]);
        feasible = (0..one.len()).map(with_one_more).collect();
    }
    let answered = (0..one.len()).filter(|&set| feasible[set]).map(Set::count_ones);
    Ok(answered.max().unwrap_or(0))
}

/// For each set, the earliest time at which one accelerator has answered all of it in time.
fn on_one(requests: &[(ModelId, Request)], profiles: &[&Profile]) -> Vec<Option<Time>> {
    let batches: Vec<_> = (0..1usize << requests.len())
        .map(|set| CandidateBatch::of(set, requests, profiles))
        .collect();
    let mut earliest: Vec<Option<Time>> = vec![Some(Time::ZERO)];
    for set in 1..batches.len() {
        let best = subsets(set)
            .filter_map(|last| batches[last].as_ref()?.end(earliest[set & !last]?))
            .min();
        earliest.push(best);
    }
    earliest
}

/// The subsets of a set without the empty one, the set itself first. The empty set has itself as
/// its only subset.
fn subsets(set: Set) -> impl Iterator<Item = Set> {
    std::iter::successors(Some(set), move |&part| {
        let next = part.wrapping_sub(1) & set;
        (part > 0 && next > 0).then_some(next)
    })
}

/// Requests of one model that run together.
struct CandidateBatch {
    arrival: Time,
    deadline: Time,
    exec: symphony_core::Span,
}

impl CandidateBatch {
    /// `None` for the empty set and for requests that cannot run together.
    fn of(
        set: Set,
        requests: &[(ModelId, Request)],
        profiles: &[&Profile],
    ) -> Option<CandidateBatch> {
        let members = || requests.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
        let model = members().next()?.1.0;
        let rows = members().map(|(_, (_, request))| request.rows).sum();
        let profile = profiles[model.index()];
        if members().any(|(_, (other, _))| *other != model) || rows > profile.rows_max() {
            return None;
        }
        Some(CandidateBatch {
            arrival: members().map(|(_, (_, request))| request.arrival).max()?,
            deadline: members().map(|(_, (_, request))| request.deadline).min()?,
            exec: profile.exec(rows),
        })
    }

    /// When the batch ends on an accelerator that is free from `free`; `None` when that is too
    /// late.
    fn end(&self, free: Time) -> Option<Time> {
        let end = free.max(self.arrival) + self.exec;
        (end <= self.deadline).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{Class, RequestId, Span};

    /// Requests of model 0 at these times, `l(b) = b + 5`, an objective of 12 (all in ms).
    fn answered(arrivals: &[u64], accelerators: u32) -> u32 {
        let ms = Span::from_millis;
        let profile = Profile::linear(ms(1), ms(5), 64).unwrap();
        let request = |&at: &u64| {
            let arrival = Time::ZERO + ms(at);
            let deadline = arrival + ms(12);
            (
                ModelId::first(0),
                Request { id: RequestId::only(at), arrival, deadline, rows: 1, class: Class::High },
            )
        };
        let requests: Vec<_> = arrivals.iter().map(request).collect();
        clairvoyant(&requests, &[&profile], accelerators).unwrap()
    }

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(answered(&[], 1), 0);
        assert_eq!(answered(&[0], 1), 1);
        assert_eq!(answered(&[0; 7], 1), 7);
        assert_eq!(answered(&[0; 12], 1), 7);
        assert_eq!(answered(&[0; 12], 2), 12);
        // Two batches in a row: the first three at 3 (ends at 11), then the later ones.
        assert_eq!(answered(&[0, 1, 2, 10, 11, 12], 1), 6);
        assert_eq!(answered(&[0, 6, 7, 8, 9], 0), 0);
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let profile = Profile::linear(Span(1), Span(1), 1).unwrap();
        let request = Request {
            id: RequestId::only(0),
            arrival: Time::ZERO,
            deadline: Time(9),
            rows: 1,
            class: Class::High,
        };
        let of = |model, n| clairvoyant(&vec![(ModelId::first(model), request); n], &[&profile], 1);
        assert_eq!(of(0, 13), Err(ClairvoyantError::Requests { requests: 13 }));
        assert_eq!(of(1, 1), Err(ClairvoyantError::Model { model: ModelId::first(1) }));
    }
}
