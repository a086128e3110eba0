//! Stored tensors: whether their size and data are consistent, and which integers they hold.

use bytes::Bytes;

use crate::element::ElementType;
use crate::error::Error;
use crate::proto::TensorProto;
use crate::proto::tensor_proto::DataLocation;

/// The element type of a stored tensor, if its code is known.
pub(crate) fn element(tensor: &TensorProto) -> Option<ElementType> {
    ElementType::from_code(tensor.data_type.unwrap_or(0))
}

/// Whether the data lies in another file.
pub(crate) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// The number of elements. `None` for a negative dimension or a product that is too large.
pub(crate) fn element_count(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |count, dim| count.checked_mul(usize::try_from(*dim).ok()?))
}

/// The bytes of `count` elements of a type in raw data. Elements smaller than a byte are packed.
pub(crate) fn raw_len(element: ElementType, count: usize) -> Option<usize> {
    Some(count.checked_mul(element.bits()?)?.div_ceil(8))
}

/// The integers of a stored int64 or int32 tensor, in row-major order; `None` for other types
/// and for data outside the file.
pub fn ints(tensor: &TensorProto) -> Option<Vec<i64>> {
    if is_external(tensor) {
        return None;
    }
    match element(tensor)? {
        ElementType::Int64 => Some(match &tensor.raw_data {
            Some(raw) => chunks(raw).map(i64::from_le_bytes).collect(),
            None => tensor.int64_data.clone(),
        }),
        ElementType::Int32 => Some(match &tensor.raw_data {
            Some(raw) => chunks(raw).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            None => tensor.int32_data.iter().map(|v| i64::from(*v)).collect(),
        }),
        _ => None,
    }
}

/// The elements of a stored tensor in little-endian bytes, row-major; `None` for strings, for packed
/// types and for data outside the file.
pub fn contents(tensor: &TensorProto) -> Option<Bytes> {
    if is_external(tensor) {
        return None;
    }
    if let Some(raw) = &tensor.raw_data {
        return Some(raw.clone());
    }
    let width = element(tensor)?.bits()?;
    if width % 8 != 0 {
        return None;
    }
    // Integers are stored in wider ones; what is above their width is their sign.
    let cut = |bytes: [u8; 8]| bytes.into_iter().take(width / 8);
    Some(match element(tensor)? {
        ElementType::Float32 => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::Float64 => tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::Int64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::Uint32 | ElementType::Uint64 => {
            tensor.uint64_data.iter().flat_map(|v| cut(v.to_le_bytes())).collect()
        }
        ElementType::Complex64 | ElementType::Complex128 => return None,
        _ => tensor.int32_data.iter().flat_map(|v| cut(i64::from(*v).to_le_bytes())).collect(),
    })
}

fn chunks<const N: usize>(raw: &Bytes) -> impl Iterator<Item = [u8; N]> + '_ {
    raw.as_chunks::<N>().0.iter().copied()
}

/// Refuses a tensor whose type, dimensions and data contradict each other.
pub(crate) fn check(tensor: &TensorProto, fallback_name: &str) -> Result<(), Error> {
    check_parts(tensor).map_err(|problem| Error::Tensor {
        name: match tensor.name() {
            "" => fallback_name.to_owned(),
            name => name.to_owned(),
        },
        problem,
    })
}

fn check_parts(tensor: &TensorProto) -> Result<(), String> {
    let code = tensor.data_type.unwrap_or(0);
    let element =
        ElementType::from_code(code).ok_or_else(|| format!("unknown element type {code}"))?;
    let count = element_count(&tensor.dims)
        .ok_or_else(|| format!("impossible dimensions {:?}", tensor.dims))?;
    if is_external(tensor) {
        return Ok(());
    }
    let stored = stored(tensor, element);
    let expected = expected(tensor, element, count)
        .ok_or_else(|| format!("impossible dimensions {:?}", tensor.dims))?;
    if stored == expected {
        return Ok(());
    }
    let dims = &tensor.dims;
    let unit = if tensor.raw_data.is_some() { "bytes" } else { "stored values" };
    Err(format!("{element} {dims:?} needs {expected} {unit} but the file holds {stored}"))
}

/// The size of the tensor's data field, in the unit of [`expected`].
fn stored(tensor: &TensorProto, element: ElementType) -> usize {
    if let Some(raw) = &tensor.raw_data {
        return raw.len();
    }
    match element {
        ElementType::Float32 | ElementType::Complex64 => tensor.float_data.len(),
        ElementType::Float64 | ElementType::Complex128 => tensor.double_data.len(),
        ElementType::Int64 => tensor.int64_data.len(),
        ElementType::Uint32 | ElementType::Uint64 => tensor.uint64_data.len(),
        ElementType::String => tensor.string_data.len(),
        _ => tensor.int32_data.len(),
    }
}

/// The size that [`stored`] must return for `count` elements.
fn expected(tensor: &TensorProto, element: ElementType, count: usize) -> Option<usize> {
    if tensor.raw_data.is_some() {
        return raw_len(element, count);
    }
    match element {
        ElementType::Complex64 | ElementType::Complex128 => count.checked_mul(2),
        // Two- and four-bit values are packed into bytes, with one byte in each stored integer.
        // Six-bit values are packed only in raw data.
        _ => match element.bits() {
            Some(2 | 4) => raw_len(element, count),
            _ => Some(count),
        },
    }
}
