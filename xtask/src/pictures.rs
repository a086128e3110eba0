//! The pictures of the documents, each made by a command of ours: `docs/plots/pictures.toml` lists
//! them. What is measured is not made again here.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command;
use crate::workspace::{Workspace, cargo};

/// Where the pictures are.
const FOLDER: &str = "docs/plots";

/// The commands by the name of the picture.
#[derive(Deserialize)]
struct Pictures {
    quick: BTreeMap<String, String>,
    slow: BTreeMap<String, String>,
}

impl Pictures {
    fn read(workspace: &Workspace) -> Result<Pictures> {
        let path = workspace.root.join(FOLDER).join("pictures.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    fn all(&self) -> impl Iterator<Item = (&String, &String)> {
        self.quick.iter().chain(&self.slow)
    }
}

/// Makes every picture that a simulation gives. With `check`, makes them elsewhere and fails where
/// one is not what is checked in.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    let pictures = Pictures::read(workspace)?;
    let folder =
        if check { workspace.target.join("pictures") } else { workspace.root.join(FOLDER) };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut changed = Vec::new();
    for (name, line) in pictures.all() {
        let made = folder.join(name);
        command::run(
            cargo()
                .current_dir(&workspace.root)
                .args(["run", "--quiet", "--release", "--bin", "symphony", "--"])
                .args(line.split_whitespace())
                .arg("--plot")
                .arg(&made),
        )?;
        if fs::read(&made)? != fs::read(workspace.root.join(FOLDER).join(name))? {
            changed.push(name.as_str());
        }
    }
    if !changed.is_empty() {
        bail!("{} changed: `cargo xtask pictures` makes them anew", changed.join(", "));
    }
    Ok(())
}
