//! The operators of the Python package `onnxruntime-extensions`.
//!
//! Its library is an extension module of Python: it refers to symbols of the interpreter, so that
//! the system refuses to open it in a process without one. Its operators use none of them. A copy
//! in which these references are weak, which means that they may stay unresolved, can be opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The module's file name up to the version of Python.
const PREFIX: &str = "_extensions_pydll";

/// The library of the package in a directory of Python packages.
pub(super) fn library_in(site: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(site.join("onnxruntime_extensions")).ok()?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = if cfg!(windows) { ".pyd" } else { ".so" };
        name.starts_with(PREFIX) && name.ends_with(ending)
    })
}

/// Writes a copy of the library that opens without an interpreter, and returns its path.
///
/// # Errors
/// The library cannot be read, is not one for this kind of machine, or cannot be written.
pub(super) fn without_interpreter(library: &Path, directory: &Path) -> io::Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        return Ok(library.to_owned());
    }
    let mut file = fs::read(library)?;
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit ELF library");
    weaken(&mut file, &[b"Py", b"_Py"]).ok_or_else(foreign)?;
    fs::create_dir_all(directory)?;
    let copy = directory.join("onnxruntime_extensions.so");
    if fs::read(&copy).is_ok_and(|before| before == file) {
        return Ok(copy);
    }
    // Another process may be opening the copy: it is replaced, never changed.
    let new = tempfile_beside(&copy);
    fs::write(&new, &file)?;
    fs::rename(&new, &copy)?;
    Ok(copy)
}

fn tempfile_beside(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.new", std::process::id()))
}

/// Makes the undefined symbols with one of these beginnings weak in a 64-bit little-endian ELF file.
/// Returns `None` for any other file.
fn weaken(file: &mut [u8], beginnings: &[&[u8]]) -> Option<()> {
    const DYNAMIC_SYMBOLS: u64 = 11;
    const SYMBOL_BYTES: usize = 24;
    const WEAK: u8 = 2 << 4;
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    // The number in a field of the entry at `entry`; an offset that leads nowhere has none.
    let number = |file: &[u8], entry: usize, field: usize, width: usize| -> Option<usize> {
        let at = entry.checked_add(field)?;
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(file.get(at..at.checked_add(width)?)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let sections = number(file, 0, 0x28, 8)?;
    let (size, count) = (number(file, 0, 0x3A, 2)?, number(file, 0, 0x3C, 2)?);
    // A section's kind, offset, length, and the section that it refers to.
    let section = |file: &[u8], index: usize| -> Option<(u64, usize, usize, usize)> {
        let at = sections.checked_add(index.checked_mul(size)?)?;
        // A section's description has 64 bytes.
        at.checked_add(64)?;
        let kind = number(file, at, 4, 4)? as u64;
        Some((
            kind,
            number(file, at, 0x18, 8)?,
            number(file, at, 0x20, 8)?,
            number(file, at, 0x28, 4)?,
        ))
    };
    for index in 0..count {
        let (kind, offset, length, names) = section(file, index)?;
        if kind != DYNAMIC_SYMBOLS {
            continue;
        }
        let (_, names, _, _) = section(file, names)?;
        let end = offset.checked_add(length).filter(|end| *end <= file.len())?;
        for at in (offset..end).step_by(SYMBOL_BYTES) {
            let name = names.checked_add(number(file, at, 0, 4)?)?;
            let is_undefined = number(file, at, 6, 2)? == 0;
            let is_named = beginnings
                .iter()
                .any(|start| file.get(name..).is_some_and(|text| text.starts_with(start)));
            if is_undefined && is_named {
                let info = file.get_mut(at + 4)?;
                *info = WEAK | (*info & 0xf);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_refused_without_a_panic() {
        for file in [b"".as_slice(), b"no library", b"\x7fELF\x01\x01", b"\x7fELF\x02\x01"] {
            assert_eq!(weaken(&mut file.to_vec(), &[b"Py"]), None, "{file:?}");
        }
        // Offsets that lead nowhere.
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(0x40, 0xff);
        assert_eq!(weaken(&mut file, &[b"Py"]), None);
    }
}
