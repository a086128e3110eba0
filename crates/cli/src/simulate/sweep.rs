//! `symphony simulate sweep`: one parameter over a range, to a table and a plot.

use super::goodput::{limit, search};
use super::gpus::fewest;
use super::input::BadInput;
use super::setup::{Measure, Parameter, Setup, Sweep};
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::{file, output, workers};
use crate::plot::{Chart, Line};
use anyhow::Result;
use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use symphony_sim::PolicyKind;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct SweepArgs {
    /// The scenario file; may hold a [sweep] section.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// What to vary [default: the scenario's].
    #[arg(long, value_enum, requires = "values")]
    parameter: Option<Parameter>,
    /// Its values, in growing order [default: the scenario's].
    #[arg(long, value_delimiter = ',', requires = "parameter")]
    values: Vec<f64>,
    /// What to show of each [default: the scenario's, or goodput].
    #[arg(long, value_enum)]
    measure: Option<Measure>,
    /// Policies to compare on the same requests [default: the scenario's, or deferred].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Seeds of the requests; the median counts [default: the scenario's, or 1, 2 and 3].
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Draw it, as SVG or PNG by the file's ending.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Searches for a number of accelerators give up beyond this many.
const ACCELERATORS_MAX: u32 = 1024;

pub(super) fn command(args: &SweepArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    setup.replace_seeds(&args.seeds);
    if let Some(plot) = &args.plot {
        output::check(plot, &["svg", "png"])?;
    }
    let sweep = sweep(args, setup.sweep.take())?;
    let policies = setup.policies(&args.policy);
    let setups = sweep.values.iter().map(|&value| setup.with(sweep.parameter, value));
    let setups = setups.collect::<Result<Vec<_>>>()?;
    let jobs: Vec<_> = setups
        .iter()
        .flat_map(|setup| policies.iter().map(move |&policy| (setup, policy)))
        .collect();
    let points =
        workers::each(&jobs, "sweeping", |&(setup, policy)| measure(setup, policy, sweep.measure))?;
    let rows: Vec<&[Point]> = points.chunks(policies.len()).collect();
    for (value, row) in sweep.values.iter().zip(&rows) {
        for (policy, point) in policies.iter().zip(*row) {
            if let Some(limit) = &point.limit {
                note(format_args!("{} = {value}, {policy}: {limit}", sweep.parameter.title()));
            }
        }
    }
    if let Some(plot) = &args.plot {
        let names: Vec<String> = policies.iter().map(PolicyKind::to_string).collect();
        draw(&sweep, &names, &rows).write(plot)?;
    }
    let spread = setup.seeds.len() > 1 && sweep.measure != Measure::Accelerators;
    show(&[sheet(&sweep, &policies, &rows, spread)], args.format)
}

/// What one policy did with one value, over the seeds.
#[derive(Clone, Debug)]
struct Point {
    /// Not a number where no answer was found.
    median: f64,
    lowest: f64,
    highest: f64,
    /// Where a search ended before the policy did.
    limit: Option<String>,
}

/// The sweep that was asked for: the command line wins over the scenario.
fn sweep(args: &SweepArgs, written: Option<Sweep>) -> Result<Sweep> {
    let usual = written.as_ref().map_or(Measure::Goodput, |sweep| sweep.measure);
    let measure = args.measure.unwrap_or(usual);
    match (args.parameter, written) {
        (Some(_), _) if !are_usable(&args.values) => {
            Err(BadInput::error("--values: give numbers from 0, in growing order"))
        }
        (Some(parameter), _) => Ok(Sweep { parameter, values: args.values.clone(), measure }),
        (None, Some(sweep)) => Ok(Sweep { measure, ..sweep }),
        (None, None) => Err(BadInput::error(
            "nothing to vary: give --parameter and --values, or a [sweep] section",
        )),
    }
}

/// Whether a sweep can run over these values.
pub(super) fn are_usable(values: &[f64]) -> bool {
    let usable = |value: &f64| value.is_finite() && *value >= 0.0;
    !values.is_empty() && values.iter().all(usable) && values.is_sorted()
}

/// Says something beside the table, to whoever listens.
fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn measure(setup: &Setup, policy: PolicyKind, measure: Measure) -> Result<Point> {
    if measure == Measure::Accelerators {
        let fewest = fewest(setup, policy, ACCELERATORS_MAX)?;
        let count = fewest.map_or(f64::NAN, f64::from);
        let limit = format!("{ACCELERATORS_MAX} accelerators do not do");
        let limit = fewest.is_none().then_some(limit);
        return Ok(Point { median: count, lowest: count, highest: count, limit });
    }
    let (mut figures, mut ended) = (Vec::new(), None);
    if measure == Measure::Goodput {
        for found in search(setup, &[policy], 1, |_| {})? {
            ended = limit(&found);
            figures.extend(found.by_seed);
        }
    } else {
        for &seed in &setup.seeds {
            let report = setup.simulate(policy, setup.rate()?, seed)?;
            let p99 = report.models.iter().map(|model| model.latency(0.99).as_millis_f64());
            figures.push(match measure {
                Measure::Good => report.good_rate(),
                Measure::Busy => report.busy.iter().sum(),
                _ => p99.fold(0.0, f64::max),
            });
        }
    }
    figures.sort_by(f64::total_cmp);
    let (lowest, highest) = (figures[0], figures[figures.len() - 1]);
    Ok(Point { median: figures[(figures.len() - 1) / 2], lowest, highest, limit: ended })
}

fn sheet(sweep: &Sweep, policies: &[PolicyKind], rows: &[&[Point]], spread: bool) -> Sheet {
    let mut sheet = Sheet::new("sweep", [sweep.parameter.title()]);
    for policy in policies {
        sheet.columns.push(format!("{policy} {}", sweep.measure.heading()));
        if spread {
            sheet.columns.extend(["lowest", "highest"].map(|end| format!("{policy} {end}")));
        }
    }
    let decimals = sweep.measure.decimals();
    let cell = |figure: f64| match figure.is_finite() {
        true => Cell::Number(figure, decimals),
        false => Cell::Nothing,
    };
    for (value, points) in sweep.values.iter().zip(rows) {
        let mut row = vec![Cell::Text(value.to_string())];
        for point in *points {
            row.push(cell(point.median));
            if spread {
                row.extend([point.lowest, point.highest].map(cell));
            }
        }
        sheet.rows.push(row);
    }
    sheet
}

fn draw<'a>(sweep: &Sweep, names: &'a [String], rows: &[&[Point]]) -> Chart<'a> {
    let line = |(number, name): (usize, &'a String)| {
        let points =
            sweep.values.iter().zip(rows).map(|(&value, points)| (value, points[number].median));
        let points = points.filter(|(_, figure)| figure.is_finite()).collect();
        Line { name, points }
    };
    Chart {
        title: sweep.measure.title(),
        x: sweep.parameter.title(),
        y: sweep.measure.title(),
        lines: names.iter().enumerate().map(line).collect(),
    }
}
