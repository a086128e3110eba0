//! The module tree of one target, and where a path that is written in it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use syn::{Attribute, Expr, Item, ItemMod, Lit, Meta};

use super::file::{SourceFile, is_test_only};
use super::paths::Paths;

/// The most re-exports of re-exports to follow. Beyond this a path counts as unknown.
const DEPTH_MAX: usize = 16;

/// A module, by its place in its tree.
pub(super) type ModuleId = usize;
/// A file, by its place in its tree.
pub(crate) type FileId = usize;

/// All modules of one target. Parents come before their children, and the first is the root.
pub(crate) struct Tree {
    /// The package that the target belongs to.
    pub(crate) package: String,
    pub(crate) files: Vec<SourceFile>,
    pub(super) modules: Vec<Module>,
}

/// One module, in a file of its own or inline.
pub(super) struct Module {
    pub(super) file: FileId,
    pub(super) paths: Paths,
    parent: Option<ModuleId>,
    children: BTreeMap<String, ModuleId>,
    items: BTreeSet<String>,
    /// Whether the module includes generated code.
    pub(super) is_generated: bool,
}

/// What a path refers to.
#[derive(Debug, PartialEq)]
pub(super) enum Resolved {
    Module(ModuleId),
    Item { file: FileId, name: String },
}

/// The directories in which the files of a module's children are.
struct Folder {
    /// The folder of the file itself, for `#[path]`.
    of_file: PathBuf,
    of_children: PathBuf,
}

impl Tree {
    /// Reads the target whose root is the file `path`.
    pub(crate) fn read(root: &Path, package: &str, path: &Path, is_test: bool) -> Result<Self> {
        let mut tree = Self { package: package.to_owned(), files: Vec::new(), modules: Vec::new() };
        let folder = path.parent().unwrap_or(root).to_owned();
        let folder = Folder { of_file: folder.clone(), of_children: folder };
        let file = SourceFile::read(path, String::new(), is_test)?;
        tree.add_file(file, &folder, None)?;
        for file in &mut tree.files {
            if let Ok(shown) = file.path.strip_prefix(root) {
                file.path = shown.to_owned();
            }
        }
        Ok(tree)
    }

    fn add_file(
        &mut self,
        file: SourceFile,
        folder: &Folder,
        parent: Option<ModuleId>,
    ) -> Result<ModuleId> {
        let items = file.syntax.items.clone();
        self.files.push(file);
        let module = self.add_module(self.files.len() - 1, parent, &items);
        self.add_children(folder, module, &items)?;
        Ok(module)
    }

    fn add_module(&mut self, file: FileId, parent: Option<ModuleId>, items: &[Item]) -> ModuleId {
        self.modules.push(Module {
            file,
            paths: Paths::of(items),
            parent,
            children: BTreeMap::new(),
            items: items.iter().filter_map(item_name).collect(),
            is_generated: items.iter().any(is_include),
        });
        self.modules.len() - 1
    }

    fn add_children(&mut self, folder: &Folder, parent: ModuleId, items: &[Item]) -> Result<()> {
        let file = self.modules[parent].file;
        for item in items {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let id = match &child.content {
                Some(_) if is_test_only(&child.attrs) => continue,
                Some((_, items)) => {
                    let id = self.add_module(file, Some(parent), items);
                    self.add_children(&folder.of_inline(&name), id, items)?;
                    id
                }
                None => {
                    let is_test = self.files[file].is_test || is_test_only(&child.attrs);
                    let (path, folder) = folder.of_child(child)?;
                    let top = match self.files[file].top.as_str() {
                        "" => name.clone(),
                        top => top.to_owned(),
                    };
                    self.add_file(SourceFile::read(&path, top, is_test)?, &folder, Some(parent))?
                }
            };
            self.modules[parent].children.insert(name, id);
        }
        Ok(())
    }

    /// The modules whose code is built whenever the target is.
    pub(super) fn built_modules(&self) -> impl Iterator<Item = ModuleId> {
        let is_test = |module: ModuleId| self.files[self.modules[module].file].is_test;
        (0..self.modules.len()).filter(move |&module| is_test(module) == is_test(0))
    }

