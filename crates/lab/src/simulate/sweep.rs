//! `symphony simulate sweep`: one parameter over a range, to a table and a plot.

use super::goodput::{limit, search};
use super::gpus::fewest;
use super::input::BadInput;
use super::limits::are_usable;
use super::noise::NoiseArgs;
use super::parameter::{Measure, Parameter};
use super::series::Series;
use super::setup::{Setup, Sweep};
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::{file, output, workers};
use crate::plot::{Chart, Line};
use anyhow::Result;
use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use symphony_sim::{PolicyKind, Report};

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
    /// What to show of each, a table for each measure [default: the scenario's, or goodput].
    #[arg(long, value_enum, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// Policies to compare on the same requests [default: the scenario's, or consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Seeds of the requests; the median counts [default: the scenario's, or 1, 2 and 3].
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Draw the first measure, as SVG or PNG by the file's ending.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Searches for a number of accelerators give up beyond this many.
const ACCELERATORS_MAX: u32 = 1024;

pub(super) fn command(args: &SweepArgs) -> Result<()> {
    let mut setup = file::read(&args.scenario)?;
    args.noise.apply(&mut setup)?;
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
    let points = workers::each(&jobs, "sweeping", |&(setup, policy)| {
        measure(setup, policy, &sweep.measures)
    })?;
    // By value, then by policy, then by measure.
    let rows: Vec<&[Vec<Point>]> = points.chunks(policies.len()).collect();
    for (value, row) in sweep.values.iter().zip(&rows) {
        for (policy, points) in policies.iter().zip(*row) {
            for limit in points.iter().filter_map(|point| point.limit.as_ref()) {
                note(format_args!("{} = {value}, {policy}: {limit}", sweep.parameter.title()));
            }
        }
    }
    if let Some(plot) = &args.plot {
        let names: Vec<String> = policies.iter().map(PolicyKind::to_string).collect();
        draw(&sweep, &names, &rows).write(plot)?;
    }
    let several = setup.seeds.len() > 1;
    let sheets = (0..sweep.measures.len()).map(|at| sheet(&sweep, at, &policies, &rows, several));
    show(&sheets.collect::<Vec<_>>(), args.format)
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

impl Point {
    /// Of the figures of all seeds, at least one.
    fn over(mut figures: Vec<f64>, limit: Option<String>) -> Point {
        figures.sort_by(f64::total_cmp);
        let (lowest, highest) = (figures[0], figures[figures.len() - 1]);
        Point { median: figures[(figures.len() - 1) / 2], lowest, highest, limit }
    }
}

/// The sweep that was asked for: the command line wins over the scenario.
fn sweep(args: &SweepArgs, written: Option<Sweep>) -> Result<Sweep> {
    let usual = written.as_ref().map_or(vec![Measure::Goodput], |sweep| sweep.measures.clone());
    let measures = if args.measure.is_empty() { usual } else { args.measure.clone() };
    match (args.parameter, written) {
        (Some(_), _) if !are_usable(&args.values) => {
            Err(BadInput::error("--values: give numbers from 0, in growing order"))
        }
        (Some(parameter), _) => Ok(Sweep { parameter, values: args.values.clone(), measures }),
        (None, Some(sweep)) => Ok(Sweep { measures, ..sweep }),
        (None, None) => Err(BadInput::error(
            "nothing to vary: give --parameter and --values, or a [sweep] section",
        )),
    }
}

/// Prints a line beside the table.
fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What one policy did with one value, by measure.
fn measure(setup: &Setup, policy: PolicyKind, measures: &[Measure]) -> Result<Vec<Point>> {
    let is_of_run =
        |measure: &Measure| !matches!(measure, Measure::Goodput | Measure::Accelerators);
    let mut runs = Vec::new();
    if measures.iter().any(is_of_run) {
        let by_second = measures.contains(&Measure::WorstSecond);
        for &seed in &setup.seeds {
            runs.push(simulate(setup, policy, by_second, seed)?);
        }
    }
    let point = |&measure: &Measure| match measure {
        Measure::Accelerators => needed(setup, policy),
        Measure::Goodput => goodput(setup, policy),
        _ => Ok(Point::over(runs.iter().map(|run| figure(measure, run)).collect(), None)),
    };
    measures.iter().map(point).collect()
}

/// One run at the given rate: the bad share of its worst second is only known if it was watched.
fn simulate(
    setup: &Setup,
    policy: PolicyKind,
    by_second: bool,
    seed: u64,
) -> Result<(Report, f64)> {
    let rate = setup.rate()?;
    if !by_second {
        return Ok((setup.simulate(policy, rate, seed)?, 0.0));
    }
    let mut series = Series::new(&setup.scenario(rate)?, 1.0)?;
    let report = setup.observe(policy, rate, seed, |observed| series.add(observed))?;
    Ok((report, series.worst_bad_share()))
}

fn needed(setup: &Setup, policy: PolicyKind) -> Result<Point> {
    let fewest = fewest(setup, policy, ACCELERATORS_MAX)?;
    let count = fewest.map_or(f64::NAN, f64::from);
    let limit = format!("{ACCELERATORS_MAX} accelerators do not do");
    let limit = fewest.is_none().then_some(limit);
    Ok(Point { median: count, lowest: count, highest: count, limit })
}

fn goodput(setup: &Setup, policy: PolicyKind) -> Result<Point> {
    let (mut figures, mut ended) = (Vec::new(), None);
    for found in search(setup, &[policy], 1, |_| {})? {
        ended = limit(&found);
        figures.extend(found.by_seed);
    }
    Ok(Point::over(figures, ended))
}

/// What one run at the given rate shows.
fn figure(measure: Measure, (report, worst_second): &(Report, f64)) -> f64 {
    let worst = |quantile| {
        let latencies = report.models.iter().map(|model| model.latency(quantile));
        latencies.max().unwrap_or_default().as_millis_f64()
    };
    match measure {
        Measure::Good => report.good_rate(),
        Measure::Busy => report.busy.iter().sum(),
        Measure::Bad => report.worst_bad_share() * 100.0,
        Measure::WorstSecond => worst_second * 100.0,
        Measure::P50Ms => worst(0.5),
        _ => worst(0.99),
    }
}

fn sheet(
    sweep: &Sweep,
    at: usize,
    policies: &[PolicyKind],
    rows: &[&[Vec<Point>]],
    several: bool,
) -> Sheet {
    let measure = sweep.measures[at];
    let spread = several && measure != Measure::Accelerators;
    let name = if sweep.measures.len() > 1 { measure.heading() } else { "sweep" };
    let mut sheet = Sheet::new(name, [sweep.parameter.title()]);
    for policy in policies {
        sheet.columns.push(format!("{policy} {}", measure.heading()));
        if spread {
            sheet.columns.extend(["lowest", "highest"].map(|end| format!("{policy} {end}")));
        }
    }
    let decimals = measure.decimals();
    let cell = |figure: f64| {
        if figure.is_finite() { Cell::Number(figure, decimals) } else { Cell::Nothing }
    };
    for (value, points) in sweep.values.iter().zip(rows) {
        let mut row = vec![Cell::Text(value.to_string())];
        for point in points.iter().map(|points| &points[at]) {
            row.push(cell(point.median));
            if spread {
                row.extend([point.lowest, point.highest].map(cell));
            }
        }
        sheet.rows.push(row);
    }
    sheet
}

fn draw<'a>(sweep: &Sweep, names: &'a [String], rows: &[&[Vec<Point>]]) -> Chart<'a> {
    let measure = sweep.measures[0];
    let line = |(number, name): (usize, &'a String)| {
        let points =
            sweep.values.iter().zip(rows).map(|(&value, points)| (value, points[number][0].median));
        let points = points.filter(|(_, figure)| figure.is_finite()).collect();
        Line { name, points }
    };
    let is_offered = sweep.parameter == Parameter::Rate && measure == Measure::Good;
    Chart {
        title: measure.title(),
        x: sweep.parameter.title(),
        y: measure.title(),
        lines: names.iter().enumerate().map(line).collect(),
        diagonal: is_offered.then_some("all offered"),
    }
}
