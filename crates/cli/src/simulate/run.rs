//! `symphony simulate run`: one run, by model and by accelerator.

use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::{file, workers};
use anyhow::Result;
use std::path::PathBuf;
use symphony_core::DropReason;
use symphony_sim::{ModelReport, PolicyKind, Report};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Policies to run on the same requests [default: the scenario's, or deferred].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Offered requests per second in total [default: the scenario's].
    #[arg(long)]
    rate: Option<f64>,
    /// Seed of the requests [default: the scenario's first].
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn command(args: &RunArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    if let Some(rate) = args.rate {
        setup.replace_rate(rate)?;
    }
    let policies = setup.policies(&args.policy);
    let seed = args.seed.unwrap_or(setup.seeds[0]);
    let reports = workers::each(&policies, "simulating", |&policy| setup.simulate(policy, seed))?;
    let runs: Vec<_> = policies.into_iter().zip(reports).collect();
    show(&[models(&setup, &runs), accelerators(&runs)], args.format)
}

fn models(setup: &Setup, runs: &[(PolicyKind, Report)]) -> Sheet {
    let columns = [
        "model",
        "policy",
        "offered",
        "good",
        "late",
        "dropped",
        "bad %",
        "good r/s",
        "mean batch",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
    ];
    let mut sheet = Sheet::new("models", columns);
    for (policy, report) in runs {
        for (model, figures) in setup.models.iter().zip(&report.models) {
            sheet.rows.push(row(&model.name, policy, figures, report));
        }
    }
    sheet
}

fn row(name: &str, policy: &PolicyKind, figures: &ModelReport, report: &Report) -> Vec<Cell> {
    let millis = |quantile| match figures.good + figures.late {
        0 => Cell::Nothing,
        _ => Cell::Number(figures.latency(quantile).as_millis_f64(), 2),
    };
    vec![
        Cell::Text(name.to_owned()),
        Cell::Text(policy.to_string()),
        Cell::Count(figures.offered),
        Cell::Count(figures.good),
        Cell::Count(figures.late),
        Cell::Count(DropReason::ALL.iter().map(|&reason| figures.dropped[reason as usize]).sum()),
        Cell::Number(figures.bad_share() * 100.0, 2),
        Cell::Number(figures.good as f64 / report.measured.as_secs_f64(), 0),
        Cell::Number(figures.mean_batch(), 2),
        millis(0.5),
        millis(0.99),
        millis(0.999),
    ]
}

fn accelerators(runs: &[(PolicyKind, Report)]) -> Sheet {
    let mut sheet = Sheet::new("accelerators", ["accelerator"]);
    let busy = |policy: &PolicyKind| format!("{policy} busy %");
    sheet.columns.extend(runs.iter().map(|(policy, _)| busy(policy)));
    let count = runs.first().map_or(0, |(_, report)| report.busy.len());
    for number in 0..count {
        let mut row = vec![Cell::Text(number.to_string())];
        row.extend(runs.iter().map(|(_, report)| Cell::Number(report.busy[number] * 100.0, 1)));
        sheet.rows.push(row);
    }
    sheet
}