    /// Where `path`, written in the module `from`, leads; `None` when it leads out of the target.
    pub(super) fn resolve(&self, from: ModuleId, path: &[String]) -> Option<Resolved> {
        self.resolve_within(from, path, DEPTH_MAX)
    }

    fn resolve_within(&self, from: ModuleId, path: &[String], depth: usize) -> Option<Resolved> {
        let depth = depth.checked_sub(1)?;
        let (first, mut rest) = path.split_first()?;
        let mut place = match first.as_str() {
            "crate" => Resolved::Module(0),
            "self" => Resolved::Module(from),
            "super" => Resolved::Module(self.modules[from].parent?),
            name => self.look_up(from, name, depth)?,
        };
        while let (&Resolved::Module(module), Some((name, tail))) = (&place, rest.split_first()) {
            rest = tail;
            place = if name == "super" {
                Resolved::Module(self.modules[module].parent?)
            } else {
                self.look_up(module, name, depth).or_else(|| self.unknown_item(module, name))?
            };
        }
        Some(place)
    }

    /// What `name` means in `module`: what it declares, or what it imports from this target.
    fn look_up(&self, module: ModuleId, name: &str, depth: usize) -> Option<Resolved> {
        let scope = &self.modules[module];
        if let Some(&child) = scope.children.get(name) {
            return Some(Resolved::Module(child));
        }
        if scope.items.contains(name) {
            return Some(self.item(module, name));
        }
        let named =
            scope.paths.bindings.iter().find(|binding| binding.name.as_deref() == Some(name));
        if let Some(binding) = named {
            return self.resolve_within(module, &binding.path, depth);
        }
        let globs = scope.paths.bindings.iter().filter(|binding| binding.name.is_none());
        let mut sources = globs.filter_map(|glob| self.resolve_within(module, &glob.path, depth));
        sources.find_map(|source| match source {
            Resolved::Module(source) if depth > 0 => self.look_up(source, name, depth - 1),
            Resolved::Module(_) | Resolved::Item { .. } => None,
        })
    }

    /// A name that no item declares comes from a macro of the module, or it is generated and
    /// belongs to no file.
    fn unknown_item(&self, module: ModuleId, name: &str) -> Option<Resolved> {
        (!self.modules[module].is_generated).then(|| self.item(module, name))
    }

    fn item(&self, module: ModuleId, name: &str) -> Resolved {
        Resolved::Item { file: self.modules[module].file, name: name.to_owned() }
    }
}

impl Folder {
    fn of_inline(&self, name: &str) -> Self {
        let of_children = self.of_children.join(name);
        Self { of_file: of_children.clone(), of_children }
    }

    /// The file of a child that is declared without a body, and where its own children are.
    fn of_child(&self, child: &ItemMod) -> Result<(PathBuf, Self)> {
        let name = child.ident.to_string();
        if let Some(path) = path_attribute(&child.attrs) {
            let path = without_dots(&self.of_file.join(path));
            let folder = path.parent().unwrap_or(&self.of_file).to_owned();
            return Ok((path, Self { of_file: folder.clone(), of_children: folder }));
        }
        let plain = self.of_children.join(format!("{name}.rs"));
        let folder = self.of_children.join(&name);
        let nested = folder.join("mod.rs");
        if plain.is_file() {
            return Ok((plain, Self { of_file: self.of_children.clone(), of_children: folder }));
        }
        let found = nested.is_file().then_some(nested);
        let nested =
            found.with_context(|| format!("no file {} of `mod {name}`", plain.display()))?;
        Ok((nested, Self { of_file: folder.clone(), of_children: folder }))
    }
}

/// The path without `..`, so that a file has one path.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// Whether an item is `include!(...)` or a macro that is named after it.
fn is_include(item: &Item) -> bool {
    let Item::Macro(item) = item else { return false };
    item.mac.path.segments.last().is_some_and(|last| last.ident.to_string().starts_with("include"))
}

/// The path that `#[path = "..."]` gives.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// The name that an item declares in its module. Modules are children, not items.
fn item_name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
