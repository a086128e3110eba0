//! Inputs and outputs as NumPy's .npy files. What stands before the data is npyz's to read and
//! write; the data are the tensor's own bytes, for both are row-major and little endian.

use super::contents::Contents;
use crate::metadata::InputInfo;
use crate::payload::NamedTensor;
use anyhow::{Context, Result, bail, ensure};
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr, WriteOptions, WriterBuilder};
use symphony_wire::tensor::{DataType, bytes_contents};

/// The contents of a file.
///
/// # Errors
/// It is no such file, or not of the input's type.
pub(super) fn read(info: &InputInfo, bytes: &[u8]) -> Result<Contents> {
    let mut data = bytes;
    let header = NpyHeader::from_reader(&mut data).context("it is no .npy file")?;
    let kind = plain(&header, info)?;
    let size = kind.num_bytes().context("its elements are too large")?;
    let sizes = header.shape().iter().map(|size| usize::try_from(*size));
    let sizes = sizes.collect::<Result<Vec<_>, _>>().context("it has too many elements")?;
    // What the header itself counts may have overflowed.
    let length = sizes.iter().try_fold(size, |product, size| product.checked_mul(*size));
    let length = length.context("it has too many elements")?;
    ensure!(data.len() == length, "it has {} bytes of data, its shape needs {length}", data.len());
    let mut rows = match header.order() {
        Order::C => data.to_vec(),
        Order::Fortran => row_major(data, &sizes, size),
    };
    if size > 0 && swapped(&kind) {
        let unit = if kind.type_char() == TypeChar::UnicodeStr { 4 } else { size };
        rows.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
    }
    let data = if info.datatype == DataType::Bytes { strings(&rows, &kind, size)? } else { rows };
    let shape = sizes.into_iter().map(i64::try_from).collect::<Result<_, _>>()?;
    Ok(Contents { shape, data: data.into() })
}

/// The type of the elements, if the input takes them.
fn plain(header: &NpyHeader, info: &InputInfo) -> Result<TypeStr> {
    let dtype = header.dtype();
    let DType::Plain(kind) = &dtype else {
        bail!("it holds records ({}), not numbers", dtype.descr())
    };
    if header.uses_pickled_array() {
        bail!("it holds Python objects: save texts with dtype 'U' or 'S', or give them as JSON");
    }
    let wanted = type_of(info.datatype);
    let fits = match info.datatype {
        DataType::Bytes => {
            matches!(kind.type_char(), TypeChar::UnicodeStr | TypeChar::ByteStr)
        }
        _ => (letter(kind), kind.size_field()) == (wanted.0, wanted.1),
    };
    ensure!(
        fits,
        "it holds {}, the model takes {}{}",
        dtype.descr(),
        info.datatype,
        wanted.2.map_or_else(String::new, |name| format!(": convert it with .astype({name:?})"))
    );
    Ok(kind.clone())
}

fn letter(kind: &TypeStr) -> &'static str {
    kind.type_char().to_str()
}

/// NumPy's letter and size of a type, and its name there; BF16 is a kind of raw bytes, as the
/// package ml_dtypes saves it.
fn type_of(datatype: DataType) -> (&'static str, u64, Option<&'static str>) {
    match datatype {
        DataType::Bool => ("b", 1, Some("bool")),
        DataType::Uint8 => ("u", 1, Some("uint8")),
        DataType::Uint16 => ("u", 2, Some("uint16")),
        DataType::Uint32 => ("u", 4, Some("uint32")),
        DataType::Uint64 => ("u", 8, Some("uint64")),
        DataType::Int8 => ("i", 1, Some("int8")),
        DataType::Int16 => ("i", 2, Some("int16")),
        DataType::Int32 => ("i", 4, Some("int32")),
        DataType::Int64 => ("i", 8, Some("int64")),
        DataType::Fp16 => ("f", 2, Some("float16")),
        DataType::Bf16 => ("V", 2, None),
        DataType::Fp32 => ("f", 4, Some("float32")),
        DataType::Fp64 => ("f", 8, Some("float64")),
        DataType::Bytes => ("S", 0, Some("S")),
    }
}

fn swapped(kind: &TypeStr) -> bool {
    kind.endianness() == Endianness::Big && kind.type_char() != TypeChar::ByteStr
}

/// Elements in the order of rows, from the order of columns.
fn row_major(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut rows = Vec::with_capacity(data.len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..data.len().checked_div(size).unwrap_or(0) {
        // The last index runs slowest in the order of columns.
        let at = index.iter().zip(shape).rev().fold(0usize, |at, (index, size)| at * size + index);
        rows.extend_from_slice(&data[at * size..(at + 1) * size]);
        for (index, size) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *size {
                break;
            }
            *index = 0;
        }
    }
    rows
}

