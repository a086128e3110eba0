//! Tensors as they travel: raw bytes, little endian, row-major, no padding.

mod region;
mod signature;

pub use region::{ElementBytes, Runs, elements_in, join};
pub use signature::{Dim, OpenDimension, Signature, TensorSpec};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The element types of the open inference protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Byte strings of any length, each as a `u32` length and its bytes.
    Bytes,
}

impl DataType {
    /// Every data type.
    pub const ALL: [DataType; 14] = [
        DataType::Bool,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bytes,
    ];

    /// The protocol's name, such as `FP32`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "BOOL",
            DataType::Uint8 => "UINT8",
            DataType::Uint16 => "UINT16",
            DataType::Uint32 => "UINT32",
            DataType::Uint64 => "UINT64",
            DataType::Int8 => "INT8",
            DataType::Int16 => "INT16",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Fp16 => "FP16",
            DataType::Bf16 => "BF16",
            DataType::Fp32 => "FP32",
            DataType::Fp64 => "FP64",
            DataType::Bytes => "BYTES",
        }
    }

    /// Bytes per element; `None` for [`DataType::Bytes`], whose elements vary.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            DataType::Bool | DataType::Uint8 | DataType::Int8 => Some(1),
            DataType::Uint16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => Some(2),
            DataType::Uint32 | DataType::Int32 | DataType::Fp32 => Some(4),
            DataType::Uint64 | DataType::Int64 | DataType::Fp64 => Some(8),
            DataType::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no data type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown datatype {0:?}: use BOOL, UINT8-64, INT8-64, FP16, BF16, FP32, FP64 or BYTES")]
pub struct UnknownDataType(pub String);

impl FromStr for DataType {
    type Err = UnknownDataType;
    fn from_str(name: &str) -> Result<DataType, UnknownDataType> {
        DataType::ALL
            .into_iter()
            .find(|datatype| datatype.name() == name)
            .ok_or_else(|| UnknownDataType(name.to_owned()))
    }
}

/// The inputs of one request, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Rows along the batch dimension, at least one.
    pub rows: u32,
    /// The size of each open dimension of the signature, in its order.
    pub sizes: Vec<usize>,
    /// Raw contents, one entry per input of the signature, in its order: all elements of its shape
    /// at these rows and sizes. An input that is repeated for every row holds one row.
    pub tensors: Vec<Bytes>,
}

impl Inputs {
    /// The inputs of a request for a model without open dimensions.
    #[must_use]
    pub fn fixed(rows: u32, tensors: Vec<Bytes>) -> Inputs {
        Inputs { rows, sizes: Vec::new(), tensors }
    }
}

/// One output of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTensor {
    /// Full shape, batch dimension included where the model has one.
    pub shape: Vec<usize>,
    /// Raw contents; a slice of the batch's output, not a copy.
    pub data: Bytes,
}

/// Splits the wire form of a BYTES tensor (`u32` length, bytes, …) into its elements.
///
/// # Errors
/// The byte offset at which the contents are truncated.
pub fn bytes_elements(mut data: &[u8]) -> Result<Vec<&[u8]>, usize> {
    let whole = data.len();
    let mut elements = Vec::new();
    while !data.is_empty() {
        let at = whole - data.len();
        let (length, rest) = data.split_first_chunk::<4>().ok_or(at)?;
        let (element, rest) =
            rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(at)?;
        elements.push(element);
        data = rest;
    }
    Ok(elements)
}

/// How many elements a BYTES tensor holds, without listing them.
///
/// # Errors
/// The byte offset at which the contents are truncated.
pub fn bytes_count(mut data: &[u8]) -> Result<usize, usize> {
    let whole = data.len();
    let mut count = 0;
    while !data.is_empty() {
        let at = whole - data.len();
        let (length, rest) = data.split_first_chunk::<4>().ok_or(at)?;
        data = rest.get(u32::from_le_bytes(*length) as usize..).ok_or(at)?;
        count += 1;
    }
    Ok(count)
}

/// The wire form of a BYTES tensor. An element longer than a `u32` can say is cut: no tensor
/// that fits a request holds one.
#[must_use]
pub fn bytes_contents<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut contents = Vec::new();
    for element in elements {
        let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
        contents.extend_from_slice(&length.to_le_bytes());
        contents.extend_from_slice(&element[..length as usize]);
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for datatype in DataType::ALL {
            assert_eq!(datatype.name().parse(), Ok(datatype));
        }
        assert!("FLOAT".parse::<DataType>().is_err());
    }

    #[test]
    fn bytes_tensors_read_back_and_truncation_is_found() {
        let contents = bytes_contents([b"ab".as_slice(), b"", b"cde"]);
        assert_eq!(bytes_elements(&contents), Ok(vec![b"ab".as_slice(), b"", b"cde"]));
        assert_eq!(bytes_elements(&contents[..contents.len() - 1]), Err(10));
        assert_eq!(bytes_elements(&[1, 0]), Err(0));
        assert_eq!(bytes_count(&contents), Ok(3));
        assert_eq!(bytes_count(&contents[..contents.len() - 1]), Err(10));
    }
}
