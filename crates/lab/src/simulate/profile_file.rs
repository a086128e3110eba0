//! Latency profiles as files: published lines, tables, and what `symphony profile` measured.

use super::input::BadInput;
use super::limits::{MILLIS_MAX, ROWS_MAX};
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use symphony_backend::profiling::spread_of;
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

/// One measured batch size, as `symphony profile` keeps it. Plans count with the mean and its spread.
/// A file that has neither has a median and a 95th percentile that tell them; one with a 95th
/// percentile alone counts as taking that, with no spread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other key is refused; read by people")]
struct Size {
    rows: u32,
    /// Elements of each row's inputs, where the model takes different sizes.
    #[serde(alias = "size")]
    elements: Option<u64>,
    mean_ns: Option<u64>,
    spread: Option<f64>,
    p50_ns: Option<u64>,
    p95_ns: u64,
    runs: Option<u32>,
}

impl Size {
    /// What a batch takes.
    fn exec(&self) -> Span {
        Span(self.mean_ns.or(self.p50_ns).unwrap_or(self.p95_ns))
    }

    /// The standard deviation as a share of it.
    fn spread(&self) -> f64 {
        let told = |p50| spread_of(Span(p50), Span(self.p95_ns));
        self.spread.unwrap_or_else(|| self.p50_ns.map_or(0.0, told))
    }
}

/// The profile of measured batch sizes.
fn measured<'a>(sizes: impl Iterator<Item = &'a Size>) -> Result<Profile, ProfileError> {
    let (samples, spreads): (Vec<_>, Vec<_>) =
        sizes.map(|size| ((size.rows, size.exec()), (size.rows, size.spread()))).unzip();
    Ok(Profile::from_samples(&samples)?.with_spread(&spreads))
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
                if more.get_ref().exec() < fewer.exec() {
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
            measured(sizes.iter().map(Spanned::get_ref))
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
    let mut by_size: BTreeMap<u64, Vec<&Size>> = BTreeMap::new();
    for size in &file.size {
        let &Size { rows, elements, .. } = size.get_ref();
        let Some(elements) = elements.filter(|_| (1..=ROWS_MAX).contains(&rows)) else {
            let problem = format!("give elements, and rows from 1 to {ROWS_MAX}, in each [[size]]");
            return Err(BadInput::error(source.refuse(Some(size.span()), problem)));
        };
        if rows <= rows_max {
            by_size.entry(elements).or_default().push(size.get_ref());
        }
    }
    let profile = |(size, rows): (u64, Vec<&Size>)| {
        let profile = measured(rows.into_iter());
        profile.map(|profile| (size, profile)).map_err(|error| format!("{size} elements: {error}"))
    };
    let all = by_size.into_iter().map(profile).collect::<Result<Vec<_>, _>>();
    let sized = all.and_then(|all| SizedProfile::new(all).map_err(|error| error.to_string()));
    sized.map_err(|problem| BadInput::error(source.refuse(None, problem)))
}

/// The profile up to `rows_max` rows.
///
/// # Errors
/// No row is left.
pub(super) fn cut(profile: &Profile, rows_max: u32) -> Result<Profile, ProfileError> {
    let rows_max = rows_max.min(profile.rows_max());
    let spreads: Vec<_> = (1..=rows_max).map(|rows| (rows, profile.spread(rows))).collect();
    let table = (1..=rows_max).map(|rows| profile.exec(rows)).collect();
    Ok(Profile::from_table(table)?.with_spread(&spreads))
}
