//! `symphony simulate compare`: policies on scenarios drawn at random, so that none is judged by
//! the cases it was made for.

use super::goodput::{Yardsticks, search};
use super::input::BadInput;
use super::setup::{Load, Model, Setup};
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers;
use anyhow::Result;
use std::ops::RangeInclusive;
use std::sync::Arc;
use symphony_core::sched::LOW_SHARE_DEFAULT;
use symphony_core::{Profile, Span};
use symphony_sim::goodput::Goodput;
use symphony_sim::{ClockError, Drift, Mix, Network, PolicyKind};
use symphony_workload::random::Random;
use symphony_workload::{Popularity, Process, Schedule};

/// Draws per scenario: 1 to 8 models with l(b) = alpha b + beta, alpha 0.2 to 6 ms (small ones more
/// often), beta 1 to 10 times alpha, the objective 2.5 to 6 times l(1); popularity Zipf 0 to 1.2;
/// gaps gamma distributed with a coefficient of variation of 0.5 to 3; 1 to 24 accelerators.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// How many scenarios to draw.
    #[arg(long, value_name = "N", default_value_t = 50)]
    random: u32,
    /// Seed of the draws and of the requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Policies to compare on the same requests.
    #[arg(long, value_delimiter = ',', default_value = "deferred,eager")]
    policy: Vec<PolicyKind>,
    #[command(flatten)]
    format: FormatArgs,
}

/// More scenarios are a mistake.
const RANDOM_MAX: u32 = 10_000;
const ROWS_MAX: u32 = 64;
/// How many of its worst scenarios are shown of each policy.
const WORST: usize = 5;

pub(super) fn command(args: &CompareArgs) -> Result<()> {
    if !(1..=RANDOM_MAX).contains(&args.random) {
        return Err(BadInput::error(format!("--random: give 1 to {RANDOM_MAX}")));
    }
    let numbers: Vec<u64> = (0..u64::from(args.random)).collect();
    let cases = workers::each(&numbers, "comparing", |&number| {
        let setup = draw(args.seed, number)?;
        let rate_limited = Yardsticks::of(&setup)?.rate_limited;
        let found = search(&setup, &args.policy, 1, |_| {})?;
        let share = |goodput: &Goodput| goodput.median() / rate_limited;
        Ok((setup, found.iter().map(share).collect::<Vec<f64>>()))
    })?;
    show(&[summary(&args.policy, &cases), listing(&args.policy, &cases)], args.format)
}

/// A scenario and each policy's share of its rate-limited bound.
type Case = (Setup, Vec<f64>);

/// Scenario `number` of a seed, whatever the number of the others.
fn draw(seed: u64, number: u64) -> Result<Setup> {
    let mut random = Random::numbered(seed, number);
    let mut between = |range: RangeInclusive<f64>| {
        range.start() + random.uniform() * (range.end() - range.start())
    };
    let count = whole(between(1.0..=8.0));
    let mut models = Vec::new();
    for number in 0..count {
        let root = between(0.0..=1.0);
        let alpha = 0.2 + root * root * 5.8;
        let beta = alpha * between(1.0..=10.0);
        let slo = (alpha + beta) * between(2.5..=6.0);
        let millis = Span::from_millis_f64;
        let profile = Profile::linear(millis(alpha), millis(beta), ROWS_MAX)?;
        let name = format!("m{number}");
        models.push(Model {
            name,
            profile: Arc::new(profile),
            slo: millis(slo),
            mix: Mix::default(),
            loss_weight: 1.0,
        });
    }
    let mut setup = Setup {
        accelerators: whole(between(1.0..=24.0)),
        policies: Vec::new(),
        seeds: vec![seed],
        warmup: Span::from_secs(1),
        measured: Span::ZERO,
        models,
        load: Load {
            rate: None,
            rate_missing: String::new(),
            popularity: Popularity::Zipf(between(0.0..=1.2)),
            process: Process::Gamma { cv: between(0.5..=3.0) },
            schedule: Schedule::Constant,
            trace: None,
        },
        network: Network::default(),
        clock_error: ClockError::default(),
        execution_sigma: 0.0,
        drift: Drift::default(),
        adapt_profile: true,
        low_priority_share: LOW_SHARE_DEFAULT,
        split: None,
        sweep: None,
    };
    setup.measured = measured(&setup)?;
    Ok(setup)
}

/// How many requests of each model a run must have at the rate-limited bound: enough that one bad
/// request by chance is far from the 1 % that is allowed.
const REQUESTS_MIN: f64 = 2000.0;
const SECONDS_MIN: f64 = 5.0;

/// As long as the least popular model needs.
fn measured(setup: &Setup) -> Result<Span> {
    let least = setup.shares()?.into_iter().fold(1.0, f64::min);
    let rate = Yardsticks::of(setup)?.rate_limited;
    let seconds = (REQUESTS_MIN / (least * rate)).max(SECONDS_MIN);
    Ok(Span::from_millis_f64(seconds * 1e3))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(number: f64) -> u32 {
    number.round() as u32
}

fn summary(policies: &[PolicyKind], cases: &[Case]) -> Sheet {
    let columns = ["policy", "median share", "worst five", "wins"];
    let mut sheet = Sheet::new("policies", columns);
    for (number, policy) in policies.iter().enumerate() {
        let mut shares: Vec<f64> = cases.iter().map(|(_, shares)| shares[number]).collect();
        let best = |shares: &[f64]| shares.iter().copied().fold(0.0, f64::max);
        let wins = cases.iter().filter(|(_, shares)| shares[number] >= best(shares)).count();
        shares.sort_by(f64::total_cmp);
        let worst = shares.iter().take(WORST).map(|share| format!("{share:.3}"));
        sheet.rows.push(vec![
            Cell::Text(policy.to_string()),
            Cell::Number(shares[(shares.len() - 1) / 2], 3),
            Cell::Text(worst.collect::<Vec<_>>().join(" ")),
            Cell::Count(wins as u64),
        ]);
    }
    sheet
}

fn listing(policies: &[PolicyKind], cases: &[Case]) -> Sheet {
    let mut sheet = Sheet::new("cases", ["case", "models", "accelerators", "cv"]);
    sheet.columns.extend(policies.iter().map(PolicyKind::to_string));
    for (number, (setup, shares)) in cases.iter().enumerate() {
        let cv = match setup.load.process {
            Process::Gamma { cv } => Cell::Number(cv, 2),
            _ => Cell::Nothing,
        };
        let mut row = vec![
            Cell::Text(number.to_string()),
            Cell::Count(setup.models.len() as u64),
            Cell::Count(setup.accelerators.into()),
            cv,
        ];
        row.extend(shares.iter().map(|&share| Cell::Number(share, 3)));
        sheet.rows.push(row);
    }
    sheet
}
