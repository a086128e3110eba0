//! Checks the licences and origins of all packages with the lists of `deny.toml`, so that the rules
//! hold on machines without cargo-deny.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::workspace::{Package, Workspace};

/// The part of `deny.toml` that is enforced here.
#[derive(Deserialize)]
pub(super) struct DependencyPolicy {
    licenses: AllowedLicences,
    sources: AllowedSources,
}

#[derive(Deserialize)]
struct AllowedLicences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AllowedSources {
    allow_registry: Vec<String>,
}

impl DependencyPolicy {
    /// Reads the policy from `deny.toml`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }
}

/// Complains about every package of others whose licence or origin is not allowed.
pub(super) fn check(policy: &DependencyPolicy, workspace: &Workspace) -> Vec<String> {
    workspace.foreign_packages().flat_map(|package| check_package(policy, package)).collect()
}

fn check_package(policy: &DependencyPolicy, package: &Package) -> Vec<String> {
    let Package { name, version, .. } = package;
    let mut complaints = Vec::new();
    let expression = package.license.as_deref().unwrap_or("none stated");
    if !is_allowed(expression, &policy.licenses.allow) {
        complaints.push(format!(
            "{name} {version}: licence {expression:?} is not allowed by deny.toml: \
             use another package, or add the licence there with the reason"
        ));
    }
    let source = package.source.as_deref().unwrap_or("a path outside the workspace");
    let registry = source.strip_prefix("registry+").unwrap_or_default();
    if !policy.sources.allow_registry.iter().any(|allowed| allowed == registry) {
        complaints.push(format!(
            "{name} {version}: comes from {source}: only the registries in deny.toml are allowed"
        ));
    }
    complaints
}

/// Whether an SPDX expression can be met with the allowed licences alone. An expression that
/// cannot be read is not allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // `/` between licences is an older way to write OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// Reads `A OR B ...`; `None` when it cannot be read.
fn any_of(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = all_of(rest, allowed)?;
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        met |= all_of(rest, allowed)?;
    }
    Some(met)
}

/// Reads `A AND B ...`.
fn all_of(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = one(rest, allowed)?;
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed)?;
    }
    Some(met)
}

/// Reads one licence, with its exception if it has one, or an expression in parentheses.
fn one(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let is_listed = |name: &str| allowed.iter().any(|listed| listed == name);
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any_of(rest, allowed)?;
            let [")", tail @ ..] = *rest else { return None };
            *rest = tail;
            Some(met)
        }
        [name, "WITH", exception, tail @ ..] => {
            *rest = tail;
            Some(is_listed(&format!("{name} WITH {exception}")))
        }
        [")" | "OR" | "AND" | "WITH", ..] | [] => None,
        [name, tail @ ..] => {
            *rest = tail;
            Some(is_listed(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [&str; 3] = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];

    #[test]
    fn expressions_are_met_by_allowed_licences_only() {
        let allowed = ALLOWED.map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("none stated", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT)", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
        }
    }

    #[test]
    fn packages_come_from_an_allowed_registry() {
        let policy = DependencyPolicy {
            licenses: AllowedLicences { allow: ALLOWED.map(str::to_owned).to_vec() },
            sources: AllowedSources { allow_registry: vec!["https://index".to_owned()] },
        };
        for (source, expected) in [
            (Some("registry+https://index"), 0),
            (Some("registry+https://other"), 1),
            (Some("git+https://index"), 1),
            (None, 1),
        ] {
            let package = Package {
                id: String::new(),
                name: "p".to_owned(),
                version: "1.0.0".to_owned(),
                license: Some("MIT".to_owned()),
                source: source.map(str::to_owned),
                dependencies: Vec::new(),
                targets: Vec::new(),
            };
            assert_eq!(check_package(&policy, &package).len(), expected, "{source:?}");
        }
    }
}
