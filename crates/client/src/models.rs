//! `symphony models`: lists what a running server serves.

use crate::asking::AskedServer;
use crate::console::print_line;
use crate::table::{aligned, titles};
use crate::target::{ServerArgs, Target};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Options of `symphony models`.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelsArgs {
    /// Print the server's list as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// One version of a model, as a server lists it. Only this server says more than its state.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    reason: String,
    engine: Option<String>,
    slo_ms: Option<f64>,
    max_batch: Option<u32>,
    queued: Option<u64>,
    #[serde(default)]
    profile_ms: BTreeMap<u32, f64>,
    measured: Option<Times>,
    planned_mean: Option<f64>,
    margin: Option<f64>,
}

/// What batches took lately, as multiples of the profile.
#[derive(Clone, Debug, Deserialize)]
struct Times {
    mean: f64,
    p95: f64,
    spread: f64,
}

/// Prints the list.
///
/// # Errors
/// No server answers, or not as expected.
pub fn command(args: &ModelsArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")?;
    let models = runtime.block_on(list(args))?;
    if args.json {
        return print_line(serde_json::to_string_pretty(&models)?);
    }
    let listed: Vec<Listed> = models
        .into_iter()
        .map(|model| serde_json::from_value(model).context("the server lists something else"))
        .collect::<Result<_>>()?;
    lines(&listed).iter().try_for_each(print_line)
}

/// What a server of this make answers to `GET /v2/models`, whole.
///
/// # Errors
/// No server answers there, or it is of another make.
pub async fn listing(target: &Target) -> Result<Value> {
    let listing = AskedServer::find(target).await?.get("/v2/models").await?;
    listing.with_context(|| format!("{} does not list its models", target.address))
}

/// The list of this server, or the repository index of one of another make.
async fn list(args: &ModelsArgs) -> Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Listing {
        models: Vec<Value>,
    }
    let target = Target::open(&args.server)?;
    let server = AskedServer::find(&target).await?;
    if let Some(Listing { models }) = server.get("/v2/models").await? {
        return Ok(models);
    }
    let index = server.post("/v2/repository/index").await?;
    index.with_context(|| format!("{} lists no models", target.address))
}

const COLUMNS: [&str; 14] = [
    "model",
    "version",
    "state",
    "engine",
    "objective",
    "max batch",
    "l(1) ms",
    "l(max) ms",
    "measured",
    "p95",
    "spread %",
    "planned",
    "margin",
    "queued",
];

/// How many of them hold text.
const TEXTS: usize = 5;

fn lines(listed: &[Listed]) -> Vec<String> {
    if listed.is_empty() {
        return vec!["no model is served".to_owned()];
    }
    let rows = listed.iter().map(row).collect();
    let table = aligned(titles(COLUMNS), rows, TEXTS).to_string();
    let why = |model: &&Listed| !model.reason.is_empty();
    let reasons = listed
        .iter()
        .filter(why)
        .map(|model| format!("{} {}: {}", model.name, model.version, model.reason));
    std::iter::once(table).chain(reasons).collect()
}

fn row(model: &Listed) -> Vec<String> {
    const NOTHING: &str = "-";
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let times = |times: Option<f64>| or_nothing(times.map(|times| format!("{times:.2}x")));
    let measured = model.measured.as_ref();
    let ms = |ms: Option<&f64>| or_nothing(ms.map(|ms| format!("{ms:.2}")));
    // A model that is served without an objective is served as well as can be.
    let objective = match (model.slo_ms, &model.engine) {
        (Some(ms), _) => format!("{ms} ms"),
        (None, Some(_)) => "best effort".to_owned(),
        (None, None) => NOTHING.to_owned(),
    };
    vec![
        model.name.clone(),
        model.version.clone(),
        model.state.clone(),
        or_nothing(model.engine.clone()),
        objective,
        or_nothing(model.max_batch.map(|rows| rows.to_string())),
        ms(model.profile_ms.first_key_value().map(|(_, ms)| ms)),
        ms(model.profile_ms.last_key_value().map(|(_, ms)| ms)),
        times(measured.map(|times| times.mean)),
        times(measured.map(|times| times.p95)),
        or_nothing(measured.map(|times| format!("{:.1}", 100.0 * times.spread))),
        times(model.planned_mean),
        times(model.margin),
        or_nothing(model.queued.map(|count| count.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(listed: Value) -> String {
        lines(&serde_json::from_value::<Vec<Listed>>(listed).unwrap()).join("\n")
    }

    #[test]
    fn models_are_shown_with_their_terms_and_their_troubles() {
        let text = shown(json!([
            {"name": "digits", "version": "1", "state": "READY", "reason": "", "engine": "rten",
             "slo_ms": 50.0, "max_batch": 16, "queued": 2, "profile_ms": {"1": 0.5, "16": 2.0},
             "measured": {"batches": 9, "mean": 1.02, "p95": 1.3, "spread": 0.151},
             "planned_mean": 1.0, "spread": 0.1, "margin": 1.2},
            {"name": "text", "version": "2", "state": "READY", "reason": "", "engine": "rten",
             "slo_ms": null, "max_batch": 1, "queued": null, "profile_ms": {"1": 3.0}},
            {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no such file"},
        ]));
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        let cells = ["digits", "1", "READY", "rten", "50 ms", "16", "0.50", "2.00"];
        assert_eq!(rows[2][1..9], cells);
        assert_eq!(rows[2][9..15], ["1.02x", "1.30x", "15.1", "1.00x", "1.20x", "2"]);
        assert_eq!(rows[3][5..9], ["best effort", "1", "3.00", "3.00"]);
        assert!(rows[3][9..15].iter().chain(&rows[4][4..15]).all(|cell| *cell == "-"));
        assert!(text.ends_with("\nbroken 1: no such file"), "{text}");
        assert_eq!(shown(json!([])), "no model is served");
    }
}
