//! `symphony simulate goodput`: the highest rate that each policy sustains, beside what any could.

use super::searched::SearchedArgs;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers::{cores, progress_bar};
use anyhow::Result;
use symphony_sim::PolicyKind;
use symphony_sim::bound::{rate_limited, staggered};
use symphony_sim::goodput::{BOUND_SLACK, Goodput, Sought};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct GoodputArgs {
    #[command(flatten)]
    searched: SearchedArgs,
    /// Policies to compare on the same requests [default: the scenario's, or consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn command(args: &GoodputArgs) -> Result<()> {
    let setup = args.searched.read()?;
    let policies = setup.policies(&args.policy);
    let bar = progress_bar("searching", 1000);
    let found = search(&setup, &policies, cores(), |done| bar.set_position(thousandths(done)))?;
    bar.finish_and_clear();
    let yardsticks = Yardsticks::of(&setup)?;
    show(&[figures(&policies, &found, &yardsticks), yardsticks.sheet()], args.format)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1000")]
pub(super) fn thousandths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1000.0) as u64
}

/// The goodput of every policy.
///
/// # Errors
/// A model's part of the rate cannot be simulated.
pub(super) fn search(
    setup: &Setup,
    policies: &[PolicyKind],
    threads: usize,
    progress: impl Fn(f64) + Sync,
) -> Result<Vec<Goodput>> {
    let rate_max = setup.bound()? * BOUND_SLACK;
    let sought = Sought { policies, seeds: &setup.seeds, rate_max, threads };
    sought.run(|policy, rate, seed| setup.simulate(policy, rate, seed), progress)
}

/// What goodput is measured against, in requests per second.
struct Yardsticks {
    /// Only for one model: no such pattern is known for a mix.
    staggered: Option<f64>,
    bound: f64,
    /// Only where all requests of a model are of one size: lanes gather as they are planned.
    rate_limited: Option<f64>,
}

impl Yardsticks {
    fn of(setup: &Setup) -> Result<Yardsticks> {
        // The yardsticks count rows; we count requests.
        let parts = setup.rows()?;
        let rows: f64 = parts.iter().sum();
        let mix = setup.models.iter().zip(parts);
        let mix: Vec<_> = mix
            .map(|(model, part)| (&*model.profile, model.objective.span(), part / rows))
            .collect();
        // They know neither sizes nor what an input costs.
        let is_varied =
            setup.models.iter().any(|model| model.sizes.is_some()) || setup.noise.bimodal.is_some();
        let staggered = match mix.as_slice() {
            _ if is_varied => None,
            [(profile, slo, _)] => Some(staggered(profile, *slo, setup.accelerators) / rows),
            _ => None,
        };
        let rate_limited = (!is_varied).then(|| rate_limited(&mix, setup.accelerators) / rows);
        Ok(Yardsticks { staggered, bound: setup.bound()?, rate_limited })
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let staggered = self.staggered.map(|rate| ("staggered", rate));
        let rate_limited = self.rate_limited.map(|rate| ("rate-limited", rate));
        staggered.into_iter().chain([("bound", self.bound)]).chain(rate_limited)
    }

    fn sheet(&self) -> Sheet {
        let mut sheet = Sheet::new("yardsticks", ["yardstick", "r/s"]);
        let row = |(name, rate): (&str, f64)| vec![Cell::Text(name.into()), Cell::Number(rate, 0)];
        sheet.rows = self.named().map(row).collect();
        sheet
    }
}

fn figures(policies: &[PolicyKind], found: &[Goodput], yardsticks: &Yardsticks) -> Sheet {
    let mut sheet = Sheet::new("goodput", ["policy", "goodput r/s", "lowest", "highest"]);
    sheet.columns.extend(yardsticks.named().map(|(name, _)| format!("of {name}")));
    sheet.columns.push("limit".to_owned());
    for (policy, goodput) in policies.iter().zip(found) {
        let (lowest, highest) = goodput.spread();
        let mut row = vec![Cell::Text(policy.to_string())];
        row.extend([goodput.median(), lowest, highest].map(|rate| Cell::Number(rate, 0)));
        row.extend(yardsticks.named().map(|(_, rate)| Cell::Number(goodput.median() / rate, 3)));
        row.push(limit(goodput).map_or(Cell::Nothing, Cell::Text));
        sheet.rows.push(row);
    }
    sheet
}

/// Where the search ended before the policy did.
pub(super) fn limit(goodput: &Goodput) -> Option<String> {
    let seeds = goodput.by_seed.len();
    match (goodput.held_all(), goodput.held_nothing()) {
        (0, 0) => None,
        (0, count) => {
            let rate = goodput.rate_min();
            Some(format!("held nothing down to {rate:.1} r/s with {count} of {seeds} seeds"))
        }
        (count, _) => {
            let rate = goodput.rate_max;
            Some(format!("held all up to {rate:.0} r/s with {count} of {seeds} seeds"))
        }
    }
}
