//! `symphony simulate fixed`: the knobs of the fixed rule with the highest goodput, and what other
//! policies reach on the same requests.

use super::goodput::{self, search};
use super::input::BadInput;
use super::searched::SearchedArgs;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers::{cores, progress_bar};
use anyhow::Result;
use std::ops::RangeInclusive;
use symphony_core::Span;
use symphony_sim::goodput::{BOUND_SLACK, Goodput};
use symphony_sim::{FoundKnobs, KnobSearch, PolicyKind};

/// The largest margins that make sense.
const MARGINS: RangeInclusive<f64> = 1.0..=10.0;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct FixedArgs {
    #[command(flatten)]
    searched: SearchedArgs,
    /// Policies to show beside it on the same requests [default: the scenario's].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Most knobs that are tried.
    #[arg(long, value_name = "N", default_value_t = 600)]
    tries: u32,
    /// The largest margin that is tried.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    margin_max: f64,
    /// How many of the seeds the search runs with, from the first on; what is found runs with all.
    #[arg(long, value_name = "N", default_value_t = 3)]
    search_seeds: usize,
    /// The most seconds that each run of the search measures.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    search_seconds: u32,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn command(args: &FixedArgs) -> Result<()> {
    if !MARGINS.contains(&args.margin_max) {
        let (low, high) = (MARGINS.start(), MARGINS.end());
        return Err(BadInput::error(format!("--margin-max: give a number from {low} to {high}")));
    }
    let setup = args.searched.read()?;
    let knobs = find(&setup, args)?;
    let others = if args.policy.is_empty() { &setup.policies } else { &args.policy };
    let fixed = PolicyKind::Fixed(knobs.knobs);
    let mut policies = vec![fixed];
    policies.extend(others.iter().filter(|other| **other != fixed));
    let bar = progress_bar("searching", 1000);
    let done = |share| bar.set_position(goodput::thousandths(share));
    let found = search(&setup, &policies, cores(), done)?;
    bar.finish_and_clear();
    show(&[sheet(&policies, &found)], args.format)
}

fn find(setup: &Setup, args: &FixedArgs) -> Result<FoundKnobs> {
    let mut quick = setup.clone();
    quick.seeds.truncate(args.search_seeds.max(1));
    quick.measured = quick.measured.min(Span::from_secs(u64::from(args.search_seconds.max(1))));
    let rate_max = quick.bound()? * BOUND_SLACK;
    let terms: Vec<_> = quick.scenario(rate_max)?.models.into_iter().map(|sim| sim.terms).collect();
    let rows_max = KnobSearch::rows_max(&terms);
    let (margin_max, tries) = (args.margin_max, args.tries);
    let sought = KnobSearch { seeds: &quick.seeds, rate_max, rows_max, margin_max, tries };
    let bar = progress_bar("trying knobs", args.tries.into());
    let found =
        sought.run(|policy, rate, seed| quick.simulate(policy, rate, seed), || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(found)
}

fn sheet(policies: &[PolicyKind], found: &[Goodput]) -> Sheet {
    let columns = ["policy", "goodput r/s", "lowest", "highest", "of fixed", "limit"];
    let mut sheet = Sheet::new("goodput", columns);
    let fixed = found.first().map_or(0.0, Goodput::median);
    for (policy, goodput) in policies.iter().zip(found) {
        let (lowest, highest) = goodput.spread();
        let mut row = vec![Cell::Text(policy.to_string())];
        row.extend([goodput.median(), lowest, highest].map(|rate| Cell::Number(rate, 0)));
        row.push(match fixed {
            0.0 => Cell::Nothing,
            fixed => Cell::Number(goodput.median() / fixed, 3),
        });
        row.push(goodput::limit(goodput).map_or(Cell::Nothing, Cell::Text));
        sheet.rows.push(row);
    }
    sheet
}
