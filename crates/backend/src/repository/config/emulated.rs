//! The keys of `model.toml` that describe an emulated model.

use super::super::error::ConfigError;
use super::super::source::TomlSource;
use super::graph::GraphKeys;
use super::tensors::Tensors;
use super::written::{DAY_MS, EmulatedTable, File, MAX_BATCH_DEFAULT, MAX_BATCH_LIMIT};
use std::sync::Arc;
use symphony_core::{Profile, ProfileError, SizedProfile, Span};
use symphony_wire::tensor::{Dim, OpenDimension, Signature};
use toml::Spanned;

/// The largest size of an open dimension of an emulated model.
const EMULATED_OPEN_MAX: usize = 1 << 24;

/// An emulated model.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulatedModel {
    /// How long it takes, by rows and size.
    pub costs: Arc<SizedProfile>,
    /// What it takes and gives.
    pub signature: Signature,
}

pub(super) fn emulated(
    source: &TomlSource,
    file: &File,
    graph: &GraphKeys,
    max_batch: Option<u32>,
) -> Result<EmulatedModel, ConfigError> {
    let stray = file.generate.as_ref().map(|value| ("generate", value.span()));
    let stray = stray.or_else(|| file.file.as_ref().map(|value| ("file", value.span())));
    let stray = stray.or_else(|| graph.stray());
    if let Some((key, span)) = stray {
        let problem =
            format!("{key} does not go with engine = \"emulated\", which runs no ONNX file");
        return Err(source.refuse(Some(span), problem));
    }
    let Some(table) = &file.emulated else {
        let problem = "engine = \"emulated\" needs a table [emulated] with alpha_ms and beta_ms, \
                       or with latency_ms = [time of 1 row, of 2 rows, …]";
        return Err(source.refuse(None, problem));
    };
    let profile = emulated_profile(source, table, max_batch)?;
    let open = open_dimension(source, table)?;
    let rows_max = profile.rows_max();
    let engine = "emulated";
    let of_inputs = Tensors { source, engine, role: "input", tables: &file.input };
    let of_outputs = Tensors { role: "output", tables: &file.output, ..of_inputs };
    let may_be_open = open.is_some();
    let mut inputs =
        of_inputs.read(|_, _, name| (may_be_open && name.is_none()).then_some(Dim::Open(0)))?;
    let outputs = of_outputs.read(|_, _, _| None)?;
    let opened = Signature { dimensions: open.iter().cloned().collect(), ..Signature::default() };
    of_inputs.check(&inputs, &opened, rows_max)?;
    of_outputs.check(&outputs, &Signature::default(), rows_max)?;
    let padded = (table.get_ref().padded && open.is_some()).then_some(0);
    if padded.is_some() {
        // What it is padded with is never computed with: zeros, or the empty text.
        for input in inputs.iter_mut().filter(|input| input.shape.contains(&Dim::Open(0))) {
            input.fill = Some(vec![0; input.datatype.size().unwrap_or(size_of::<u32>())].into());
        }
    }
    let dimensions = open.into_iter().collect();
    let signature = Signature { inputs, outputs, dimensions, padded };
    let costs = Arc::new(emulated_costs(source, table, &signature, profile)?);
    Ok(EmulatedModel { costs, signature })
}

/// The dimension that inputs of an emulated model may leave open.
fn open_dimension(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
) -> Result<Option<OpenDimension>, ConfigError> {
    let Some(max) = &table.get_ref().open_max else { return Ok(None) };
    match usize::try_from(*max.get_ref()) {
        Ok(max @ 1..=EMULATED_OPEN_MAX) => Ok(Some(OpenDimension { name: "size".to_owned(), max })),
        _ => {
            let problem = format!("open_max: give a number from 1 to {EMULATED_OPEN_MAX}");
            Err(source.refuse(Some(max.span()), problem))
        }
    }
}

