//! The elements of a tensor as JSON values and as raw little-endian bytes.

use half::{bf16, f16};
use serde_json::Value;
use symphony_wire::tensor::{DataType, bytes_contents, bytes_elements};

/// Appends one element; `None` when the value is none of this type.
#[expect(clippy::cast_possible_truncation, reason = "the nearest of a narrower type is meant")]
pub(crate) fn push(datatype: DataType, value: &Value, contents: &mut Vec<u8>) -> Option<()> {
    match datatype {
        DataType::Bool => contents.push(match value {
            Value::Bool(flag) => u8::from(*flag),
            _ => u8::try_from(value.as_u64()?).ok().filter(|flag| *flag <= 1)?,
        }),
        DataType::Uint8 => contents.extend(unsigned::<u8>(value)?.to_le_bytes()),
        DataType::Uint16 => contents.extend(unsigned::<u16>(value)?.to_le_bytes()),
        DataType::Uint32 => contents.extend(unsigned::<u32>(value)?.to_le_bytes()),
        DataType::Uint64 => contents.extend(value.as_u64()?.to_le_bytes()),
        DataType::Int8 => contents.extend(signed::<i8>(value)?.to_le_bytes()),
        DataType::Int16 => contents.extend(signed::<i16>(value)?.to_le_bytes()),
        DataType::Int32 => contents.extend(signed::<i32>(value)?.to_le_bytes()),
        DataType::Int64 => contents.extend(value.as_i64()?.to_le_bytes()),
        DataType::Fp16 => contents.extend(f16::from_f64(float(value)?).to_le_bytes()),
        DataType::Bf16 => contents.extend(bf16::from_f64(float(value)?).to_le_bytes()),
        DataType::Fp32 => contents.extend((float(value)? as f32).to_le_bytes()),
        DataType::Fp64 => contents.extend(float(value)?.to_le_bytes()),
        DataType::Bytes => contents.extend(bytes_contents([value.as_str()?.as_bytes()])),
    }
    Some(())
}

fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64()?.try_into().ok()
}

fn signed<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    value.as_i64()?.try_into().ok()
}

/// A number; floats that are not finite are texts, for JSON has no other form for them.
fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        None => value.as_f64(),
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
    }
}

/// The elements as values. Floats that are not finite become texts; byte strings that are not UTF-8
/// lose what cannot be shown.
///
/// # Errors
/// The contents are cut off.
pub(crate) fn elements(datatype: DataType, data: &[u8]) -> Result<Vec<Value>, String> {
    Ok(match datatype {
        DataType::Bool => each(data, |[byte]| Value::Bool(byte != 0)),
        DataType::Uint8 => each(data, |bytes| u8::from_le_bytes(bytes).into()),
        DataType::Uint16 => each(data, |bytes| u16::from_le_bytes(bytes).into()),
        DataType::Uint32 => each(data, |bytes| u32::from_le_bytes(bytes).into()),
        DataType::Uint64 => each(data, |bytes| u64::from_le_bytes(bytes).into()),
        DataType::Int8 => each(data, |bytes| i8::from_le_bytes(bytes).into()),
        DataType::Int16 => each(data, |bytes| i16::from_le_bytes(bytes).into()),
        DataType::Int32 => each(data, |bytes| i32::from_le_bytes(bytes).into()),
        DataType::Int64 => each(data, |bytes| i64::from_le_bytes(bytes).into()),
        DataType::Fp16 => each(data, |bytes| narrow(f16::from_le_bytes(bytes).to_f32())),
        DataType::Bf16 => each(data, |bytes| narrow(bf16::from_le_bytes(bytes).to_f32())),
        DataType::Fp32 => each(data, |bytes| narrow(f32::from_le_bytes(bytes))),
        DataType::Fp64 => each(data, |bytes| wide(f64::from_le_bytes(bytes))),
        DataType::Bytes => bytes_elements(data)
            .map_err(|at| format!("is cut off at byte {at}"))?
            .into_iter()
            .map(|text| String::from_utf8_lossy(text).into())
            .collect(),
    })
}

/// The elements as JSON that a server reads.
///
/// # Errors
/// An element has no such form.
pub(crate) fn to_json(datatype: DataType, data: &[u8]) -> Result<Vec<Value>, String> {
    if matches!(datatype, DataType::Fp16 | DataType::Bf16) {
        return Err(format!("is {datatype}, which has no JSON form"));
    }
    if datatype == DataType::Bytes {
        let texts = bytes_elements(data).map_err(|at| format!("is cut off at byte {at}"))?;
        if let Some(at) = texts.iter().position(|text| std::str::from_utf8(text).is_err()) {
            return Err(format!("has an element {at} that is not UTF-8"));
        }
        return elements(datatype, data);
    }
    let values = elements(datatype, data)?;
    match values.iter().position(Value::is_string) {
        Some(at) => Err(format!("has an element {at} that is not finite")),
        None => Ok(values),
    }
}

fn each<const SIZE: usize>(data: &[u8], value: impl Fn([u8; SIZE]) -> Value) -> Vec<Value> {
    data.as_chunks::<SIZE>().0.iter().map(|bytes| value(*bytes)).collect()
}

/// The shortest number that is this one, and not what a wider type makes of it.
fn narrow(value: f32) -> Value {
    if value.is_finite() {
        wide(value.to_string().parse().unwrap_or(value.into()))
    } else {
        wide(value.into())
    }
}

fn wide(value: f64) -> Value {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_of_a_type_are_taken_and_others_refused() {
        use DataType as T;
        for (datatype, value, contents) in [
            (T::Bool, json!(true), Some(vec![1])),
            (T::Bool, json!(2), None),
            (T::Uint8, json!(255), Some(vec![255])),
            (T::Uint8, json!(256), None),
            (T::Int8, json!(-1), Some(vec![255])),
            (T::Int32, json!(1.5), None),
            (T::Fp32, json!(1.5), Some(vec![0, 0, 192, 63])),
            (T::Fp16, json!(1), Some(vec![0, 60])),
            (T::Fp32, json!("Infinity"), Some(vec![0, 0, 128, 127])),
            (T::Fp32, json!("one"), None),
            (T::Bytes, json!("ab"), Some(vec![2, 0, 0, 0, b'a', b'b'])),
            (T::Bytes, json!(1), None),
        ] {
            let mut found = Vec::new();
            let found = push(datatype, &value, &mut found).map(|()| found);
            assert_eq!(found, contents, "{datatype} {value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            index in 0..DataType::ALL.len(),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let datatype = DataType::ALL[index];
            let Some(size) = datatype.size() else { return Ok(()) };
            let bytes: Vec<u8> = match datatype {
                DataType::Bool => bytes.iter().map(|byte| byte & 1).collect(),
                _ => bytes[..bytes.len() / size * size].to_vec(),
            };
            let values = elements(datatype, &bytes).unwrap();
            let mut again = Vec::new();
            for value in &values {
                push(datatype, value, &mut again).unwrap();
            }
            // Of all that is not a number there is one written form.
            if !values.contains(&json!("NaN")) {
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
