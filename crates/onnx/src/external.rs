//! Tensors that are stored outside the model file: which files they name, and whether these are
//! safe to read.
//!
//! A model may name any path. Only plain paths below the model's own directory are followed. A file
//! there, or the model itself, may be a link that leads elsewhere, as the caches of model hubs have
//! them: who made the link chose what is read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::tensor;

/// How many links may lead from one to the next: as many as the system follows.
const LINKS_MAX: usize = 40;

/// The files that hold tensors, by the names that the model gives them.
pub(crate) type Files = BTreeMap<String, PathBuf>;

/// The directories that are a model's own: that of its file, and where the file is a link, that of
/// what it leads to.
pub(crate) fn directories_of(model: &Path) -> Vec<PathBuf> {
    let mut file = model.to_owned();
    let mut directories = Vec::new();
    for _ in 0..LINKS_MAX {
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        let target = fs::read_link(&file).map(|target| directory.join(target));
        directories.push(directory);
        match target {
            Ok(target) => file = target,
            Err(_) => break,
        }
    }
    directories
}

fn entry(tensor: &TensorProto, key: &str) -> Option<String> {
    let entry = tensor.external_data.iter().find(|entry| entry.key() == key)?;
    Some(entry.value().to_owned())
}

fn location(tensor: &TensorProto) -> String {
    entry(tensor, "location").unwrap_or_default()
}

/// Checks that an external tensor lies completely within an existing file below one of the model's
/// directories. Returns the file's path.
fn locate(tensor: &TensorProto, directories: &[PathBuf]) -> Result<PathBuf, Error> {
    let location = location(tensor);
    let refuse = |problem: &str| Error::External {
        name: tensor.name().to_owned(),
        location: location.clone(),
        problem: problem.to_owned(),
    };
    let relative = Path::new(&location);
    let is_plain =
        relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !is_plain || location.contains('\\') {
        return Err(refuse(
            "only files in the model's own directory are read; save the model again with its data beside it",
        ));
    }
    let mut missing = None;
    let mut found = None;
    for directory in directories {
        let path = directory.join(relative);
        match fs::metadata(&path) {
            Ok(metadata) => {
                found = Some((path, metadata));
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                missing.get_or_insert(path);
            }
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    let Some((path, metadata)) = found else {
        let missing = missing.unwrap_or_default();
        let problem = "there is no file";
        let remedy = "copy the model again with all its files";
        return Err(refuse(&format!("{problem} {}; {remedy}", missing.display())));
    };
    if !metadata.is_file() {
        return Err(refuse("it is not a file; copy the model again with all its files"));
    }
    check_extent(tensor, metadata.len()).map_err(refuse)?;
    Ok(path)
}

/// Whether a file of so many bytes holds the tensor.
fn check_extent(tensor: &TensorProto, bytes: u64) -> Result<(), &'static str> {
    let number = |key| match entry(tensor, key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| "its offset or length is no number")
        }
    };
    let offset = number("offset")?.unwrap_or(0);
    let needed = tensor::element(tensor)
        .zip(tensor::element_count(&tensor.dims))
        .and_then(|(element, count)| tensor::raw_len(element, count))
        .ok_or("its type or dimensions cannot be stored outside")? as u64;
    let length = number("length")?.unwrap_or(needed);
    let end = offset.checked_add(length.max(needed));
    if length != needed || end.is_none_or(|end| end > bytes) {
        return Err(
            "the file does not hold as many bytes as the tensor needs; copy the model again with all its files",
        );
    }
    Ok(())
}

/// The files that hold the given tensors, each checked against its tensors.
///
/// # Errors
/// [`Error::External`] for a path outside the model's directories, a missing file or data outside
/// the file, [`Error::Read`] for a file that cannot be read.
pub(crate) fn files<'a>(
    tensors: impl IntoIterator<Item = &'a TensorProto>,
    directories: &[PathBuf],
) -> Result<Files, Error> {
    let mut files = Files::new();
    for tensor in tensors {
        if tensor::is_external(tensor) {
            files.insert(location(tensor), locate(tensor, directories)?);
        }
    }
    Ok(files)
}

/// Refuses external tensors in a model that came without a directory.
pub(crate) fn refuse<'a>(tensors: impl IntoIterator<Item = &'a TensorProto>) -> Result<(), Error> {
    match tensors.into_iter().find(|t| tensor::is_external(t)) {
        None => Ok(()),
        Some(tensor) => Err(Error::External {
            name: tensor.name().to_owned(),
            location: location(tensor),
            problem: "this model came without its directory; load it from its file, or save it \
                      with its weights inside"
                .to_owned(),
        }),
    }
}

/// Names external tensors by where their files really are, below one directory, which is returned.
/// Engines read no file that a link leads out of the directory they are given.
///
/// # Errors
/// A file is gone, or its path is not UTF-8.
pub(crate) fn name_real_files(model: &mut ModelProto, files: &Files) -> io::Result<PathBuf> {
    let real = |(name, path): (&String, &PathBuf)| Ok((name.clone(), fs::canonicalize(path)?));
    let real: Files = files.iter().map(real).collect::<io::Result<_>>()?;
    let mut root = PathBuf::new();
    for (at, path) in real.values().enumerate() {
        let parent = path.parent().unwrap_or(path);
        let same = |(ours, theirs): &(Component<'_>, Component<'_>)| ours == theirs;
        root = match at {
            0 => parent.to_owned(),
            _ => root.components().zip(parent.components()).take_while(same).map(|c| c.0).collect(),
        };
    }
    let mut names = BTreeMap::new();
    for (name, path) in &real {
        let below = path.strip_prefix(&root).ok().and_then(Path::to_str);
        let not_text = || io::Error::new(ErrorKind::InvalidData, "its path is not valid UTF-8");
        names.insert(name.as_str(), below.ok_or_else(not_text)?);
    }
    each_tensor(model, &mut |tensor| {
        if !tensor::is_external(tensor) {
            return;
        }
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key() == "location") {
            if let Some(name) = names.get(entry.value()) {
                entry.value = Some((*name).to_owned());
            }
        }
    });
    Ok(root)
}

/// Every tensor that may be stored outside: initializers and attributes, also of graphs within. The
/// depth is bounded, because the decoder refuses deep nesting.
fn each_tensor(model: &mut ModelProto, change: &mut dyn FnMut(&mut TensorProto)) {
    if let Some(graph) = &mut model.graph {
        in_graph(graph, change);
    }
    for function in &mut model.functions {
        in_nodes(&mut function.node, change);
        in_attributes(&mut function.attribute_proto, change);
    }
}

fn in_graph(graph: &mut GraphProto, change: &mut dyn FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *change);
    for sparse in &mut graph.sparse_initializer {
        sparse.values.iter_mut().chain(&mut sparse.indices).for_each(&mut *change);
    }
    in_nodes(&mut graph.node, change);
}

fn in_nodes(nodes: &mut [NodeProto], change: &mut dyn FnMut(&mut TensorProto)) {
    for node in nodes {
        in_attributes(&mut node.attribute, change);
    }
}

fn in_attributes(attributes: &mut [AttributeProto], change: &mut dyn FnMut(&mut TensorProto)) {
    for attribute in attributes {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(&mut *change);
        for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
            sparse.values.iter_mut().chain(&mut sparse.indices).for_each(&mut *change);
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            in_graph(graph, change);
        }
    }
}
