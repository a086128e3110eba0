//! Inputs as JSON: a value, or arrays nested as the shape is.

use super::contents::Contents;
use crate::metadata::InputInfo;
use crate::values;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The contents, and the shape that their nesting says.
///
/// # Errors
/// It is not JSON, not nested evenly, or an element is not of the input's type.
pub(super) fn read(info: &InputInfo, text: &[u8]) -> Result<Contents> {
    let value: Value = serde_json::from_slice(text).context("it is not JSON")?;
    let mut nested = Nested { info, shape: Vec::new(), data: Vec::new(), leaf_depth: None };
    nested.take(&value, &mut Vec::new())?;
    let shape = nested.shape.iter().map(|size| i64::try_from(*size)).collect::<Result<_, _>>()?;
    Ok(Contents { shape, data: nested.data.into() })
}

struct Nested<'a> {
    info: &'a InputInfo,
    /// Sizes by depth, as the first array of each depth has them.
    shape: Vec<usize>,
    data: Vec<u8>,
    leaf_depth: Option<usize>,
}

impl Nested<'_> {
    /// Takes a value at a place: the index in each array around it.
    fn take(&mut self, value: &Value, place: &mut Vec<usize>) -> Result<()> {
        let Value::Array(members) = value else { return self.leaf(value, place) };
        let depth = place.len();
        match self.shape.get(depth) {
            None if self.leaf_depth.is_some() => bail!("{place:?} is an array, others are not"),
            None => self.shape.push(members.len()),
            Some(size) if *size == members.len() => {}
            Some(size) => {
                let first = vec![0; depth];
                bail!("{place:?} has {} elements, {first:?} has {size}", members.len());
            }
        }
        for (index, member) in members.iter().enumerate() {
            place.push(index);
            self.take(member, place)?;
            place.pop();
        }
        Ok(())
    }

    fn leaf(&mut self, value: &Value, place: &[usize]) -> Result<()> {
        if *self.leaf_depth.get_or_insert(place.len()) != place.len() {
            bail!("{place:?} is not an array, others are");
        }
        let datatype = self.info.datatype;
        values::push(datatype, value, &mut self.data)
            .with_context(|| format!("{place:?} is {value}, not {datatype}"))
    }
}