/// Texts of a fixed length, filled with zeros, as the protocol has them.
fn strings(rows: &[u8], kind: &TypeStr, size: usize) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    for element in rows.chunks_exact(size.max(1)) {
        if kind.type_char() == TypeChar::ByteStr {
            let end = element.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            contents.extend(bytes_contents([&element[..end]]));
            continue;
        }
        let (letters, _) = element.as_chunks::<4>();
        let text: Option<String> =
            letters.iter().map(|letter| char::from_u32(u32::from_le_bytes(*letter))).collect();
        let text = text.context("a text in it is no Unicode")?;
        contents.extend(bytes_contents([text.trim_end_matches('\0').as_bytes()]));
    }
    Ok(contents)
}

/// What stands before the data in a file that holds this tensor.
///
/// # Errors
/// NumPy has no type of this kind.
pub(crate) fn header(tensor: &NamedTensor) -> Result<Vec<u8>> {
    let (letter, size, _) = type_of(tensor.datatype);
    ensure!(tensor.datatype != DataType::Bytes, "texts are saved as JSON: name a .json file");
    let order = if size == 1 || letter == "V" { '|' } else { '<' };
    let kind: TypeStr = format!("{order}{letter}{size}").parse()?;
    let shape =
        tensor.shape.iter().map(|size| u64::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
    let mut header = Vec::new();
    WriteOptions::new_header_only()
        .dtype(DType::new_scalar(kind))
        .shape(&shape)
        .writer(&mut header)
        .write_header_only()?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(datatype: DataType) -> InputInfo {
        InputInfo { name: "x".to_owned(), datatype, shape: Vec::new(), is_optional: false }
    }

    fn file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let mut text =
            format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
        while (10 + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        file.extend(text.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn every_type_reads_back_as_it_was_written() {
        for datatype in DataType::ALL {
            let Some(size) = datatype.size() else { continue };
            let data: Vec<u8> = [0, 1].repeat(3 * size);
            let tensor = NamedTensor {
                name: "x".to_owned(),
                datatype,
                shape: vec![2, 3],
                data: data.clone().into(),
            };
            let file = [header(&tensor).unwrap(), data.clone()].concat();
            let contents = read(&info(datatype), &file).unwrap();
            assert_eq!((contents.shape, contents.data.to_vec()), (vec![2, 3], data), "{datatype}");
        }
    }

    #[test]
    fn other_orders_of_bytes_and_of_axes_are_put_right() {
        let columns = file("'|u1'", true, "(2, 3)", &[1, 4, 2, 5, 3, 6]);
        assert_eq!(read(&info(DataType::Uint8), &columns).unwrap().data, [1, 2, 3, 4, 5, 6][..]);
        let big = file("'>i2'", false, "(2,)", &[0, 1, 2, 0]);
        assert_eq!(read(&info(DataType::Int16), &big).unwrap().data, [1, 0, 0, 2][..]);
        let scalar = file("'<i8'", false, "()", &7i64.to_le_bytes());
        assert_eq!(read(&info(DataType::Int64), &scalar).unwrap().shape, [0i64; 0]);
    }

    #[test]
    fn texts_lose_what_fills_them() {
        let expected = bytes_contents([b"a".as_slice(), b"\xc3\xa9b"]);
        let unicode: Vec<u8> =
            ['a', '\0', 'é', 'b'].iter().flat_map(|c| u32::from(*c).to_le_bytes()).collect();
        let texts = file("'<U2'", false, "(2,)", &unicode);
        assert_eq!(read(&info(DataType::Bytes), &texts).unwrap().data, expected);
        let bytes = file("'|S3'", false, "(2,)", b"a\0\0\xc3\xa9b");
        assert_eq!(read(&info(DataType::Bytes), &bytes).unwrap().data, expected);
    }

    #[test]
    fn what_is_no_such_tensor_is_named() {
        for (bytes, part) in [
            (b"nonsense".to_vec(), "no .npy file"),
            (file("'<f8'", false, "(1,)", &[0; 8]), "convert it with .astype(\"float32\")"),
            (file("'<f4'", false, "(2,)", &[0; 4]), "4 bytes of data, its shape needs 8"),
            (file("'|O'", false, "(1,)", &[0; 8]), "Python objects"),
            (file("[('a', '<f4')]", false, "(1,)", &[0; 4]), "records"),
            (file("'<f4'", false, "(99999999999, 99999999999)", &[]), "elements"),
        ] {
            let error = format!("{:#}", read(&info(DataType::Fp32), &bytes).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
