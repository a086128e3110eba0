//! The elements of a tensor as JSON and as raw little-endian bytes.
//!
//! JSON arrays are read without building values: each number goes straight into its bytes,
//! parsed once, exactly, in its own type. Floats that are not finite have no JSON form; they are
//! read and written as `NaN`, `Infinity` and `-Infinity`, as Python's clients write and read them.

use super::nonfinite;
use crate::quote::{self, brief};
use bytes::Bytes;
use std::borrow::Cow;
use std::io::Write;
use std::str::FromStr;
use symphony_wire::tensor::{DataType, bytes_elements};

/// Raw contents from a JSON array, flat or nested as the shape says. The text is valid JSON, but for
/// numbers that are not finite.
///
/// # Errors
/// What is wrong with which element, or with the nesting.
pub(super) fn read(
    text: &str,
    datatype: DataType,
    shape: &[i64],
    elements: usize,
) -> Result<Bytes, String> {
    if matches!(datatype, DataType::Fp16 | DataType::Bf16) {
        return Err(format!("is {datatype}, which has no JSON form: send it as binary data"));
    }
    // An element and what separates it take at least two characters, so a small body that
    // claims a large shape gets no large buffer.
    let capacity = elements.min(text.len() / 2 + 1).saturating_mul(datatype.size().unwrap_or(8));
    let mut reader = ElementReader {
        datatype,
        shape,
        elements,
        contents: Vec::with_capacity(capacity),
        count: 0,
        open: Vec::new(),
        leaf_depth: None,
    };
    let mut scanner = Scanner { rest: text };
    while let Some(token) = scanner.next_token() {
        reader.take(token)?;
    }
    if reader.count != elements {
        return Err(format!(
            "has {} elements, its shape {} needs {elements}",
            reader.count,
            quote::shape(shape)
        ));
    }
    Ok(Bytes::from(reader.contents))
}

/// One token of a JSON text already known to be valid.
#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Open,
    Close,
    /// A string, with its quotes.
    Text(&'a str),
    /// A number, `true`, `false` or `null`; or the opening of an object.
    Plain(&'a str),
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        let separator = |byte: u8| matches!(byte, b',' | b' ' | b'\n' | b'\r' | b'\t');
        let start = self.rest.bytes().position(|byte| !separator(byte))?;
        self.rest = &self.rest[start..];
        let (length, token): (usize, fn(&'a str) -> Token<'a>) = match self.rest.as_bytes()[0] {
            b'[' => (1, |_| Token::Open),
            b']' => (1, |_| Token::Close),
            b'"' => (text_length(self.rest), Token::Text),
            _ => (plain_length(self.rest), Token::Plain),
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(token(text))
    }
}

/// Length of the string at the start, both quotes included.
pub(super) fn text_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn plain_length(text: &str) -> usize {
    let end = |byte: u8| matches!(byte, b',' | b']' | b'[' | b' ' | b'\n' | b'\r' | b'\t');
    text.bytes().position(end).unwrap_or(text.len())
}

struct ElementReader<'a> {
    datatype: DataType,
    shape: &'a [i64],
    elements: usize,
    contents: Vec<u8>,
    count: usize,
    /// Members so far of each array that is open.
    open: Vec<i64>,
    /// In how many arrays the first element stood; the others have to as well.
    leaf_depth: Option<usize>,
}

impl ElementReader<'_> {
    fn take(&mut self, token: Token<'_>) -> Result<(), String> {
        match token {
            Token::Open => {
                self.member();
                if self.open.len() >= self.shape.len().max(1) {
                    return Err(self.nesting());
                }
                self.open.push(0);
                Ok(())
            }
            Token::Close => self.close(),
            Token::Text(text) => self.element(text, true),
            Token::Plain(text) => self.element(text, false),
        }
    }

    fn member(&mut self) {
        if let Some(members) = self.open.last_mut() {
            *members += 1;
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let members = self.open.pop().ok_or_else(|| self.nesting())?;
        let nested = self.leaf_depth.is_some_and(|depth| depth > 1);
        if nested && self.shape.get(self.open.len()) != Some(&members) {
            return Err(self.nesting());
        }
        Ok(())
    }

    fn element(&mut self, text: &str, quoted: bool) -> Result<(), String> {
        self.member();
        let depth = self.open.len();
        let rank = self.shape.len();
        let allowed = depth == rank || depth == 1;
        if !allowed || *self.leaf_depth.get_or_insert(depth) != depth {
            return Err(self.nesting());
        }
        if self.count == self.elements {
            return Err(format!(
                "has more than the {} elements of its shape {}",
                self.elements,
                quote::shape(self.shape)
            ));
        }
        self.count += 1;
        push(self.datatype, text, quoted, &mut self.contents).ok_or_else(|| {
            let index = self.count - 1;
            let element = brief(text);
            // Some JSON writers have no other form for them, and which one was meant is lost.
            let hint = if text == "null" && is_float(self.datatype) {
                "; a client that writes null for NaN and infinities has to send them as binary data"
            } else {
                ""
            };
            format!("element {index} is {element}, not {}{hint}", wanted(self.datatype))
        })
    }

    fn nesting(&self) -> String {
        format!(
            "must be one flat array of its elements, or arrays nested as its shape {} says",
            quote::shape(self.shape)
        )
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp32 | DataType::Fp64)
}

/// What an element of a type looks like, for messages.
pub(super) fn wanted(datatype: DataType) -> String {
    let range = match datatype {
        DataType::Bool => "true or false",
        DataType::Uint8 => "a whole number from 0 to 255",
        DataType::Uint16 => "a whole number from 0 to 65535",
        DataType::Uint32 => "a whole number from 0 to 4294967295",
        DataType::Uint64 => "a whole number from 0 to 18446744073709551615",
        DataType::Int8 => "a whole number from -128 to 127",
        DataType::Int16 => "a whole number from -32768 to 32767",
        DataType::Int32 => "a whole number from -2147483648 to 2147483647",
        DataType::Int64 => "a whole number from -9223372036854775808 to 9223372036854775807",
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
            "a number within its range"
        }
        DataType::Bytes => "a string",
    };
    format!("{datatype} ({range})")
}

