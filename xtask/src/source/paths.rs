//! The paths that a module writes: in its imports, in its code and in the arguments of macros.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

use super::file::is_test_only;

/// One name that a `use` line imports.
#[derive(Debug, PartialEq)]
pub(super) struct Binding {
    /// The imported name; `None` for `*`.
    pub(super) name: Option<String>,
    pub(super) path: Vec<String>,
    /// Whether other modules may use the name from here.
    pub(super) is_export: bool,
    pub(super) line: usize,
}

/// A path of at least two names in code.
#[derive(Debug, PartialEq)]
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// The paths in one module, without those in its tests and in the modules inside it.
#[derive(Default)]
pub(super) struct Paths {
    /// What its `use` lines import, including those in functions.
    pub(super) bindings: Vec<Binding>,
    pub(super) mentions: Vec<Mention>,
    /// The first names of all paths in code.
    pub(super) names: BTreeSet<String>,
}

impl Paths {
    /// Collects the paths of a module with these items.
    pub(super) fn of(items: &[Item]) -> Self {
        let mut paths = Self::default();
        for item in items {
            paths.visit_item(item);
        }
        paths
    }

    fn add(&mut self, path: Vec<String>, line: usize) {
        self.names.extend(path.first().cloned());
        if path.len() > 1 {
            self.mentions.push(Mention { path, line });
        }
    }

    /// Adds everything that looks like a path in the arguments of a macro, which no parser
    /// understands.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path), line);
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.add(std::mem::take(&mut path), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add(path, line);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    /// `pub(in path)` names who may see an item, not what it needs.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            let first = self.bindings.len();
            add_bindings(&item.tree, &mut Vec::new(), &mut self.bindings);
            let is_export = !matches!(item.vis, Visibility::Inherited);
            for binding in &mut self.bindings[first..] {
                binding.is_export = is_export;
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (None, Some(first)) = (path.leading_colon, path.segments.first()) {
            let line = first.ident.span().start().line;
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// Adds the bindings of a `use` line. The caller sets whether they are exports.
fn add_bindings(tree: &UseTree, prefix: &mut Vec<String>, bindings: &mut Vec<Binding>) {
    let binding = |name, path, line| Binding { name, path, is_export: false, line };
    let with = |prefix: &[String], name: &syn::Ident| {
        let mut path = prefix.to_vec();
        // `use a::{self}` brings `a`.
        if name != "self" || path.is_empty() {
            path.push(name.to_string());
        }
        path
    };
    match tree {
        UseTree::Path(part) => {
            prefix.push(part.ident.to_string());
            add_bindings(&part.tree, prefix, bindings);
            prefix.pop();
        }
        UseTree::Name(part) => {
            let path = with(prefix, &part.ident);
            let line = part.ident.span().start().line;
            bindings.push(binding(path.last().cloned(), path, line));
        }
        UseTree::Rename(part) => {
            let line = part.ident.span().start().line;
            let path = with(prefix, &part.ident);
            bindings.push(binding(Some(part.rename.to_string()), path, line));
        }
        UseTree::Glob(part) => {
            let line = part.star_token.spans[0].start().line;
            bindings.push(binding(None, prefix.clone(), line));
        }
        UseTree::Group(part) => {
            for tree in &part.items {
                add_bindings(tree, prefix, bindings);
            }
        }
    }
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
