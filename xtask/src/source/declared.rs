//! What a file declares: its functions with their lengths, and the names of its types.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, Item, ItemFn, ItemMod, Signature, TraitItemFn};

use super::file::{SourceFile, is_test_only};

/// One function with a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Lines from its signature to its closing brace.
    pub(crate) lines: usize,
}

/// The functions of a file, without those that are compiled for tests only unless the whole file
/// is.
pub(crate) fn functions(file: &SourceFile) -> Vec<Function> {
    let mut functions = Functions { with_tests: file.is_test, found: Vec::new() };
    functions.visit_file(&file.syntax);
    functions.found
}

struct Functions {
    with_tests: bool,
    found: Vec<Function>,
}

impl Functions {
    fn add(&mut self, signature: &Signature, body: &Block) {
        let start = signature.span().start().line;
        let end = body.brace_token.span.close().end().line;
        self.found.push(Function { name: signature.ident.to_string(), lines: end + 1 - start });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if self.with_tests || !is_test_only(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if self.with_tests || !is_test_only(&function.attrs) {
            self.add(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if self.with_tests || !is_test_only(&function.attrs) {
            self.add(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// The names of the types and traits that a file declares, without those of tests.
pub(crate) fn type_names(file: &SourceFile) -> Vec<String> {
    let mut names = Vec::new();
    add_type_names(&file.syntax.items, &mut names);
    names
}

fn add_type_names(items: &[Item], names: &mut Vec<String>) {
    for item in items {
        let (name, attributes) = match item {
            Item::Enum(item) => (&item.ident, &item.attrs),
            Item::Struct(item) => (&item.ident, &item.attrs),
            Item::Trait(item) => (&item.ident, &item.attrs),
            Item::Type(item) => (&item.ident, &item.attrs),
            Item::Union(item) => (&item.ident, &item.attrs),
            Item::Mod(item) => {
                if let Some((_, items)) = &item.content
                    && !is_test_only(&item.attrs)
                {
                    add_type_names(items, names);
                }
                continue;
            }
            _ => continue,
        };
        if !is_test_only(attributes) {
            names.push(name.to_string());
        }
    }
}
