//! The Rust sources of a workspace as the parser `syn` reads them: which files each target has,
//! which modules they hold, and what is declared where. It knows nothing about rules or figures.

mod circles;
mod declared;
mod file;
mod imports;
mod modules;
mod paths;

use anyhow::Result;

pub(crate) use circles::circles;
pub(crate) use declared::{Function, functions, type_names};
pub(crate) use file::lines_before_tests;
pub(crate) use imports::{Arrow, arrows};
pub(crate) use modules::Tree;

use crate::workspace::Workspace;

/// Reads the module tree of every target of the workspace's own packages.
pub(crate) fn read(workspace: &Workspace) -> Result<Vec<Tree>> {
    let mut trees = Vec::new();
    for package in workspace.own_packages() {
        for target in &package.targets {
            let (root, is_test) = (&workspace.root, target.is_test());
            trees.push(Tree::read(root, &package.name, &target.src_path, is_test)?);
        }
    }
    Ok(trees)
}
