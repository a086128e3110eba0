//! One tensor from nested arrays: its shape is what the nesting says, its elements are of the type
//! that the model says.

use super::super::elements;
use super::cursor::{Cursor, Next};
use crate::quote::brief;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};
use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt;
use symphony_wire::tensor::{DataType, bytes_contents};

/// Base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// More arrays in each other than this are no tensor.
const DEPTH_MAX: usize = 32;

/// The one member of an object that stands for bytes.
const B64: &str = "\"b64\"";

/// A tensor as far as it is read.
#[derive(Debug)]
pub(super) struct NestedTensor {
    datatype: DataType,
    /// Sizes by depth, as the first array of each depth had them.
    shape: Vec<usize>,
    /// In how many arrays the first element stood; the others have to as well.
    leaf_depth: Option<usize>,
    contents: Vec<u8>,
}

/// What is wrong, and in which arrays it stands, outermost first.
#[derive(Debug)]
pub(super) struct Misplaced {
    place: Vec<usize>,
    what: String,
}

impl Misplaced {
    fn here(what: String) -> Misplaced {
        Misplaced { place: Vec::new(), what }
    }

    fn within(mut self, index: usize) -> Misplaced {
        self.place.insert(0, index);
        self
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.iter().try_for_each(|index| write!(f, "[{index}]"))?;
        write!(f, " {}", self.what)
    }
}

impl NestedTensor {
    pub(super) fn new(datatype: DataType) -> NestedTensor {
        NestedTensor { datatype, shape: Vec::new(), leaf_depth: None, contents: Vec::new() }
    }

    /// The shape and the contents.
    pub(super) fn into_parts(self) -> (Vec<usize>, Vec<u8>) {
        (self.shape, self.contents)
    }

    /// Takes one value. Of several, such as one for each row, all have to be of one shape.
    ///
    /// # Errors
    /// It is of another shape than those before, ragged, or holds an element of another type.
    pub(super) fn take(
        &mut self,
        next: Next<'_>,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), Misplaced> {
        self.value(next, cursor, 0)
    }

    fn value(
        &mut self,
        next: Next<'_>,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Misplaced> {
        match next {
            Next::Array => self.array(cursor, depth),
            Next::Object => {
                self.leaf(depth)?;
                self.bytes(cursor)
            }
            Next::Text(text) => {
                self.leaf(depth)?;
                self.element(text, true)
            }
            Next::Plain(text) => {
                self.leaf(depth)?;
                self.element(text, false)
            }
            Next::End => Err(Misplaced::here("is missing".to_owned())),
        }
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Misplaced> {
        if depth == DEPTH_MAX {
            return Err(Misplaced::here(format!(
                "is in {DEPTH_MAX} arrays: no tensor has so many"
            )));
        }
        if self.leaf_depth.is_some_and(|leaf| leaf <= depth) {
            return Err(Misplaced::here(
                "is an array, where the values before it are none".to_owned(),
            ));
        }
        let is_first = self.shape.len() == depth;
        if is_first {
            self.shape.push(0);
        }
        let mut members = 0;
        loop {
            match cursor.next() {
                Next::End => break,
                next => self
                    .value(next, cursor, depth + 1)
                    .map_err(|misplaced| misplaced.within(members))?,
            }
            members += 1;
        }
        if is_first {
            self.shape[depth] = members;
        }
        match self.shape[depth] {
            size if size == members => Ok(()),
            size => Err(Misplaced::here(format!(
                "has {members} elements, where arrays before it have {size}"
            ))),
        }
    }

    fn leaf(&mut self, depth: usize) -> Result<(), Misplaced> {
        if self.shape.len() > depth || *self.leaf_depth.get_or_insert(depth) != depth {
            return Err(Misplaced::here(
                "is no array, where the values before it are arrays".to_owned(),
            ));
        }
        Ok(())
    }

    fn element(&mut self, text: &str, is_quoted: bool) -> Result<(), Misplaced> {
        push(self.datatype, text, is_quoted, &mut self.contents).ok_or_else(|| {
            let wanted = elements::wanted(self.datatype);
            Misplaced::here(format!("is {}, not {wanted}", brief(text)))
        })
    }

    /// `{"b64": "..."}`; its opening brace is passed.
    fn bytes(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Misplaced> {
        let wrong = || {
            let wanted = elements::wanted(self.datatype);
            Misplaced::here(format!("is an object, not {wanted}"))
        };
        let (name, value, end) = (cursor.next(), cursor.next(), cursor.next());
        let (Next::Text(B64), Next::Text(text), Next::End, DataType::Bytes) =
            (name, value, end, self.datatype)
        else {
            return Err(wrong());
        };
        let text: Cow<'_, str> = serde_json::from_str(text).map_err(|_| wrong())?;
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|error| Misplaced::here(format!("has a b64 that is not Base64: {error}")))?;
        self.contents.extend(bytes_contents([bytes.as_slice()]));
        Ok(())
    }
}

/// Appends one element; `None` when the text is none of this type. Half-precision floats have a
/// form here, for there is no binary one.
fn push(datatype: DataType, text: &str, is_quoted: bool, contents: &mut Vec<u8>) -> Option<()> {
    let narrow = || {
        let mut wide = Vec::new();
        elements::push(DataType::Fp32, text, is_quoted, &mut wide)?;
        Some(f32::from_le_bytes(wide.try_into().ok()?))
    };
    match datatype {
        DataType::Fp16 => contents.extend(f16::from_f32(narrow()?).to_le_bytes()),
        DataType::Bf16 => contents.extend(bf16::from_f32(narrow()?).to_le_bytes()),
        _ => elements::push(datatype, text, is_quoted, contents)?,
    }
    Some(())
}