/// Appends one element; `None` when the text is none of this type.
pub(super) fn push(
    datatype: DataType,
    text: &str,
    quoted: bool,
    contents: &mut Vec<u8>,
) -> Option<()> {
    if datatype == DataType::Bytes {
        let text: Cow<'_, str> = serde_json::from_str(text).ok().filter(|_| quoted)?;
        contents.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        contents.extend_from_slice(text.as_bytes());
        return Some(());
    }
    if quoted {
        return None;
    }
    match datatype {
        DataType::Bool => contents.push(match text {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return None,
        }),
        DataType::Uint8 => contents.extend_from_slice(&number::<u8>(text)?.to_le_bytes()),
        DataType::Uint16 => contents.extend_from_slice(&number::<u16>(text)?.to_le_bytes()),
        DataType::Uint32 => contents.extend_from_slice(&number::<u32>(text)?.to_le_bytes()),
        DataType::Uint64 => contents.extend_from_slice(&number::<u64>(text)?.to_le_bytes()),
        DataType::Int8 => contents.extend_from_slice(&number::<i8>(text)?.to_le_bytes()),
        DataType::Int16 => contents.extend_from_slice(&number::<i16>(text)?.to_le_bytes()),
        DataType::Int32 => contents.extend_from_slice(&number::<i32>(text)?.to_le_bytes()),
        DataType::Int64 => contents.extend_from_slice(&number::<i64>(text)?.to_le_bytes()),
        DataType::Fp32 => {
            let value = number::<f32>(text).filter(|v| v.is_finite() || is_nonfinite(text))?;
            contents.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Fp64 => {
            let value = number::<f64>(text).filter(|v| v.is_finite() || is_nonfinite(text))?;
            contents.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Fp16 | DataType::Bf16 | DataType::Bytes => return None,
    }
    Some(())
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Whether a number is meant not to be finite, rather than out of range.
fn is_nonfinite(text: &str) -> bool {
    nonfinite::WORDS.contains(&text)
}

/// Writes raw contents as a flat JSON array.
///
/// # Errors
/// The contents have no JSON form; why, and what to do.
pub(super) fn write(out: &mut Vec<u8>, datatype: DataType, data: &[u8]) -> Result<(), String> {
    out.push(b'[');
    match datatype {
        DataType::Bool => each::<1>(out, data, |out, [byte]| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
        }),
        DataType::Uint8 => each(out, data, |out, bytes| int(out, u8::from_le_bytes(bytes))),
        DataType::Uint16 => each(out, data, |out, bytes| int(out, u16::from_le_bytes(bytes))),
        DataType::Uint32 => each(out, data, |out, bytes| int(out, u32::from_le_bytes(bytes))),
        DataType::Uint64 => each(out, data, |out, bytes| int(out, u64::from_le_bytes(bytes))),
        DataType::Int8 => each(out, data, |out, bytes| int(out, i8::from_le_bytes(bytes))),
        DataType::Int16 => each(out, data, |out, bytes| int(out, i16::from_le_bytes(bytes))),
        DataType::Int32 => each(out, data, |out, bytes| int(out, i32::from_le_bytes(bytes))),
        DataType::Int64 => each(out, data, |out, bytes| int(out, i64::from_le_bytes(bytes))),
        DataType::Fp32 => each(out, data, |out, bytes| {
            let value = f32::from_le_bytes(bytes);
            match special(f64::from(value)) {
                Some(text) => out.extend_from_slice(text),
                None => json(out, &value),
            }
        }),
        DataType::Fp64 => each(out, data, |out, bytes| {
            let value = f64::from_le_bytes(bytes);
            match special(value) {
                Some(text) => out.extend_from_slice(text),
                None => json(out, &value),
            }
        }),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(format!("{datatype} has no JSON form: ask for it as binary data"));
        }
        DataType::Bytes => strings(out, data)?,
    }
    out.push(b']');
    Ok(())
}

fn each<const SIZE: usize>(
    out: &mut Vec<u8>,
    data: &[u8],
    write_one: impl Fn(&mut Vec<u8>, [u8; SIZE]),
) {
    let (elements, _) = data.as_chunks::<SIZE>();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_one(out, *element);
    }
}

