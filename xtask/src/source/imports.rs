//! The imports between the files of a target: every path in `use` lines and in code is followed to
//! the file that declares what it names, through re-exports.

use std::collections::BTreeMap;

use super::modules::{FileId, ModuleId, Resolved, Tree};
use super::paths::Binding;

/// A file that needs another file.
#[derive(Debug, PartialEq)]
pub(crate) struct Arrow {
    pub(crate) from: FileId,
    pub(crate) to: FileId,
    /// The first line that names one of the items.
    pub(crate) line: usize,
    pub(crate) items: Vec<String>,
}

/// All arrows between the files of a target, without those of its tests.
pub(crate) fn arrows(tree: &Tree) -> Vec<Arrow> {
    let mut found: BTreeMap<(FileId, FileId), Arrow> = BTreeMap::new();
    for module in tree.built_modules() {
        let from = tree.modules[module].file;
        for (to, name, line) in needs(tree, module).into_iter().filter(|(to, ..)| *to != from) {
            let empty = || Arrow { from, to, line, items: Vec::new() };
            let arrow = found.entry((from, to)).or_insert_with(empty);
            arrow.line = arrow.line.min(line);
            if !arrow.items.contains(&name) {
                arrow.items.push(name);
            }
        }
    }
    found.into_values().collect()
}

/// What a module needs: the file, the item in it, and the line that names it.
fn needs(tree: &Tree, id: ModuleId) -> Vec<(FileId, String, usize)> {
    let paths = &tree.modules[id].paths;
    // A re-export is for others, unless the module uses the name, too.
    let is_used = |binding: &&Binding| {
        !binding.is_export || binding.name.as_ref().is_some_and(|name| paths.names.contains(name))
    };
    let imports = paths.bindings.iter().filter(is_used).filter_map(|binding| {
        match tree.resolve(id, &binding.path)? {
            Resolved::Item { file, name } => Some((file, name, binding.line)),
            Resolved::Module(all) if binding.name.is_none() && !tree.modules[all].is_generated => {
                Some((tree.modules[all].file, "*".to_owned(), binding.line))
            }
            // Naming a module needs nothing yet; the code says what it uses of it.
            Resolved::Module(_) => None,
        }
    });
    let code =
        paths.mentions.iter().filter_map(|mention| match tree.resolve(id, &mention.path)? {
            Resolved::Item { file, name } => Some((file, name, mention.line)),
            Resolved::Module(_) => None,
        });
    imports.chain(code).collect()
}
