//! Which versions of a model are served: what its settings ask for, and what that chooses among the
//! versions that are there.

use super::error::ConfigError;
use super::source::TomlSource;
use std::fmt;
use toml::{Spanned, Value};

/// Which versions of a model are served, side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest ones, so many at most.
    Latest(usize),
    /// Every one.
    All,
    /// These, in ascending order; those that are not there are left out.
    Specific(Vec<u64>),
}

/// The versions of a model that a policy chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionChoice {
    /// Highest first, at least one. Those beyond `count` take the place of others that cannot be
    /// loaded.
    versions: Vec<u64>,
    count: usize,
    missing: Vec<u64>,
}

impl Default for VersionPolicy {
    fn default() -> VersionPolicy {
        VersionPolicy::Latest(1)
    }
}

impl VersionPolicy {
    /// What it chooses among the versions that there are, in ascending order; `None` when it
    /// chooses none.
    #[must_use]
    pub fn choose(&self, available: &[u64]) -> Option<VersionChoice> {
        let (mut versions, mut missing) = (available.to_vec(), Vec::new());
        let count = match self {
            VersionPolicy::Latest(count) => (*count).min(versions.len()),
            VersionPolicy::All => versions.len(),
            VersionPolicy::Specific(named) => {
                (versions, missing) =
                    named.iter().partition(|version| available.binary_search(version).is_ok());
                versions.len()
            }
        };
        versions.reverse();
        (count > 0).then_some(VersionChoice { versions, count, missing })
    }
}

impl VersionChoice {
    /// The versions to serve, highest first.
    #[must_use]
    pub fn wanted(&self) -> &[u64] {
        &self.versions[..self.count]
    }

    /// The versions that take the place of wanted ones that cannot be loaded, highest first.
    #[must_use]
    pub fn stand_ins(&self) -> &[u64] {
        &self.versions[self.count..]
    }

    /// The highest version that is wanted.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.versions[0]
    }

    /// The versions that are asked for by number and are not there.
    #[must_use]
    pub fn missing(&self) -> &[u64] {
        &self.missing
    }
}

impl fmt::Display for VersionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionPolicy::Latest(1) => f.write_str("\"latest\""),
            VersionPolicy::Latest(count) => write!(f, "{{ latest = {count} }}"),
            VersionPolicy::All => f.write_str("\"all\""),
            VersionPolicy::Specific(versions) => write!(f, "{versions:?}"),
        }
    }
}

/// The key `versions` of `model.toml`.
pub(super) fn policy(
    source: &TomlSource,
    value: Option<&Spanned<Value>>,
) -> Result<Option<VersionPolicy>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    parsed(value.get_ref()).map(Some).ok_or_else(|| {
        let problem = format!(
            "versions = {} is not allowed: give \"latest\", {{ latest = 2 }}, \"all\", or the \
             numbers of the versions, such as [1, 3]",
            value.get_ref()
        );
        source.refuse(Some(value.span()), problem)
    })
}

fn parsed(value: &Value) -> Option<VersionPolicy> {
    match value {
        Value::String(name) if name == "latest" => Some(VersionPolicy::Latest(1)),
        Value::String(name) if name == "all" => Some(VersionPolicy::All),
        Value::Table(table) => match table.iter().next() {
            Some((key, Value::Integer(count))) if key == "latest" && table.len() == 1 => {
                let count = usize::try_from(*count).ok().filter(|count| *count > 0)?;
                Some(VersionPolicy::Latest(count))
            }
            _ => None,
        },
        Value::Array(numbers) => specific(numbers.iter().map(|number| number.as_integer())),
        _ => None,
    }
}

/// The policy of these versions; `None` when one is no version, or there is none.
pub(super) fn specific(numbers: impl Iterator<Item = Option<i64>>) -> Option<VersionPolicy> {
    let number = |number: Option<i64>| u64::try_from(number?).ok().filter(|number| *number > 0);
    let mut versions = numbers.map(number).collect::<Option<Vec<u64>>>()?;
    versions.sort_unstable();
    versions.dedup();
    (!versions.is_empty()).then_some(VersionPolicy::Specific(versions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What a value of the key chooses among some versions: wanted, stand-ins, missing.
    fn check(value: &str, available: &[u64], expected: &str) {
        let text = format!("versions = {value}");
        let source = TomlSource::from_text(Path::new("model.toml"), &text);
        let file: std::collections::BTreeMap<String, Spanned<Value>> = source.parse().unwrap();
        let shown = match policy(&source, file.get("versions")) {
            Err(error) => error.to_string(),
            Ok(None) => "none".to_owned(),
            Ok(Some(policy)) => match policy.choose(available) {
                None => format!("{policy} chooses none"),
                Some(choice) => format!(
                    "{policy}: {:?} {:?} {:?}",
                    choice.wanted(),
                    choice.stand_ins(),
                    choice.missing()
                ),
            },
        };
        assert_eq!(shown, expected, "{value} of {available:?}");
    }

    #[test]
    fn policies_choose_versions() {
        for (value, available, expected) in [
            ("'latest'", &[1, 2, 10][..], r#""latest": [10] [2, 1] []"#),
            ("{ latest = 2 }", &[1, 2, 10], "{ latest = 2 }: [10, 2] [1] []"),
            ("{ latest = 5 }", &[1, 2], "{ latest = 5 }: [2, 1] [] []"),
            ("'all'", &[1, 2, 10], r#""all": [10, 2, 1] [] []"#),
            ("[3, 1, 3]", &[1, 2, 3], "[1, 3]: [3, 1] [] []"),
            ("[1, 4]", &[1, 2, 3], "[1, 4]: [1] [] [4]"),
            ("[7]", &[1, 2, 3], "[7] chooses none"),
        ] {
            check(value, available, expected);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (value, shown) in [
            ("'newest'", "\"newest\""),
            ("2", "2"),
            ("[]", "[]"),
            ("[0]", "[0]"),
            ("[-1]", "[-1]"),
            ("{ latest = 0 }", "{ latest = 0 }"),
            ("{ latest = 1, all = 1 }", "{ all = 1, latest = 1 }"),
        ] {
            let expected = format!(
                "model.toml:1: versions = {shown} is not allowed: give \"latest\", \
                 {{ latest = 2 }}, \"all\", or the numbers of the versions, such as [1, 3]"
            );
            check(value, &[1], &expected);
        }
    }
}