fn int(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

fn json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Writing a number or a string to a vector cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn special(value: f64) -> Option<&'static [u8]> {
    match value {
        _ if value.is_nan() => Some(b"NaN"),
        f64::INFINITY => Some(b"Infinity"),
        f64::NEG_INFINITY => Some(b"-Infinity"),
        _ => None,
    }
}

fn strings(out: &mut Vec<u8>, data: &[u8]) -> Result<(), String> {
    let elements = bytes_elements(data).map_err(|at| format!("is truncated at byte {at}"))?;
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let text = std::str::from_utf8(element).map_err(|_| {
            format!("element {index} is not UTF-8 and has no JSON form: ask for binary data")
        })?;
        json(out, &text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(text: &str, datatype: DataType, shape: &[i64]) -> Result<Bytes, String> {
        let elements = shape.iter().product::<i64>();
        read(text, datatype, shape, usize::try_from(elements).unwrap())
    }

    #[test]
    fn arrays_read_as_bytes_or_say_what_is_wrong() {
        use DataType as T;
        type Case = (&'static str, DataType, &'static [i64], Result<&'static [u8], &'static str>);
        let cases: [Case; 31] = [
            ("[1, 2,3]", T::Uint8, &[3], Ok(&[1, 2, 3])),
            ("[[1,2],[3,4]]", T::Uint8, &[2, 2], Ok(&[1, 2, 3, 4])),
            ("[1,2,3,4]", T::Uint8, &[2, 2], Ok(&[1, 2, 3, 4])),
            ("7", T::Uint8, &[], Ok(&[7])),
            ("[7]", T::Uint8, &[], Ok(&[7])),
            ("[]", T::Uint8, &[0, 2], Ok(&[])),
            ("[[],[]]", T::Uint8, &[2, 0], Ok(&[])),
            ("[true,false,1]", T::Bool, &[3], Ok(&[1, 0, 1])),
            ("[-1]", T::Int16, &[1], Ok(&[255, 255])),
            ("[18446744073709551615]", T::Uint64, &[1], Ok(&[255; 8])),
            ("[1.5]", T::Fp32, &[1], Ok(&[0, 0, 192, 63])),
            (r#"["a\"]","\u00e9"]"#, T::Bytes, &[2], Ok(b"\x03\0\0\0a\"]\x02\0\0\0\xc3\xa9")),
            ("[1,2]", T::Uint8, &[3], Err("has 2 elements")),
            ("[1,2,3,4]", T::Uint8, &[3], Err("more than the 3 elements")),
            ("[[1,2],[3]]", T::Uint8, &[3], Err("nested")),
            ("[[1,2,3],[4,5,6]]", T::Uint8, &[3, 2], Err("nested")),
            ("[[1,2],[3,4,5,6]]", T::Uint8, &[2, 3], Err("nested")),
            ("[1,[2]]", T::Uint8, &[2, 1], Err("nested")),
            ("[300]", T::Uint8, &[1], Err("element 0 is 300, not UINT8")),
            ("[1.0]", T::Int32, &[1], Err("element 0 is 1.0")),
            ("[1e40]", T::Fp32, &[1], Err("element 0 is 1e40")),
            ("[null]", T::Fp64, &[1], Err("writes null for NaN and infinities")),
            ("[null]", T::Int8, &[1], Err("(a whole number from -128 to 127)")),
            ("[NaN]", T::Fp32, &[1], Ok(&[0, 0, 192, 127])),
            ("[[Infinity],[-Infinity]]", T::Fp32, &[2, 1], Ok(&[0, 0, 128, 127, 0, 0, 128, 255])),
            ("[NaN]", T::Int32, &[1], Err("element 0 is NaN, not INT32")),
            ("[0,-Infinity]", T::Bool, &[2], Err("element 1 is -Infinity, not BOOL")),
            ("[NaN]", T::Bytes, &[1], Err("element 0 is NaN, not BYTES")),
            (r#"["1"]"#, T::Int8, &[1], Err("element 0 is")),
            ("[1]", T::Bytes, &[1], Err("a string")),
            ("[1]", T::Fp16, &[1], Err("binary data")),
        ];
        for (text, datatype, shape, expected) in cases {
            match (read_text(text, datatype, shape), expected) {
                (Ok(contents), Ok(bytes)) => assert_eq!(contents, bytes, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    fn written(datatype: DataType, data: &[u8]) -> Result<String, String> {
        let mut out = Vec::new();
        write(&mut out, datatype, data)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn special_floats_are_written_as_the_clients_read_them() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.1];
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(written(DataType::Fp32, &data).unwrap(), "[NaN,Infinity,-Infinity,0.1]");
    }

    proptest! {
        #[test]
        fn contents_read_back_exactly(
            index in 0..DataType::ALL.len(),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let datatype = DataType::ALL[index];
            let Some(size) = datatype.size() else { return Ok(()) };
            let bytes: Vec<u8> = match datatype {
                DataType::Bool => bytes.iter().map(|byte| byte & 1).collect(),
                _ => bytes[..bytes.len() / size * size].to_vec(),
            };
            let Ok(text) = written(datatype, &bytes) else { return Ok(()) };
            // Of all that is not a number there is one written form.
            if !text.contains("NaN") {
                let shape = [i64::try_from(bytes.len() / size).unwrap()];
                prop_assert_eq!(read_text(&text, datatype, &shape).unwrap(), bytes);
            }
        }

        #[test]
        fn any_json_is_read_or_refused(
            text in r#"[\[\], 0-9.eE"a\\{}:-]{0,40}"#,
            index in 0..DataType::ALL.len(),
            shape in prop::collection::vec(0..4i64, 0..4),
        ) {
            let _ = read_text(&text, DataType::ALL[index], &shape);
        }
    }
}
