//! The width of the lines of Markdown: people also read documents in terminals and in diffs.

use std::path::Path;

/// Lines wrap here. Rows of tables cannot, and the target of a link does not count.
const COLUMNS_MAX: usize = 100;

/// Complains about each line of the document at `path` that is too wide.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let too_wide = |(index, line): (usize, &str)| {
        let columns = columns(line);
        (columns > COLUMNS_MAX).then(|| {
            let (shown, number) = (path.display(), index + 1);
            format!("{shown}:{number}: {columns} columns, more than {COLUMNS_MAX}: wrap the line")
        })
    };
    text.lines().enumerate().filter_map(too_wide).collect()
}

/// How wide the line counts as.
fn columns(line: &str) -> usize {
    if line.trim_start().starts_with('|') {
        return 0;
    }
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let of_targets: usize = targets.map(|target| target.chars().count()).sum();
    line.chars().count() - of_targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_wrapped_counts() {
        let wide = "x".repeat(COLUMNS_MAX + 1);
        let widest = "é".repeat(COLUMNS_MAX);
        let link = format!("[a](https://example.org/{wide}) b");
        for (text, expected) in [
            (widest.as_str(), ""),
            (&format!("a\n{wide}"), "a.md:2: 101 columns"),
            (&format!("    {widest}"), "a.md:1: 104 columns"),
            (&format!("| {wide} |"), ""),
            (&link, ""),
            (&format!("{link}{wide}"), "a.md:1: 108 columns"),
        ] {
            let found = check(Path::new("a.md"), text);
            assert_eq!(found.len(), usize::from(!expected.is_empty()), "{text}: {found:?}");
            assert!(found.iter().all(|found| found.starts_with(expected)), "{found:?}");
        }
    }
}
