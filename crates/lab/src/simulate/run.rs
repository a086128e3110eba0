//! `symphony simulate run`: one run, by model and by accelerator.

use super::noise::NoiseArgs;
use super::series::Series;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::{file, output, series, workers};
use anyhow::Result;
use std::path::PathBuf;
use symphony_core::{Class, DropReason};
use symphony_sim::{Mix, ModelReport, PolicyKind, Report, RequestCounts};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Policies to run on the same requests [default: the scenario's, or consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Offered requests per second in total [default: the scenario's].
    #[arg(long)]
    rate: Option<f64>,
    /// Seed of the requests [default: the scenario's first].
    #[arg(long)]
    seed: Option<u64>,
    /// Plan with the profiles as they are in the scenario, whatever executions really take.
    #[arg(long)]
    fixed_profiles: bool,
    /// Also show each interval of this many seconds: the offered rate, the share of late or dropped
    /// requests, and how many accelerators were busy on average and in use at all (1 % of the
    /// interval or more).
    #[arg(long, value_name = "SECONDS")]
    interval_s: Option<f64>,
    /// Draw the intervals, as SVG or PNG by the file's ending.
    #[arg(long, value_name = "FILE", requires = "interval_s")]
    plot: Option<PathBuf>,
    /// How many accelerators there are [default: the scenario's].
    #[arg(long)]
    accelerators: Option<u32>,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn command(args: &RunArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    args.noise.apply(&mut setup)?;
    setup.replace_accelerators(args.accelerators)?;
    if let Some(rate) = args.rate {
        setup.replace_rate(rate)?;
    }
    setup.adapt_profile &= !args.fixed_profiles;
    if let Some(plot) = &args.plot {
        output::check(plot, &["svg", "png"])?;
    }
    let policies = setup.policies(&args.policy);
    let (rate, seed) = (setup.rate()?, args.seed.unwrap_or(setup.seeds[0]));
    let Some(seconds) = args.interval_s else {
        let simulate = |policy: &PolicyKind| setup.simulate(*policy, rate, seed);
        let reports = workers::each(&policies, "simulating", simulate)?;
        let runs: Vec<_> = policies.into_iter().zip(reports).collect();
        return show(&sheets(&setup, &runs), args.format);
    };
    let series = Series::new(&setup.scenario(rate)?, seconds)?;
    let runs = workers::each(&policies, "simulating", |&policy| {
        let mut series = series.clone();
        let report = setup.observe(policy, rate, seed, |observed| series.add(observed))?;
        Ok((report, series))
    })?;
    let (reports, series): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    if let Some(plot) = &args.plot {
        let names = series::names(&policies, &series);
        series::chart(&names, &series).write(plot)?;
    }
    let intervals = series::sheet(&policies, &series);
    let runs: Vec<_> = policies.into_iter().zip(reports).collect();
    let mut sheets = sheets(&setup, &runs);
    sheets.push(intervals);
    show(&sheets, args.format)
}

fn sheets(setup: &Setup, runs: &[(PolicyKind, Report)]) -> Vec<Sheet> {
    let mut sheets = vec![models(setup, runs)];
    if setup.models.iter().any(|model| model.mix != Mix::default()) {
        sheets.push(kinds(setup, runs));
    }
    sheets.push(accelerators(runs));
    sheets
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

/// What became of each kind of request, where a model's are not all alike.
fn kinds(setup: &Setup, runs: &[(PolicyKind, Report)]) -> Sheet {
    let columns = ["model", "policy", "requests", "offered", "good", "bad %", "good r/s"];
    let mut sheet = Sheet::new("kinds", columns);
    for (policy, report) in runs {
        for (model, figures) in setup.models.iter().zip(&report.models) {
            for (name, share) in shares(figures) {
                sheet.rows.push(vec![
                    Cell::Text(model.name.clone()),
                    Cell::Text(policy.to_string()),
                    Cell::Text(name.to_owned()),
                    Cell::Count(share.offered),
                    Cell::Count(share.good),
                    Cell::Number(share.bad_share() * 100.0, 2),
                    Cell::Number(share.good as f64 / report.measured.as_secs_f64(), 0),
                ]);
            }
        }
    }
    sheet
}

/// By class, and by deadline where some requests have one of their own.
fn shares(figures: &ModelReport) -> impl Iterator<Item = (&'static str, RequestCounts)> {
    let classes = Class::ALL.map(|class| (class.name(), figures.classes[class as usize]));
    let tight = figures.tight;
    let others =
        RequestCounts { offered: figures.offered - tight.offered, good: figures.good - tight.good };
    let by_deadline = [("tight", tight), ("not tight", others)].into_iter();
    let by_deadline = by_deadline.filter(move |_| tight.offered > 0);
    classes.into_iter().chain(by_deadline).filter(|(_, share)| share.offered > 0)
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
