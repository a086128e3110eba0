//! `symphony simulate borders`: the fixed borders between lanes of sizes with the highest goodput.
//!
//! A yardstick for the rule that moves borders: it knows the load in advance and tries many borders in
//! simulated runs, which no server can. Borders that double from lane to lane are the start; then single
//! borders are moved, added and removed as long as that helps, by ever smaller steps.

use super::file;
use super::goodput::search;
use super::input::BadInput;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers::{cores, progress_bar};
use anyhow::Result;
use std::path::PathBuf;
use symphony_core::lanes::BORDER_LANES;
use symphony_core::sched::Mode;
use symphony_sim::goodput::BAD_SHARE_MAX;
use symphony_sim::{FixedBorders, LaneRule, PolicyKind};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct BordersArgs {
    /// The scenario file; its rate and policies are not used.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// How batches are scheduled.
    #[arg(long, default_value = "adaptive")]
    mode: Mode,
    /// Seeds of the requests; most have to be held [default: the scenario's, or 1, 2 and 3].
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Most borders that are tried.
    #[arg(long, default_value_t = 200)]
    tries: u64,
    #[command(flatten)]
    format: FormatArgs,
}

/// Borders move by these factors, one after the other.
const STEPS: [f64; 3] = [1.35, 1.15, 1.06];
/// Other borders are taken when they hold so much more.
const GAIN: f64 = 1.004;
/// The numbers of lanes to begin with.
const STARTS: [usize; 4] = [2, 4, 6, BORDER_LANES];

pub(super) fn command(args: &BordersArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    setup.replace_seeds(&args.seeds);
    let sizes = setup.models.iter().filter_map(|model| model.sizes.as_ref());
    let Some(bound) = sizes.map(symphony_sim::Sizes::bound).max() else {
        let problem = "no model has sizes: give one sizes = { median = …, p99 = …, … }";
        return Err(BadInput::error(format!("{}: {problem}", args.scenario.display())));
    };
    let bar = progress_bar("searching", args.tries);
    let mut climb = Climb { setup: &setup, mode: args.mode, bound, tries: args.tries };
    let starts: Vec<PolicyKind> =
        STARTS.iter().filter_map(|lanes| climb.policy(&doubling(bound, *lanes))).collect();
    let found = search(&setup, &starts, cores(), |_| {})?;
    let rates = found.iter().map(symphony_sim::goodput::Goodput::median);
    let best = STARTS.into_iter().zip(rates).max_by(|a, b| a.1.total_cmp(&b.1));
    let (lanes, rate) = best.unwrap_or((1, 0.0));
    let borders = climb.run((doubling(bound, lanes), rate), || bar.inc(1))?;
    bar.finish_and_clear();
    let policies: Vec<PolicyKind> = climb.policy(&borders).into_iter().collect();
    let found = search(&setup, &policies, cores(), |_| {})?;
    let mut sheet = Sheet::new("borders", ["policy", "goodput r/s", "lowest", "highest"]);
    for (policy, goodput) in policies.iter().zip(&found) {
        let (lowest, highest) = goodput.spread();
        let mut row = vec![Cell::Text(policy.to_string())];
        row.extend([goodput.median(), lowest, highest].map(|rate| Cell::Number(rate, 0)));
        sheet.rows.push(row);
    }
    show(&[sheet], args.format)
}

/// So many borders, each half of the next.
fn doubling(bound: u64, lanes: usize) -> Vec<u64> {
    let mut borders: Vec<u64> = (0..lanes).map(|half| (bound >> half).max(1)).collect();
    borders.reverse();
    borders.dedup();
    borders
}

/// A search that goes where it gets better.
struct Climb<'a> {
    setup: &'a Setup,
    mode: Mode,
    bound: u64,
    /// How many more borders may be tried.
    tries: u64,
}

impl Climb<'_> {
    fn policy(&self, borders: &[u64]) -> Option<PolicyKind> {
        let lanes = LaneRule::Fixed(FixedBorders::new(borders)?);
        Some(PolicyKind::Sized { mode: self.mode, lanes })
    }

    /// From borders that hold a rate on, as far as it goes up.
    fn run(&mut self, start: (Vec<u64>, f64), tried: impl Fn()) -> Result<Vec<u64>> {
        let (mut borders, mut rate) = start;
        for step in STEPS {
            let mut is_better = true;
            while std::mem::take(&mut is_better) {
                for other in neighbours(&borders, self.bound, step) {
                    if self.tries == 0 {
                        return Ok(borders);
                    }
                    self.tries -= 1;
                    tried();
                    let mut held = false;
                    while self.holds(&other, rate * GAIN)? {
                        rate *= GAIN;
                        held = true;
                    }
                    if held {
                        borders = other;
                        is_better = true;
                        break;
                    }
                }
            }
        }
        Ok(borders)
    }

    /// Whether most seeds hold this rate.
    fn holds(&self, borders: &[u64], rate: f64) -> Result<bool> {
        let Some(policy) = self.policy(borders) else { return Ok(false) };
        let mut left = self.setup.seeds.len().div_ceil(2);
        for (at, seed) in self.setup.seeds.iter().enumerate() {
            let report = self.setup.simulate(policy, rate, *seed)?;
            left -= usize::from(report.worst_bad_share() <= BAD_SHARE_MAX);
            if left == 0 || left > self.setup.seeds.len() - at - 1 {
                break;
            }
        }
        Ok(left == 0)
    }
}

/// Borders of which one is moved by a step, added or removed; the bound stays.
fn neighbours(borders: &[u64], bound: u64, step: f64) -> Vec<Vec<u64>> {
    let mut all = Vec::new();
    let mut add = |mut other: Vec<u64>| {
        other.retain(|border| (1..bound).contains(border));
        other.sort_unstable();
        other.dedup();
        other.push(bound);
        if other != borders && other.len() <= BORDER_LANES {
            all.push(other);
        }
    };
    let inner = &borders[..borders.len().saturating_sub(1)];
    for (at, border) in inner.iter().enumerate() {
        for factor in [step, 1.0 / step] {
            let mut other = inner.to_vec();
            other[at] = scaled(*border, factor);
            add(other);
        }
    }
    let before = [1].into_iter().chain(inner.iter().copied());
    for (low, high) in before.zip(borders) {
        let between = (low as f64 * *high as f64).sqrt();
        add(inner.iter().copied().chain([scaled(1, between)]).collect());
    }
    for at in 0..inner.len() {
        let mut other = inner.to_vec();
        other.remove(at);
        add(other);
    }
    all
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
fn scaled(border: u64, factor: f64) -> u64 {
    (border as f64 * factor).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_in_one_border_and_end_at_the_bound() {
        assert_eq!(doubling(512, 3), [128, 256, 512]);
        let all = neighbours(&[100, 512], 512, 1.5);
        assert_eq!(
            all,
            [vec![150, 512], vec![67, 512], vec![10, 100, 512], vec![100, 226, 512], vec![512]]
        );
        let full = doubling(512, BORDER_LANES);
        assert!(neighbours(&full, 512, 1.1).iter().all(|other| other.len() <= BORDER_LANES));
    }
}
