//! `symphony simulate faults`: clusters whose processes fail, drawn at random, with what has to be true
//! checked in every step.

use super::input::BadInput;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers;
use anyhow::Result;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use symphony_client::console::print;
use symphony_sim::faults::{FaultCase, FaultKind, Survived, run, timeline};

/// Each seed draws a small cluster (frontends, two schedulers of which one is in charge, backends with
/// their accelerators), some seconds of its load, and one to five faults. Checked in every step: each
/// request has exactly one outcome, by 100 ms after its deadline; nothing of a former life or of a
/// former scheduler counts; no accelerator runs two batches; a request is scheduled again at most once;
/// queues and ledgers are bounded, and empty in the end; and when all is well again, every request is
/// answered in time. The first seed that breaks one is told with everything that happened.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FaultsArgs {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which faults: all, accelerators, backends, frontends, schedulers or links.
    #[arg(long, value_name = "FAULTS", default_value_t)]
    scenario: FaultKind,
    /// Tell everything that happens with the first seed, in place of the figures.
    #[arg(long, conflicts_with_all = ["seeds", "json", "csv"])]
    timeline: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// More are a mistake.
const SEEDS_MAX: u64 = 1_000_000_000;
/// Seeds that one core runs at a time.
const SEEDS_AT_A_TIME: u64 = 500;

pub(super) fn command(args: &FaultsArgs) -> Result<()> {
    let &FaultsArgs { seeds, seed, scenario, .. } = args;
    if args.timeline {
        return print(&(timeline(&FaultCase::draw(seed, scenario)) + "\n"));
    }
    if !(1..=SEEDS_MAX).contains(&seeds) {
        return Err(BadInput::error(format!("--seeds: give 1 to {SEEDS_MAX}")));
    }
    let Some(end) = seed.checked_add(seeds) else {
        return Err(BadInput::error("--seed: too large for so many seeds"));
    };
    let is_over = AtomicBool::new(false);
    let survived = workers::each(&parts(seed..end), "breaking", |part| {
        let mut all = Survived::default();
        for seed in part.clone() {
            // The figures are of no use once something is broken.
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let survived = run(&FaultCase::draw(seed, scenario));
            all.add(&survived.inspect_err(|_| is_over.store(true, Ordering::Relaxed))?);
        }
        Ok(all)
    })?;
    let mut all = Survived::default();
    survived.iter().for_each(|survived| all.add(survived));
    show(&[figures(seeds, scenario, &all)], args.format)
}

fn parts(seeds: Range<u64>) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut first = seeds.start;
    while first < seeds.end {
        let end = seeds.end.min(first.saturating_add(SEEDS_AT_A_TIME));
        parts.push(first..end);
        first = end;
    }
    parts
}

fn figures(seeds: u64, scenario: FaultKind, all: &Survived) -> Sheet {
    let &Survived { requests, good, late, dropped, failed, timed_out, .. } = all;
    let &Survived { lost, resubmitted, faults, .. } = all;
    let left = requests - good - late - dropped - failed - timed_out;
    let counts = [
        ("seeds", seeds),
        ("faults", faults),
        ("requests", requests),
        ("good", good),
        ("late", late),
        ("dropped", dropped),
        ("failed", failed),
        ("timed out", timed_out),
        ("with their frontend", left),
        ("lost batches", lost),
        ("scheduled again", resubmitted),
    ];
    let mut sheet = Sheet::new("faults", ["scenario"]);
    sheet.columns.extend(counts.map(|(name, _)| name.to_owned()));
    let cells = counts.map(|(_, count)| Cell::Count(count));
    sheet.rows.push([Cell::Text(scenario.to_string())].into_iter().chain(cells).collect());
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_in_one_part() {
        assert_eq!(parts(3..1203), [3..503, 503..1003, 1003..1203]);
        let end = u64::MAX;
        assert_eq!(parts(end - 501..end), [end - 501..end - 1, end - 1..end]);
    }
}
