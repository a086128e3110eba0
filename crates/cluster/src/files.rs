//! The files of a model that is streamed, as both of its ends know them.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use symphony_wire::message::AnnouncedFile;

/// Bound on the files of one version.
pub(crate) const FILES_MAX: usize = 10_000;
/// Bound on the path of one file, in bytes.
const PATH_MAX: usize = 1024;
/// Read at once for a checksum.
const READ_BYTES: usize = 1 << 18;

/// What tells these files from others, on every machine.
pub(crate) fn fingerprint(files: &[AnnouncedFile]) -> String {
    let mut hash = Sha256::new();
    for AnnouncedFile { path, size, sha256 } in files {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path.as_bytes());
        hash.update(size.to_le_bytes());
        hash.update(sha256);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A text takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether what another process announced can be written here.
///
/// # Errors
/// It names a path outside the model's directory, one file twice, or too many.
pub(crate) fn check(files: &[AnnouncedFile]) -> Result<(), String> {
    if files.len() > FILES_MAX {
        return Err(format!(
            "{} files, more than the {FILES_MAX} that a model may have",
            files.len()
        ));
    }
    let mut paths = BTreeSet::new();
    for file in files {
        if !is_plain(&file.path) {
            return Err(format!(
                "the path {:?} is refused: it leads out of the model's directory, or is none",
                file.path
            ));
        }
        if !paths.insert(file.path.as_str()) {
            return Err(format!("the file {:?} is announced twice", file.path));
        }
    }
    Ok(())
}

/// Whether a path consists of names only, so that it stays below whatever it is joined to.
fn is_plain(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.len() <= PATH_MAX && path.split('/').all(is_name)
}

/// The bytes of all files.
pub(crate) fn total(files: &[AnnouncedFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
}

/// The size and the SHA-256 of a file as it is.
pub(crate) fn digest(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hash.finalize().into())),
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// Whether a file is there as it was announced. One of another size is not read.
pub(crate) fn is_there(path: &Path, file: &AnnouncedFile) -> bool {
    let has_size =
        path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == file.size);
    has_size && digest(path).is_ok_and(|(size, sha256)| (size, sha256) == (file.size, file.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> AnnouncedFile {
        AnnouncedFile { path: path.to_owned(), size, sha256: [7; 32] }
    }

    #[test]
    fn only_plain_paths_are_taken() {
        for path in ["model.toml", "1/model.onnx", "1/deep/weights.bin", "..x/y..", "a b"] {
            assert_eq!(check(&[file(path, 1)]), Ok(()), "{path}");
        }
        let long = "x".repeat(PATH_MAX + 1);
        for path in
            ["../../x", "/etc/x", "1/../../x", "", "a//b", "a/", ".", "1/./x", "a\0b", &long]
        {
            let refused = check(&[file(path, 1)]).unwrap_err();
            assert!(refused.contains("is refused"), "{path}: {refused}");
        }
        let twice = check(&[file("a", 1), file("a", 2)]).unwrap_err();
        assert_eq!(twice, "the file \"a\" is announced twice");
        let many: Vec<_> = (0..=FILES_MAX).map(|number| file(&number.to_string(), 0)).collect();
        assert!(check(&many).unwrap_err().starts_with("10001 files"));
    }

    #[test]
    fn a_fingerprint_changes_with_each_part() {
        let of = |files: &[AnnouncedFile]| fingerprint(files);
        let one = of(&[file("a", 1)]);
        assert_eq!(one, of(&[file("a", 1)]));
        assert_eq!(one.len(), 64);
        let other = AnnouncedFile { sha256: [8; 32], ..file("a", 1) };
        for files in [vec![file("b", 1)], vec![file("a", 2)], vec![other], vec![]] {
            assert_ne!(of(&files), one, "{files:?}");
        }
    }
}
