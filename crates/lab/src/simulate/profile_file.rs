//! Latency profiles as files: published lines, tables, and what `symphony profile` measured.

use super::input::BadInput;
use super::limits::{MILLIS_MAX, ROWS_MAX};
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use symphony_backend::repository::TomlSource;
use symphony_core::{Profile, ProfileError, SizedProfile, Span};
use toml::Spanned;

/// A profile: `alpha_ms` and `beta_ms` up to `max_batch`, or `[[size]]` entries. A measured profile
/// calls them `[[cell]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what it says of its origin is for people; other keys are refused")]
struct File {
    alpha_ms: Option<Spanned<f64>>,
    beta_ms: Option<Spanned<f64>>,
    max_batch: Option<Spanned<u32>>,
    #[serde(default, alias = "cell")]
    size: Vec<Spanned<Size>>,
    source: Option<String>,
    format: Option<u32>,
    model: Option<String>,
    engine: Option<String>,
    threads: Option<u32>,
    machine: Option<String>,
    cores: Option<u32>,
    shortened: Option<bool>,
}

/// One measured batch size, as `symphony profile` keeps it. Plans count with the 95th percentile.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other key is refused; read by people")]
struct Size {
    rows: u32,
    /// Elements of each row's inputs, where the model takes different sizes.
    #[serde(alias = "size")]
    elements: Option<u64>,
    p50_ns: Option<u64>,
    p95_ns: u64,
    runs: Option<u32>,
}

/// Reads a profile.
///
/// # Errors
/// [`BadInput`]: the file cannot be read, or is no profile.
pub(super) fn read(path: &Path) -> Result<Profile> {
    let source = TomlSource::read(path).map_err(BadInput::error)?;
    let file: File = source.parse().map_err(BadInput::error)?;
    let refuse = |at, problem: String| BadInput::error(source.refuse(at, problem));
    match (&file.alpha_ms, &file.beta_ms, &file.max_batch, file.size.as_slice()) {
        (Some(alpha), Some(beta), Some(max), []) => {
            let rows = *max.get_ref();
            if rows > ROWS_MAX {
                return Err(refuse(Some(max.span()), format!("max_batch: give 1 to {ROWS_MAX}")));
            }
            for (key, value) in [("alpha_ms", alpha), ("beta_ms", beta)] {
                if !(0.0..=MILLIS_MAX).contains(value.get_ref()) {
                    let problem = format!("{key}: give a number from 0 to {MILLIS_MAX}");
                    return Err(refuse(Some(value.span()), problem));
                }
            }
            let [alpha, beta] = [alpha, beta].map(|ms| Span::from_millis_f64(*ms.get_ref()));
            Profile::linear(alpha, beta, rows)
                .map_err(|error| refuse(Some(max.span()), error.to_string()))
        }
        (None, None, None, sizes @ [.., last]) => {
            // Times measured on some machine scatter; who serves with them flattens a dip, and so
            // do we.
            let written = if file.machine.is_some() { &[] } else { sizes };
            for pair in written.windows(2) {
                let (fewer, more) = (pair[0].get_ref(), &pair[1]);
                if more.get_ref().p95_ns < fewer.p95_ns {
                    let rows = more.get_ref().rows;
                    let problem = format!("the profile decreases at {rows} rows");
                    return Err(refuse(Some(more.span()), problem));
                }
            }
            let elements = last.get_ref().elements;
            if let Some(other) = sizes.iter().find(|size| size.get_ref().elements != elements) {
                let problem = "the profile has rows of several sizes: give `sizes` in [[model]]";
                return Err(refuse(Some(other.span()), problem.to_owned()));
            }
            if last.get_ref().rows > ROWS_MAX {
                let problem = format!("rows: give 1 to {ROWS_MAX}");
                return Err(refuse(Some(last.span()), problem));
            }
            let pair = |size: &Spanned<Size>| (size.get_ref().rows, Span(size.get_ref().p95_ns));
            let samples: Vec<_> = sizes.iter().map(pair).collect();
            Profile::from_samples(&samples)
                .map_err(|error| refuse(Some(last.span()), error.to_string()))
        }
        _ => Err(refuse(
            None,
            "a profile has either alpha_ms, beta_ms and max_batch, or [[size]] sections".to_owned(),
        )),
    }
}

/// Reads a profile over sizes, up to `rows_max` rows.
///
/// # Errors
/// [`BadInput`]: the file cannot be read, or is no profile over sizes.
pub(super) fn read_sized(path: &Path, rows_max: u32) -> Result<SizedProfile> {
    let source = TomlSource::read(path).map_err(BadInput::error)?;
    let file: File = source.parse().map_err(BadInput::error)?;
    let mut by_size: BTreeMap<u64, Vec<(u32, Span)>> = BTreeMap::new();
    for size in &file.size {
        let &Size { rows, elements, p95_ns, .. } = size.get_ref();
        let Some(elements) = elements.filter(|_| (1..=ROWS_MAX).contains(&rows)) else {
            let problem = format!("give elements, and rows from 1 to {ROWS_MAX}, in each [[size]]");
            return Err(BadInput::error(source.refuse(Some(size.span()), problem)));
        };
        if rows <= rows_max {
            by_size.entry(elements).or_default().push((rows, Span(p95_ns)));
        }
    }
    let profile = |(size, samples): (u64, Vec<(u32, Span)>)| {
        let profile = Profile::from_samples(&samples);
        profile.map(|profile| (size, profile)).map_err(|error| format!("{size} elements: {error}"))
    };
    let measured = by_size.into_iter().map(profile).collect::<Result<Vec<_>, _>>();
    let sized = measured.and_then(|all| SizedProfile::new(all).map_err(|error| error.to_string()));
    sized.map_err(|problem| BadInput::error(source.refuse(None, problem)))
}

/// The profile up to `rows_max` rows.
///
/// # Errors
/// No row is left.
pub(super) fn cut(profile: &Profile, rows_max: u32) -> Result<Profile, ProfileError> {
    let rows_max = rows_max.min(profile.rows_max());
    Profile::from_table((1..=rows_max).map(|rows| profile.exec(rows)).collect())
}
