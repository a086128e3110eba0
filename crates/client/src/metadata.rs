//! What a server says of a model's inputs.

use crate::asking::AskedServer;
use crate::payload::route;
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::collections::BTreeMap;
use symphony_wire::tensor::DataType;

/// What a request to a model has to look like.
#[derive(Clone, Debug)]
pub(crate) struct ModelInputs {
    pub(crate) inputs: Vec<InputInfo>,
    /// The largest size of an open dimension, by its name, where the server says it.
    pub(crate) largest: BTreeMap<String, i64>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputInfo {
    pub(crate) name: String,
    pub(crate) datatype: DataType,
    pub(crate) shape: Vec<Dimension>,
    /// Whether a request may leave it out.
    pub(crate) is_optional: bool,
}

/// One dimension of an input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Dimension {
    /// Its size; negative where it is open and has no name.
    Size(i64),
    /// An open one, by its name; `batch` counts rows.
    Named(String),
}

/// The name of the dimension that counts rows.
pub(crate) const BATCH: &str = "batch";

impl Dimension {
    /// The size that it has to have.
    pub(crate) fn fixed(&self) -> Option<i64> {
        match self {
            Dimension::Size(size) if *size >= 0 => Some(*size),
            _ => None,
        }
    }
}

/// The metadata of the open protocol.
#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<TensorMetadata>,
}

#[derive(Deserialize)]
struct TensorMetadata {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// What this server lists of its models beyond the protocol.
#[derive(Deserialize)]
struct Listing {
    models: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    name: String,
    version: String,
    #[serde(default)]
    inputs: BTreeMap<String, Vec<Dimension>>,
    #[serde(default)]
    optional: Vec<String>,
    #[serde(default)]
    dimensions: BTreeMap<String, i64>,
}

/// What a model takes. Names of open dimensions are known of servers that list them.
///
/// # Errors
/// The model is not served, or the server does not say what it takes.
pub(crate) async fn inputs(
    server: &AskedServer,
    model: &str,
    version: &str,
) -> Result<ModelInputs> {
    let metadata: Metadata = server.get_known(&route(model, version)).await?;
    // A server of another make has no such list, or one that says other things.
    let listing = server.get::<Listing>("/v2/models").await.ok().flatten();
    let listed = listing.into_iter().flat_map(|listing| listing.models);
    let mut listed = listed
        .filter(|listed| listed.name == model && (version.is_empty() || listed.version == version));
    let listed = listed.find(|listed| !listed.inputs.is_empty());
    let (mut names, optional, largest) = listed
        .map(|listed| (listed.inputs, listed.optional, listed.dimensions))
        .unwrap_or_default();
    let input = |tensor: TensorMetadata| {
        let named = names.remove(&tensor.name);
        let is_optional = optional.contains(&tensor.name);
        input(tensor, named, is_optional)
    };
    let inputs = metadata.inputs.into_iter().map(input).collect::<Result<_>>()?;
    Ok(ModelInputs { inputs, largest })
}

fn input(
    tensor: TensorMetadata,
    named: Option<Vec<Dimension>>,
    is_optional: bool,
) -> Result<InputInfo> {
    let datatype = tensor
        .datatype
        .parse()
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("what the server says of input {:?}", tensor.name))?;
    let named = named.filter(|named| named.len() == tensor.shape.len());
    let shape = named.unwrap_or_else(|| unnamed(&tensor.shape));
    Ok(InputInfo { name: tensor.name, datatype, shape, is_optional })
}

/// The dimensions of a server that does not name them: an open first one counts rows.
fn unnamed(shape: &[i64]) -> Vec<Dimension> {
    let dimension = |(axis, &size): (usize, &i64)| match axis {
        0 if size < 0 => Dimension::Named(BATCH.to_owned()),
        _ => Dimension::Size(size),
    };
    shape.iter().enumerate().map(dimension).collect()
}
