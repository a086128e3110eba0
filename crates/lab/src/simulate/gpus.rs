//! `symphony simulate gpus`: the fewest accelerators for a given load.

use super::noise::NoiseArgs;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::{file, workers};
use anyhow::Result;
use std::path::PathBuf;
use symphony_sim::PolicyKind;
use symphony_sim::goodput::fewest_accelerators;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct GpusArgs {
    /// The scenario file; its number of accelerators is not used.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Policies to compare on the same requests [default: the scenario's, or consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Offered requests per second in total [default: the scenario's].
    #[arg(long)]
    rate: Option<f64>,
    /// Seeds of the requests; the accelerators have to do for all of them
    /// [default: the scenario's, or 1, 2 and 3].
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Give up beyond this many.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max: u32,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn command(args: &GpusArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    args.noise.apply(&mut setup)?;
    setup.replace_seeds(&args.seeds);
    if let Some(rate) = args.rate {
        setup.replace_rate(rate)?;
    }
    let policies = setup.policies(&args.policy);
    let found = workers::each(&policies, "searching", |&policy| fewest(&setup, policy, args.max))?;
    let mut sheet = Sheet::new("accelerators", ["policy", "accelerators", "r/s", "r/s each"]);
    let rate = setup.rate()?;
    for (policy, fewest) in policies.iter().zip(found) {
        let each = fewest.map_or(Cell::Nothing, |n| Cell::Number(rate / f64::from(n), 0));
        let number = match fewest {
            Some(number) => Cell::Count(number.into()),
            None => Cell::Text(format!("more than {}", args.max)),
        };
        sheet.rows.push(vec![Cell::Text(policy.to_string()), number, Cell::Number(rate, 0), each]);
    }
    show(&[sheet], args.format)
}

/// The fewest accelerators with which every model has at most 1 % bad requests with every seed.
///
/// # Errors
/// There is no rate, or a model's part of it cannot be simulated.
pub(super) fn fewest(setup: &Setup, policy: PolicyKind, max: u32) -> Result<Option<u32>> {
    let rate = setup.rate()?;
    fewest_accelerators(&setup.seeds, max, |accelerators, seed| {
        Setup { accelerators, ..setup.clone() }.simulate(policy, rate, seed)
    })
}
