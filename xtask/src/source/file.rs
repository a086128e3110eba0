//! One file of Rust, parsed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::Attribute;

/// One parsed file.
pub(crate) struct SourceFile {
    /// Relative to the workspace's root where the file is below it.
    pub(crate) path: PathBuf,
    /// The module of the crate's root that the file belongs to; empty for the root itself.
    pub(crate) top: String,
    pub(super) syntax: syn::File,
    /// Lines before the file's module of tests; all lines when it has none.
    pub(crate) lines: usize,
    /// Whether the file is built for tests and benchmarks only.
    pub(crate) is_test: bool,
}

impl SourceFile {
    pub(super) fn read(path: &Path, top: String, is_test: bool) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let syntax = syn::parse_file(&text)
            .with_context(|| format!("{} is not Rust that can be parsed", path.display()))?;
        let lines = lines_before_tests(&text);
        Ok(Self { path: path.to_owned(), top, syntax, lines, is_test })
    }
}

/// The lines of `text` before its module of tests; all of them when it has none.
pub(crate) fn lines_before_tests(text: &str) -> usize {
    let is_module = |line: &str| line.starts_with("mod ") && line.ends_with('{');
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && is_module(pair[1]));
    tests.unwrap_or(lines.len())
}

/// Whether an item is compiled for tests only.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        path.segments.last().is_some_and(|last| last.ident == "test")
            || path.is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|name| name.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_up_to_the_tests() {
        for (text, expected) in [
            ("//! A.\nfn a() {}\n", 2),
            ("//! A.\n\n#[cfg(test)]\nmod tests {\n}\n", 2),
            ("//! A.\n#[cfg(test)]\nmod tests;\nfn a() {}\n", 4),
            ("//! A.\n#[cfg(test)]\nfn a() {}\nfn b() {}\n", 4),
        ] {
            assert_eq!(lines_before_tests(text), expected, "{text}");
        }
    }
}
