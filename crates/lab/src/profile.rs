//! `symphony profile`: measures one model, shows its latency profile, and what objectives cost.

mod objectives;

use crate::plot::{Chart, Line};
use anyhow::Result;
use objectives::ObjectiveQuestion;
use std::path::PathBuf;
use symphony_backend::loader::{LoadedModel, Loader};
use symphony_backend::profiling::{CellMeasurement, Measured};
use symphony_backend::repository::ModelDirectory;
use symphony_client::console::print_line;
use symphony_control::config::PoolConfig;
use symphony_core::Span;

/// Options of `symphony profile`.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileArgs {
    /// The model's directory, such as examples/models/digits; with --models its name.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The directory of models that it is in.
    #[arg(long, value_name = "DIR", visible_alias = "model-repository")]
    models: Option<PathBuf>,
    /// Where to write the plot [default: MODEL-profile.svg here].
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Measures the model and prints what was found.
///
/// # Errors
/// The model cannot be loaded, or the plot cannot be written.
pub fn command(args: ProfileArgs, config: &PoolConfig) -> Result<()> {
    let path = args.models.map_or_else(|| args.model.clone(), |models| models.join(&args.model));
    let directory = ModelDirectory::at(&path)?;
    let loaded = Loader::new(config.loader.clone()).load(&directory)?;
    let (alpha, beta) = loaded.plan.fit();
    print_line(format_args!("{} {} on {}", loaded.name, loaded.version, loaded.engine))?;
    print_line(loaded.measured.table())?;
    print_line(format_args!(
        "mean fits l(b) = {:.3} b + {:.3} ms; 8*l(1)/l(8) = {}",
        alpha.as_millis_f64(),
        beta.as_millis_f64(),
        gain(&loaded.measured)
    ))?;
    show_objectives(&loaded, config)?;
    let plot = args.plot.unwrap_or_else(|| format!("{}-profile.svg", loaded.name).into());
    chart(&loaded.name, &loaded.measured).write(&plot)?;
    print_line(format_args!("plot: {}", plot.display()))
}

/// Prints what each objective costs in goodput, and one that could be set.
fn show_objectives(loaded: &LoadedModel, config: &PoolConfig) -> Result<()> {
    let accelerators = u32::try_from(config.loader.cores.accelerators)?;
    let question =
        ObjectiveQuestion { measured: &loaded.measured, accelerators, mode: config.mode };
    let own = (!loaded.objective.is_soft()).then_some(loaded.objective.span());
    let points = question.points(own)?;
    print_line(format_args!(
        "goodput by objective, simulated with these times: accelerators: {accelerators}, mode: {}",
        config.mode.name()
    ))?;
    print_line(objectives::shown(&points))?;
    match own {
        Some(own) => {
            print_line(format_args!("its model.toml has slo_ms = {}", own.as_millis_f64()))?
        }
        None => print_line("its model.toml has no slo_ms: it is served as best effort")?,
    }
    print_line(objectives::suggestion(&points))
}

/// How many times cheaper eight rows are together than one by one.
fn gain(measured: &Measured) -> String {
    let profile = &measured.plan;
    if profile.rows_max() < 8 {
        return "not known: max_batch is below 8".to_owned();
    }
    let ratio = 8.0 * profile.exec(1).as_millis_f64() / profile.exec(8).as_millis_f64();
    format!("{ratio:.2}")
}

fn chart<'a>(name: &'a str, measured: &Measured) -> Chart<'a> {
    let points = |time: fn(&CellMeasurement) -> Span| {
        let point =
            |cell: &CellMeasurement| (f64::from(cell.cell.rows), time(cell).as_millis_f64());
        measured.cells.iter().map(point).collect()
    };
    Chart {
        title: name,
        x: "rows in the batch",
        y: "milliseconds",
        lines: vec![
            Line { name: "mean", points: points(|cell| cell.mean) },
            Line { name: "p95", points: points(|cell| cell.p95) },
        ],
        diagonal: None,
    }
}
