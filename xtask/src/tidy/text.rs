//! Rules on the text of each file: its length, its first lines, and marks of unfinished work.

use std::path::Path;

use crate::source::lines_before_tests;

/// The most lines of a file before its tests.
const LINES_MAX: usize = 600;

/// Words that mark unfinished work, written so that this file does not contain them.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
/// Macros with the same meaning, and one that is only for debugging.
const MACROS: [&str; 3] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];

/// Complains about the text of the file at `path`.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let shown = path.display();
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let is_code = is_rust || path.extension().is_some_and(|extension| extension == "py");
    let lines = lines_before_tests(text);
    if is_code && lines > LINES_MAX {
        complaints.push(format!(
            "{shown}: {lines} lines before its tests, more than {LINES_MAX}: split it by subject"
        ));
    }
    if is_rust && !text.trim_start().starts_with("//!") {
        complaints.push(format!(
            "{shown}:1: no `//!` lines: say what the module is and what it must not know"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        let macros = MACROS.iter().filter(|_| is_rust);
        for mark in MARKS.iter().chain(macros).filter(|mark| has_word(line, mark)) {
            complaints.push(format!("{shown}:{}: `{mark}`: finish it or drop it", index + 1));
        }
    }
    complaints
}

/// Whether `word` stands in `line`, not as a part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(joins) && !line[start + word.len()..].starts_with(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str, expected: &str) {
        let found = check(Path::new(path), text);
        if expected.is_empty() {
            assert!(found.is_empty(), "{found:?}");
        } else {
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn each_rule_finds_its_own() {
        let long = format!("//! A module.\n{}", "\n".repeat(LINES_MAX));
        let tests = format!("//! A module.\n\n#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(600));
        for (path, text, expected) in [
            ("a.rs", "//! A module.\n", ""),
            ("a.rs", "\n//! A module.\n", ""),
            ("a.rs", "// Not it.\n", "a.rs:1: no `//!`"),
            ("a.py", "print()\n", ""),
            ("a.rs", &long, "more than 600"),
            ("a.rs", &tests, ""),
            ("a.md", &long, ""),
            ("a.rs", concat!("//! A.\n\n// TO", "DO: x"), "a.rs:3: `"),
            ("a.md", concat!("FIX", "ME"), "a.md:1: `"),
            ("a.rs", concat!("//! A.\nto", "do!()"), "a.rs:2: `"),
            ("a.md", concat!("no to", "do! left"), ""),
            ("a.rs", concat!("//! TO", "DOS, to", "do, MY_TO", "DO"), ""),
        ] {
            check_one(path, text, expected);
        }
    }
}
