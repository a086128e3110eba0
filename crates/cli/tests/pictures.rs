//! The pictures of the documents are what their commands make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The commands of a group, by the name of the picture.
type Group = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `docs/plots/pictures.toml`: the groups by name.
fn groups() -> BTreeMap<String, Group> {
    let path = root().join("docs/plots/pictures.toml");
    let text = std::fs::read_to_string(path).expect("the list of pictures");
    toml::from_str(&text).expect("groups of names and commands")
}

#[test]
fn quick_pictures_are_what_their_commands_make() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, command) in &groups()["quick"] {
        let made = folder.path().join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_symphony"))
            .current_dir(root())
            .args(command.split_whitespace())
            .arg("--plot")
            .arg(&made)
            .output()
            .expect("the binary");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let read = |path: &Path| std::fs::read(path).expect("a picture");
        let is_same = read(&made) == read(&root().join("docs/plots").join(name));
        assert!(is_same, "{name} has changed: `cargo xtask pictures` makes it anew");
    }
}

#[test]
fn every_picture_has_its_command() {
    let groups = groups();
    let mut listed: Vec<&String> = groups.values().flat_map(Group::keys).collect();
    listed.sort();
    let entries = std::fs::read_dir(root().join("docs/plots")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut found: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    found.sort();
    assert_eq!(found.iter().collect::<Vec<_>>(), listed);
}
