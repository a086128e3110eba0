//! Squishy bin packing: it decides which models share an accelerator, with which batches.
//!
//! Source: Nexus (SOSP 2019), section 6.1 and algorithm 1. A model with a high rate gets whole
//! accelerators that run its *saturating* batch (the largest with `2 l(b) <= SLO`: a request may
//! just miss a batch and wait for all of the next). The rest of each model gets the largest batch
//! that gathers in time, `b/r + l(b) <= SLO`, and occupies `l(b) / (b/r)` of an accelerator with a
//! *duty cycle* `b/r`. These residues, the largest first, are merged onto the accelerator that
//! becomes fullest, with the shorter duty cycle and with batches reduced to it.

use std::sync::Arc;
use symphony_core::{Profile, Span};

/// The load of a model.
pub(super) struct PackedDemand {
    pub(super) profile: Arc<Profile>,
    /// The time from arrival to the end of execution.
    pub(super) budget: Span,
    /// Requests per second.
    pub(super) rate: f64,
}

/// A model on an accelerator.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DutyShare {
    /// The number of the demand.
    pub(super) demand: usize,
    /// The planned batch.
    pub(super) rows: u32,
    /// The part of its rate on this accelerator, in requests per second of the scaled plan.
    pub(super) rate: f64,
}

/// The models of an accelerator, and the time in which it serves each of them once.
#[derive(Clone, Debug)]
struct Cycle {
    shares: Vec<DutyShare>,
    /// Seconds.
    duty: f64,
}

/// Packs the demands onto `accelerators` accelerators. All rates are scaled by the same factor, as
/// far as they fit. A demand whose single request misses its budget gets no accelerator.
pub(super) fn pack(demands: &[PackedDemand], accelerators: usize) -> Vec<Vec<DutyShare>> {
    let fits = |scale: f64| plan(demands, scale).len() <= accelerators;
    let (mut low, mut high) = (0.0, 1.0);
    while fits(high) && high < 1e12 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if fits(middle) { low = middle } else { high = middle }
    }
    // When even tiny rates do not fit, there are more incompatible models than accelerators.
    let mut cycles = plan(demands, if low > 0.0 { low } else { high });
    while cycles.len() > accelerators {
        crowd(demands, &mut cycles);
    }
    cycles.into_iter().map(|cycle| cycle.shares).collect()
}

/// Moves the models of the emptiest accelerator to the next emptiest, without regard to their
/// objectives.
fn crowd(demands: &[PackedDemand], cycles: &mut Vec<Cycle>) {
    cycles.sort_by(|a, b| b.occupancy(demands).total_cmp(&a.occupancy(demands)));
    if let Some(last) = cycles.pop()
        && let Some(emptiest) = cycles.last_mut()
    {
        emptiest.duty = emptiest.duty.min(last.duty);
        emptiest.shares.extend(last.shares);
    }
}

fn plan(demands: &[PackedDemand], scale: f64) -> Vec<Cycle> {
    let (mut full, mut residues) = (Vec::new(), Vec::new());
    for (number, demand) in demands.iter().enumerate() {
        let rate = demand.rate * scale;
        let Some(rows) = demand.saturating_rows().filter(|_| rate > 0.0) else { continue };
        let exec = demand.seconds(rows);
        let peak = f64::from(rows) / exec;
        let mut left = rate;
        while left >= peak {
            let shares = vec![DutyShare { demand: number, rows, rate: peak }];
            full.push(Cycle { shares, duty: exec });
            left -= peak;
            if full.len() > PLAN_MAX {
                return full;
            }
        }
        if left > rate * 1e-9 {
            residues.push(demand.residue(number, left));
        }
    }
    residues.sort_by(|a, b| b.occupancy(demands).total_cmp(&a.occupancy(demands)));
    let mut shared: Vec<Cycle> = Vec::new();
    for residue in residues {
        let merged = shared
            .iter()
            .enumerate()
            .filter_map(|(at, cycle)| Some((at, cycle.merged(&residue, demands)?)))
            .max_by(|a, b| a.1.occupancy(demands).total_cmp(&b.1.occupancy(demands)));
        match merged {
            Some((at, cycle)) => shared[at] = cycle,
            None => shared.push(residue),
        }
    }
    full.extend(shared);
    full
}

