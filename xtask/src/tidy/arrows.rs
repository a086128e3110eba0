//! The import arrows between our crates: downwards only, siblings never.

use crate::workspace::{Package, Workspace};

/// What each crate may depend on, of ours. An arrow that is not drawn here does not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("symphony-core", &[]),
    ("symphony-onnx", &[]),
    ("symphony-triton", &[]),
    ("symphony-exchange", &[]),
    ("symphony-tls", &[]),
    ("symphony-wire", &["symphony-core", "symphony-exchange", "symphony-tls"]),
    ("symphony-python", &["symphony-wire"]),
    ("symphony-lease", &[]),
    ("symphony-workload", &["symphony-core"]),
    ("symphony-sim", &["symphony-core", "symphony-workload"]),
    ("symphony-dispatch", &["symphony-core", "symphony-wire", "symphony-exchange"]),
    (
        "symphony-backend",
        &["symphony-core", "symphony-wire", "symphony-onnx", "symphony-triton", "symphony-python"],
    ),
    ("symphony-frontend", &["symphony-core", "symphony-wire", "symphony-triton", "symphony-tls"]),
    ("symphony-client", &["symphony-wire", "symphony-tls"]),
    (
        "symphony-control",
        &[
            "symphony-core",
            "symphony-wire",
            "symphony-exchange",
            "symphony-dispatch",
            "symphony-backend",
        ],
    ),
    (
        "symphony-cluster",
        &[
            "symphony-core",
            "symphony-wire",
            "symphony-exchange",
            "symphony-dispatch",
            "symphony-backend",
            "symphony-control",
        ],
    ),
    (
        "symphony-lab",
        &[
            "symphony-core",
            "symphony-wire",
            "symphony-workload",
            "symphony-sim",
            "symphony-exchange",
            "symphony-dispatch",
            "symphony-backend",
            "symphony-frontend",
            "symphony-client",
            "symphony-control",
            "symphony-cluster",
        ],
    ),
    (
        "symphony",
        &[
            "symphony-core",
            "symphony-wire",
            "symphony-exchange",
            "symphony-lease",
            "symphony-tls",
            "symphony-dispatch",
            "symphony-backend",
            "symphony-frontend",
            "symphony-client",
            "symphony-control",
            "symphony-cluster",
            "symphony-lab",
        ],
    ),
    ("xtask", &[]),
];

/// Complains about every arrow that should not be there. Dependencies of tests count as well.
pub(super) fn check(workspace: &Workspace) -> Vec<String> {
    let names: Vec<&str> = workspace.own_packages().map(|package| package.name.as_str()).collect();
    workspace.own_packages().flat_map(|package| check_package(package, &names)).collect()
}

fn check_package(package: &Package, ours: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!(
            "{}: a new crate: say in {} what it may depend on",
            package.name,
            file!()
        )];
    };
    let imported = package.dependencies.iter().map(|dependency| dependency.name.as_str());
    imported
        .filter(|name| ours.contains(name) && !allowed.contains(name))
        .map(|name| {
            format!("{}: must not depend on {name}: imports run downwards only", package.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn complaints(name: &str, dependencies: &[&str]) -> Vec<String> {
        let dependencies =
            dependencies.iter().map(|&name| Dependency { name: name.to_owned() }).collect();
        let package = Package {
            id: String::new(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            dependencies,
            targets: Vec::new(),
        };
        let ours: Vec<&str> =
            ARROWS.iter().map(|(name, _)| *name).chain(["symphony-new"]).collect();
        check_package(&package, &ours)
    }

    #[test]
    fn only_the_drawn_arrows_pass() {
        assert!(complaints("symphony-sim", &["symphony-core", "symphony-workload"]).is_empty());
        assert!(complaints("symphony-core", &["thiserror"]).is_empty());
        for (from, to) in [
            ("symphony-core", "symphony-wire"),
            ("symphony-dispatch", "symphony-backend"),
            ("symphony-onnx", "symphony-core"),
            ("symphony-exchange", "symphony-core"),
            ("symphony-control", "symphony-frontend"),
            ("symphony-lab", "symphony"),
            ("xtask", "symphony-core"),
        ] {
            let found = complaints(from, &[to]);
            assert_eq!(found.len(), 1);
            assert!(found[0].contains(from) && found[0].contains(to), "{found:?}");
        }
        assert!(complaints("symphony-new", &[])[0].contains("a new crate"));
    }

    #[test]
    fn the_drawn_arrows_have_no_cycle() {
        // Each crate stands below the crates it may depend on.
        for (index, (name, allowed)) in ARROWS.iter().enumerate() {
            for to in *allowed {
                let below = ARROWS.iter().position(|(name, _)| name == to);
                assert!(below.is_some_and(|below| below < index), "{name} -> {to}");
            }
        }
    }
}
