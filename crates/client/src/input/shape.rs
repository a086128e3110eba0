//! Shapes of inputs: whether what is given fits what the model takes, and the sizes of open
//! dimensions that nobody gives.

use crate::metadata::{BATCH, Dimension, InputInfo, ModelInputs};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The size of an open dimension about which nothing is said: enough to see something, and what
/// networks that halve an image five times can take.
const SIZE_DEFAULT: i64 = 32;

/// One `--size`: how large an open dimension of made-up inputs is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SizeArg {
    name: String,
    size: i64,
}

impl FromStr for SizeArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<SizeArg> {
        let read = || {
            let (name, size) = text.split_once('=')?;
            let size = size.parse().ok().filter(|size| *size >= 0)?;
            Some(SizeArg { name: name.to_owned(), size })
        };
        read().with_context(|| "give the dimension and its size, such as sequence=40")
    }
}

/// The sizes of open dimensions by their names.
#[derive(Debug)]
pub(super) struct OpenSizes<'a> {
    model: &'a ModelInputs,
    known: BTreeMap<String, i64>,
}

impl<'a> OpenSizes<'a> {
    /// # Errors
    /// A size is given of a dimension that the model does not have, or too large a one.
    pub(super) fn new(model: &'a ModelInputs, given: &[SizeArg]) -> Result<OpenSizes<'a>> {
        let open = |dimension: &'a Dimension| match dimension {
            Dimension::Named(name) => Some(name.as_str()),
            Dimension::Size(_) => None,
        };
        let mut names: Vec<&str> =
            model.inputs.iter().flat_map(|info| &info.shape).filter_map(open).collect();
        names.sort_unstable();
        names.dedup();
        for SizeArg { name, size } in given {
            ensure!(
                names.contains(&name.as_str()),
                "--size: the model has no open dimension {name:?}; there are {}",
                names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            );
            let largest = model.largest.get(name).copied().unwrap_or(i64::MAX);
            ensure!(*size <= largest, "--size {name}={size}: {name:?} takes at most {largest}");
        }
        let known = given.iter().map(|given| (given.name.clone(), given.size)).collect();
        Ok(OpenSizes { model, known })
    }

    /// Takes the sizes of open dimensions from an input that is given.
    pub(super) fn learn(&mut self, info: &InputInfo, shape: &[i64]) {
        for (dimension, size) in info.shape.iter().zip(shape) {
            if let Dimension::Named(name) = dimension {
                self.known.entry(name.clone()).or_insert(*size);
            }
        }
    }

    /// The shape of a made-up input.
    pub(super) fn made_up(&self, info: &InputInfo) -> Vec<i64> {
        let size = |dimension: &Dimension| match dimension {
            Dimension::Size(size) if *size >= 0 => *size,
            Dimension::Size(_) => SIZE_DEFAULT,
            Dimension::Named(name) => match (self.known.get(name), name.as_str()) {
                (Some(size), _) => *size,
                (None, BATCH) => 1,
                (None, _) => {
                    let largest = self.model.largest.get(name).copied().unwrap_or(i64::MAX);
                    SIZE_DEFAULT.min(largest)
                }
            },
        };
        info.shape.iter().map(size).collect()
    }
}

/// The shape of the tensor that the model gets: the given one; with a dimension of one row before
/// it; or, of a flat list, the model's, where that leaves one size to find.
pub(super) fn fit(given: &[i64], info: &InputInfo) -> Option<Vec<i64>> {
    let one_row = || {
        let rows = matches!(info.shape.first(), Some(Dimension::Named(name)) if name == BATCH);
        rows.then(|| std::iter::once(1).chain(given.iter().copied()).collect::<Vec<_>>())
    };
    if fits(given, info) {
        return Some(given.to_vec());
    }
    one_row().filter(|shape| fits(shape, info)).or_else(|| unflattened(given, info))
}

fn fits(shape: &[i64], info: &InputInfo) -> bool {
    shape.len() == info.shape.len()
        && shape
            .iter()
            .zip(&info.shape)
            .all(|(size, wanted)| wanted.fixed().is_none_or(|wanted| wanted == *size))
}

fn unflattened(given: &[i64], info: &InputInfo) -> Option<Vec<i64>> {
    let &[elements] = given else { return None };
    let fixed: i64 = info.shape.iter().filter_map(Dimension::fixed).product();
    let open = info.shape.iter().filter(|dimension| dimension.fixed().is_none()).count();
    let size = elements.checked_div(fixed).filter(|size| size * fixed == elements)?;
    match open {
        0 if size != 1 => return None,
        0 | 1 => {}
        _ => return None,
    }
    Some(info.shape.iter().map(|dimension| dimension.fixed().unwrap_or(size)).collect())
}

/// The shape that the model takes, as a message shows it.
pub(super) fn text(info: &InputInfo) -> String {
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Size(size) if *size >= 0 => size.to_string(),
        Dimension::Size(_) => "any".to_owned(),
        Dimension::Named(name) => name.clone(),
    };
    format!("[{}]", info.shape.iter().map(dimension).collect::<Vec<_>>().join(", "))
}
