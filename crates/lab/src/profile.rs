//! `symphony profile`: measures one model and shows its latency profile.

use crate::plot::{Chart, Line};
use anyhow::Result;
use std::path::PathBuf;
use symphony_backend::loader::{Loader, LoaderConfig};
use symphony_backend::profiling::{CellMeasurement, Measured};
use symphony_backend::repository::ModelDirectory;
use symphony_client::console::print_line;
use symphony_core::Span;

/// Options of `symphony profile`.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileArgs {
    /// The model's directory, such as examples/models/digits.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where to write the plot [default: MODEL-profile.svg here].
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Measures the model and prints what was found.
///
/// # Errors
/// The model cannot be loaded, or the plot cannot be written.
pub fn command(args: ProfileArgs, config: LoaderConfig) -> Result<()> {
    let directory = ModelDirectory::at(&args.model)?;
    let loaded = Loader::new(config).load(&directory)?;
    let (alpha, beta) = loaded.plan.fit();
    print_line(format_args!("{} {} on {}", loaded.name, loaded.version, loaded.engine))?;
    print_line(loaded.measured.table())?;
    print_line(format_args!(
        "p95 fits l(b) = {:.3} b + {:.3} ms; 8*l(1)/l(8) = {}",
        alpha.as_millis_f64(),
        beta.as_millis_f64(),
        gain(&loaded.measured)
    ))?;
    let plot = args.plot.unwrap_or_else(|| format!("{}-profile.svg", loaded.name).into());
    chart(&loaded.name, &loaded.measured).write(&plot)?;
    print_line(format_args!("plot: {}", plot.display()))
}

/// How many times cheaper eight rows are together than one by one.
fn gain(measured: &Measured) -> String {
    let profile = &measured.typical;
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
            Line { name: "p50", points: points(|cell| cell.p50) },
            Line { name: "p95", points: points(|cell| cell.p95) },
        ],
        diagonal: None,
    }
}
