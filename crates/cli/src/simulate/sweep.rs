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
    let measured =
        workers::each(&jobs, "sweeping", |&(setup, policy)| measure(setup, policy, sweep.measure))?;
    let (figures, limits): (Vec<f64>, Vec<Option<String>>) = measured.into_iter().unzip();
    let points = sweep.values.iter().flat_map(|value| policies.iter().map(move |p| (value, p)));
    for ((value, policy), limit) in points.zip(limits) {
        if let Some(limit) = limit {
            note(format_args!("{} = {value}, {policy}: {limit}", sweep.parameter.title()));
        }
    }
    let rows: Vec<&[f64]> = figures.chunks(policies.len()).collect();
    if let Some(plot) = &args.plot {
        let names: Vec<String> = policies.iter().map(PolicyKind::to_string).collect();
        draw(&sweep, &names, &rows).write(plot)?;
    }
    show(&[sheet(&sweep, &policies, &rows)], args.format)
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

/// The median over the seeds, and where a search ended before the policy did.
fn measure(setup: &Setup, policy: PolicyKind, measure: Measure) -> Result<(f64, Option<String>)> {
    if measure == Measure::Goodput {
        let found = search(setup, &[policy], 1, |_| {})?;
        return Ok(found.first().map_or((0.0, None), |found| (found.median(), limit(found))));
    }
    if measure == Measure::Accelerators {
        let fewest = fewest(setup, policy, ACCELERATORS_MAX)?;
        let limit = format!("{ACCELERATORS_MAX} accelerators do not do");
        return Ok(fewest.map_or((f64::NAN, Some(limit)), |count| (count.into(), None)));
    }
    let mut figures = Vec::new();
    for &seed in &setup.seeds {
        let report = setup.simulate(policy, setup.rate()?, seed)?;
        let p99 = report.models.iter().map(|model| model.latency(0.99).as_millis_f64());
        figures.push(match measure {
            Measure::Good => report.good_rate(),
            Measure::Busy => report.busy.iter().sum(),
            _ => p99.fold(0.0, f64::max),
        });
    }
    figures.sort_by(f64::total_cmp);
    Ok((figures[(figures.len() - 1) / 2], None))
}

fn sheet(sweep: &Sweep, policies: &[PolicyKind], rows: &[&[f64]]) -> Sheet {
    let mut sheet = Sheet::new("sweep", [sweep.parameter.title()]);
    let title = |policy: &PolicyKind| format!("{policy}: {}", sweep.measure.title());
    sheet.columns.extend(policies.iter().map(title));
    let decimals = sweep.measure.decimals();
    for (value, figures) in sweep.values.iter().zip(rows) {
        let cell = |figure: &f64| match figure.is_finite() {
            true => Cell::Number(*figure, decimals),
            false => Cell::Nothing,
        };
        let first = std::iter::once(Cell::Text(value.to_string()));
        sheet.rows.push(first.chain(figures.iter().map(cell)).collect());
    }
    sheet
}

fn draw<'a>(sweep: &Sweep, names: &'a [String], rows: &[&[f64]]) -> Chart<'a> {
    let line = |(number, name): (usize, &'a String)| {
        let points =
            sweep.values.iter().zip(rows).map(|(&value, figures)| (value, figures[number]));
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
