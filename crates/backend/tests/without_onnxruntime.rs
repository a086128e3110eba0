//! A process without a usable onnxruntime library: every kind of wrong file gives a clear error and
//! never a panic. This is a process of its own, because an opened library stays open.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

use std::path::{Path, PathBuf};
use symphony_backend::engine::Cores;
use symphony_backend::engines::onnxruntime::{Onnxruntime, Places};

const CORES: Cores = Cores { accelerators: 1, threads: 1 };

fn error(places: &Places) -> String {
    Onnxruntime::open_from(places, CORES).unwrap_err().to_string()
}

fn check(configured: &Path, expected: &str) {
    let places = Places { configured: Some(configured.to_owned()), ..Places::default() };
    let error = error(&places);
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("pip install onnxruntime"), "{error}");
}

#[test]
fn without_a_library_there_is_a_clear_error() {
    assert!(error(&Places::default()).contains("no library found"));
    check(Path::new("/nowhere/libonnxruntime.so"), "No such file");
}

#[test]
fn a_wrong_file_in_its_place_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("libonnxruntime.so");
    std::fs::write(&text, "not a library").unwrap();
    check(&text, "failed to load from");
    // A directory is searched, so the broken file is found there, too.
    check(directory.path(), "failed to load from");
    std::fs::remove_file(&text).unwrap();
    check(directory.path(), "no library found");
    let places = Places { libraries: vec![directory.path().to_owned()], ..Places::default() };
    assert!(error(&places).contains("no library found"));
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_never_opened() {
    // Opening a device or a pipe as a library could block forever.
    check(Path::new("/dev/zero"), "not a file");
}

#[cfg(target_os = "linux")]
#[test]
fn another_library_is_a_clear_error() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().find_map(|line| {
        let path = PathBuf::from(line.split_whitespace().nth(5)?);
        path.file_name()?.to_str()?.starts_with("libc.so").then_some(path)
    });
    check(&library.expect("the C library is mapped"), "does not export `OrtGetApiBase`");
}
