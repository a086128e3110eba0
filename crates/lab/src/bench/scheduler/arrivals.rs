//! Requests in open loop: each is due at its own moment, whether or not the one before was taken.

use symphony_core::{ModelId, Time};
use symphony_workload::random::Random;

/// Poisson arrivals of several models together, cheap enough to draw ten million a second: gaps
/// come from a table of quantiles, models by the alias method (Walker 1977, Vose 1991).
pub(super) struct Arrivals {
    random: Random,
    /// Gaps of mean one.
    gaps: Box<[f64]>,
    mean_ns: f64,
    due_ns: f64,
    models: Box<[Alias]>,
}

/// A model, and with which chance another one takes its place.
#[derive(Clone, Copy, Debug)]
struct Alias {
    model: ModelId,
    other: ModelId,
    keep: f64,
}

/// Quantiles of the exponential distribution.
const GAPS: usize = 1 << 16;

impl Arrivals {
    /// Arrivals from `begin` on, of `rate` requests per second to models of these weights.
    pub(super) fn new(
        weights: &[(ModelId, f64)],
        rate: f64,
        begin: Time,
        random: Random,
    ) -> Arrivals {
        let gap = |quantile: usize| -(1.0 - (quantile as f64 + 0.5) / GAPS as f64).ln();
        let mean_ns = 1e9 / rate;
        let mut arrivals = Arrivals {
            random,
            gaps: (0..GAPS).map(gap).collect(),
            mean_ns,
            due_ns: begin.0 as f64,
            models: aliases(weights),
        };
        arrivals.next();
        arrivals
    }

    /// When the next request is due.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
    pub(super) fn due(&self) -> Time {
        Time(self.due_ns as u64)
    }

    /// The model of the request that is due, and on to the next one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a table's index")]
    pub(super) fn next(&mut self) -> ModelId {
        let gap = self.gaps[(self.random.uniform() * (GAPS - 1) as f64) as usize];
        self.due_ns += gap * self.mean_ns;
        if self.models.len() == 1 {
            return self.models[0].model;
        }
        let drawn = self.random.uniform() * self.models.len() as f64;
        let at = (drawn as usize).min(self.models.len() - 1);
        let Alias { model, other, keep } = self.models[at];
        if drawn - at as f64 <= keep { model } else { other }
    }
}

fn aliases(weights: &[(ModelId, f64)]) -> Box<[Alias]> {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let count = weights.len() as f64;
    let whole = |&(model, weight): &(ModelId, f64)| Alias {
        model,
        other: model,
        keep: weight / total * count,
    };
    let mut all: Box<[Alias]> = weights.iter().map(whole).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..all.len()).partition(|&at| all[at].keep < 1.0);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        all[less].other = all[more].model;
        all[more].keep -= 1.0 - all[less].keep;
        if all[more].keep < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_popularity_are_as_asked_for() {
        let weights =
            [(ModelId::first(0), 0.5), (ModelId::first(1), 0.3), (ModelId::first(2), 0.2)];
        let mut arrivals = Arrivals::new(&weights, 1e6, Time::ZERO, Random::new(1));
        let mut counts = [0u32; 3];
        while arrivals.due() < Time(1_000_000_000) {
            counts[arrivals.next().index()] += 1;
        }
        for (count, (_, weight)) in counts.into_iter().zip(weights) {
            let expected = weight * 1e6;
            assert!((f64::from(count) - expected).abs() < 0.02 * expected, "{counts:?}");
        }
    }
}