/// What batches of an emulated model take at its smallest and its largest size.
fn emulated_costs(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
    signature: &Signature,
    profile: Profile,
) -> Result<SizedProfile, ConfigError> {
    let Some(element) = &table.get_ref().element_us else {
        return Ok(SizedProfile::fixed(1, profile));
    };
    let of_element = latency_span(source, "element_us", element.get_ref() / 1e3, element.span())?;
    let refuse = |problem: String| source.refuse(Some(element.span()), problem);
    let at = |open: usize| {
        let size = signature.size(&vec![open; signature.dimensions.len()]);
        let more = of_element.times(size);
        let exec = |rows: u32| profile.exec(rows) + more.times(u64::from(rows));
        let larger = Profile::from_table((1..=profile.rows_max()).map(exec).collect())?;
        Ok((size, larger.with_spread(&[(1, profile.spread(1))])))
    };
    let largest = signature.dimensions.first().map_or(1, |dimension| dimension.max);
    let sizes = if largest > 1 { vec![1, largest] } else { vec![1] };
    let measured: Result<Vec<_>, ProfileError> = sizes.into_iter().map(at).collect();
    let measured = measured.map_err(|error| refuse(error.to_string()))?;
    SizedProfile::new(measured).map_err(|error| refuse(error.to_string()))
}

fn emulated_profile(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
    max_batch: Option<u32>,
) -> Result<Profile, ConfigError> {
    let values = table.get_ref();
    let refuse = |problem: String| source.refuse(Some(table.span()), problem);
    let profile = match &values.latency_ms {
        Some(_) if values.alpha_ms.is_some() || values.beta_ms.is_some() => {
            return Err(refuse("give either alpha_ms and beta_ms or latency_ms, not both".into()));
        }
        Some(latency) => {
            let times = latency.get_ref();
            let span = latency.span();
            let rows = rows_of_table(times.len(), max_batch)
                .map_err(|problem| source.refuse(Some(span.clone()), problem))?;
            let times = times.iter().take(rows);
            let spans = times.map(|&ms| latency_span(source, "latency_ms", ms, span.clone()));
            Profile::from_table(spans.collect::<Result<_, _>>()?)
        }
        None if values.alpha_ms.is_none() && values.beta_ms.is_none() => {
            return Err(refuse("[emulated] needs alpha_ms and beta_ms, or latency_ms".into()));
        }
        None => {
            let coefficient = |key, value: &Option<Spanned<f64>>| match value {
                Some(value) => latency_span(source, key, *value.get_ref(), value.span()),
                None => Ok(Span::ZERO),
            };
            Profile::linear(
                coefficient("alpha_ms", &values.alpha_ms)?,
                coefficient("beta_ms", &values.beta_ms)?,
                max_batch.unwrap_or(MAX_BATCH_DEFAULT),
            )
        }
    };
    let profile = profile.map_err(|error| refuse(error.to_string()))?;
    Ok(profile.with_spread(&[(1, emulated_spread(source, table)?)]))
}

fn emulated_spread(
    source: &TomlSource,
    table: &Spanned<EmulatedTable>,
) -> Result<f64, ConfigError> {
    let Some(spread) = &table.get_ref().spread else { return Ok(0.0) };
    if (0.0..=1.0).contains(spread.get_ref()) {
        return Ok(*spread.get_ref());
    }
    let problem = "spread: give a share of the time from 0 to 1";
    Err(source.refuse(Some(spread.span()), problem))
}

/// How many entries of a latency table are used.
fn rows_of_table(entries: usize, max_batch: Option<u32>) -> Result<usize, String> {
    let rows = max_batch.map_or(entries, |rows| rows as usize);
    if rows > entries {
        return Err(format!(
            "latency_ms has {entries} entries but max_batch = {rows}: give one for every batch \
             size from 1, or lower max_batch"
        ));
    }
    if rows > MAX_BATCH_LIMIT as usize {
        return Err(format!("latency_ms has {entries} entries: {MAX_BATCH_LIMIT} at most"));
    }
    Ok(rows)
}

fn latency_span(
    source: &TomlSource,
    key: &str,
    ms: f64,
    at: std::ops::Range<usize>,
) -> Result<Span, ConfigError> {
    if (0.0..=DAY_MS).contains(&ms) {
        return Ok(Span::from_millis_f64(ms));
    }
    let problem =
        format!("{key}: {ms} is no latency: give milliseconds from 0 to {DAY_MS} (a day)");
    Err(source.refuse(Some(at), problem))
}