/// A plan with more accelerators than any pool has. It does not fit, whatever follows.
const PLAN_MAX: usize = 100_000;

impl PackedDemand {
    fn seconds(&self, rows: u32) -> f64 {
        self.profile.exec(rows).as_secs_f64()
    }

    /// The largest batch whose doubled execution fits the budget. One row when only a single
    /// request fits, and `None` when not even that does.
    fn saturating_rows(&self) -> Option<u32> {
        match self.profile.rows_within(Span(self.budget.0 / 2)) {
            0 => (self.profile.exec(1) <= self.budget).then_some(1),
            rows => Some(rows),
        }
    }

    fn residue(&self, number: usize, rate: f64) -> Cycle {
        let budget = self.budget.as_secs_f64();
        let gathers = |rows: &u32| f64::from(*rows) / rate + self.seconds(*rows) <= budget;
        let most = self.profile.rows_within(self.budget);
        let rows = (1..=most).take_while(gathers).last().unwrap_or(1);
        // At a rate too low to gather even one row, rows are served one by one.
        let duty = (f64::from(rows) / rate).min((budget - self.seconds(rows)).max(0.0));
        Cycle { shares: vec![DutyShare { demand: number, rows, rate }], duty }
    }
}

impl Cycle {
    /// The share of the duty cycle that executions take.
    fn occupancy(&self, demands: &[PackedDemand]) -> f64 {
        self.busy(demands) / self.duty.max(1e-12)
    }

    fn busy(&self, demands: &[PackedDemand]) -> f64 {
        self.shares.iter().map(|share| demands[share.demand].seconds(share.rows)).sum()
    }

    /// Both under one duty cycle, or `None` when they do not fit.
    fn merged(&self, other: &Cycle, demands: &[PackedDemand]) -> Option<Cycle> {
        let duty = self.duty.min(other.duty);
        let mut shares = Vec::new();
        for share in self.shares.iter().chain(&other.shares) {
            let demand = &demands[share.demand];
            #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
            #[expect(clippy::cast_sign_loss, reason = "duty cycles and rates are positive")]
            let gathered = (share.rate * duty - 1e-9).ceil().max(1.0) as u32;
            let rows = gathered.min(share.rows);
            if duty + demand.seconds(rows) > demand.budget.as_secs_f64() + 1e-12 {
                return None;
            }
            shares.push(DutyShare { rows, ..share.clone() });
        }
        let cycle = Cycle { shares, duty };
        (cycle.busy(demands) <= duty).then_some(cycle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(alpha_us: u64, beta_us: u64, slo_ms: u64, rate: f64) -> PackedDemand {
        let (alpha, beta) = (Span::from_micros(alpha_us), Span::from_micros(beta_us));
        let profile = Arc::new(Profile::linear(alpha, beta, 64).unwrap());
        PackedDemand { profile, budget: Span::from_millis(slo_ms), rate }
    }

    #[test]
    fn one_model_gets_every_accelerator() {
        for rate in [100.0, 4000.0, 16000.0] {
            let plan = pack(&[demand(1053, 5072, 25, rate)], 8);
            assert_eq!(plan.len(), 8);
            assert!(plan.iter().all(|shares| shares.len() == 1 && shares[0].rows >= 7), "{plan:?}");
        }
    }

    #[test]
    fn every_model_is_somewhere_and_cycles_keep_budgets() {
        let demands: Vec<_> =
            (1..=10u32).map(|rank| demand(1053, 5072, 25, 1000.0 / f64::from(rank))).collect();
        for accelerators in [1, 3, 8, 32] {
            let plan = pack(&demands, accelerators);
            assert!(plan.len() <= accelerators);
            let mut served: Vec<_> = plan.iter().flatten().map(|share| share.demand).collect();
            served.sort_unstable();
            served.dedup();
            assert_eq!(served.len(), 10, "{accelerators}: {plan:?}");
        }
        assert!(pack(&[demand(1000, 5000, 5, 10.0)], 4).is_empty());
    }
}
