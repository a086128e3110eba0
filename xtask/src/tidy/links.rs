//! Checks that relative links in Markdown lead to a file.

use std::path::Path;

/// Complains about each relative link in `text` whose path does not exist.
pub(super) fn check(path: &Path, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line).into_iter().filter(|target| !exists(target)) {
            complaints.push(format!(
                "{}:{}: the link to {target} leads nowhere",
                path.display(),
                index + 1
            ));
        }
    }
    complaints
}

/// The paths that the line's links name, without other sites and without the anchor in the page.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    // `[name]: path` gives the path of links by name.
    let named =
        line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    inline
        .chain(named)
        .filter_map(|target| target.split_whitespace().next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(text: &str, expected: &[&str]) {
        let found = check(Path::new("docs/a.md"), text, |target| target.starts_with("good"));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn only_relative_links_are_followed() {
        check_one("[a](good.md) [b](good/x.md#part \"title\") [c](#here)", &[]);
        check_one("[a](https://example.org/x) [b](mailto:a@example.org)", &[]);
        check_one("first\n[a](good) and ![b](bad.svg)", &["docs/a.md:2: the link to bad.svg"]);
        check_one("[a](bad#x) [b](worse)", &["to bad leads", "to worse leads"]);
        check_one("[name]: bad.md", &["bad.md"]);
        check_one("```\n[a](bad)\n```\n[b](bad)", &["docs/a.md:4"]);
    }
}
