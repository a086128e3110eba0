//! `symphony profile`: measures one model and shows its latency profile.

use crate::args::ProfileArgs;
use crate::config::PoolConfig;
use crate::console::say;
use crate::logging;
use crate::plot::{Chart, Line};
use anyhow::{Context, Result};
use std::path::Path;
use symphony_backend::loader::Loader;
use symphony_backend::profiling::{Measured, SizeMeasurement};
use symphony_backend::repository::ModelDirectory;
use symphony_core::Span;

pub(crate) fn command(args: ProfileArgs) -> Result<()> {
    let config = PoolConfig::resolve(args.pool)?;
    logging::start(config.log);
    let directory = directory(&args.model)?;
    let loader = Loader::new(config.loader);
    let loaded = loader.load(&directory)?;
    let (alpha, beta) = loaded.plan.fit();
    say(format_args!("{} {} on {}", loaded.name, loaded.version, loaded.engine));
    say(loaded.measured.table());
    say(format_args!(
        "p95 fits l(b) = {:.3} b + {:.3} ms; 8*l(1)/l(8) = {}",
        alpha.as_millis_f64(),
        beta.as_millis_f64(),
        gain(&loaded.measured)
    ));
    let plot = args.plot.unwrap_or_else(|| format!("{}-profile.svg", loaded.name).into());
    chart(&loaded.name, &loaded.measured).write(&plot)?;
    say(format_args!("plot: {}", plot.display()));
    Ok(())
}

/// A model's own directory, named by its path.
fn directory(path: &Path) -> Result<ModelDirectory> {
    let absolute =
        path.canonicalize().with_context(|| format!("no model directory at {}", path.display()))?;
    let name = absolute
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name that a model can have", absolute.display()))?;
    Ok(ModelDirectory { name: name.to_owned(), path: absolute.clone() })
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
    let points = |time: fn(&SizeMeasurement) -> Span| {
        let point = |size: &SizeMeasurement| (f64::from(size.rows), time(size).as_millis_f64());
        measured.sizes.iter().map(point).collect()
    };
    Chart {
        title: name,
        x: "rows in the batch",
        y: "milliseconds",
        lines: vec![
            Line { name: "p50", points: points(|size| size.p50) },
            Line { name: "p95", points: points(|size| size.p95) },
        ],
    }
}
