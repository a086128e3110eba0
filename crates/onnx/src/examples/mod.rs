//! Example models with real architectures and generated weights, for trying and measuring a server
//! without a download. Their results are meaningless, but their cost is real.

mod encoder;
mod layers;
mod mobilenet_v2;
mod resnet50;
mod store;
mod wide_dense;

pub use encoder::{Encoder, encoder};
pub use mobilenet_v2::mobilenet_v2;
pub use resnet50::resnet50;
pub use store::materialize;
pub use wide_dense::{WideDense, wide_dense};

use crate::error::Error;
use crate::model::OnnxModel;

/// A bundled example that is generated on first use.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// The name that `generate` in a `model.toml` gives.
    pub name: &'static str,
    /// A description of one line.
    pub description: &'static str,
    /// A `model.toml` to serve it with.
    pub model_toml: &'static str,
    build: fn() -> Result<OnnxModel, Error>,
}

impl Example {
    /// Builds the model in memory.
    ///
    /// # Errors
    /// None: a test builds every example.
    pub fn build(&self) -> Result<OnnxModel, Error> {
        (self.build)()
    }
}

/// Every bundled example.
pub const CATALOGUE: &[Example] = &[
    Example {
        name: "mobilenet_v2",
        description: "MobileNetV2 on 224x224 images: 14 MB, many small convolutions",
        model_toml: "slo_ms = 150.0\nmax_batch = 2\n",
        build: || mobilenet_v2(224, 1000),
    },
    Example {
        name: "resnet50",
        description: "ResNet-50 on 224x224 images: 102 MB, large convolutions",
        model_toml: "slo_ms = 400.0\nmax_batch = 4\n",
        build: || resnet50(224, 1000),
    },
    Example {
        name: "encoder",
        description: "transformer encoder, 6 layers of hidden size 384: 91 MB, token sequences",
        model_toml: "slo_ms = 200.0\nmax_batch = 8\n\
                     shape = { input_ids = [128], attention_mask = [128] }\n",
        build: || encoder(&Encoder::default()),
    },
    Example {
        name: "wide_dense",
        description: "recommender-like, 4 wide dense layers: 206 MB, batching pays on a CPU",
        model_toml: "slo_ms = 100.0\nmax_batch = 32\n",
        build: || wide_dense(&WideDense::default()),
    },
    Example {
        name: "wider_dense",
        description: "the same twice as wide: 815 MB, slow enough to plan for on a CPU",
        model_toml: "slo_ms = 250.0\nmax_batch = 64\n",
        build: || wide_dense(&WideDense::WIDER),
    },
];

/// The example of this name.
///
/// # Errors
/// [`Error::UnknownExample`] with the names that exist.
pub fn find(name: &str) -> Result<&'static Example, Error> {
    CATALOGUE.iter().find(|example| example.name == name).ok_or_else(|| Error::UnknownExample {
        name: name.to_owned(),
        known: CATALOGUE.iter().map(|example| example.name).collect(),
    })
}
