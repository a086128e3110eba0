//! What the loader of models says to frontends: what is served right now.

use crate::lanes::ModelLanes;
use crate::tensor::Signature;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use symphony_core::{Class, ModelId, Objective, Profile};

/// One model version that takes requests.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// The scheduler's name for it.
    pub id: ModelId,
    /// Name in the repository.
    pub name: String,
    /// Version in the repository, such as `1`.
    pub version: String,
    /// What it takes and gives.
    pub signature: Signature,
    /// Its latency objective: promised, or best effort.
    pub objective: Objective,
    /// Largest batch in rows, hence the largest request.
    pub rows_max: u32,
    /// Bound on its queued requests.
    pub queue_max: u32,
    /// The class of requests that ask for none.
    pub class: Class,
    /// The engine that runs it, such as `onnxruntime`.
    pub engine: String,
    /// The platform name that clients know, such as `onnxruntime_onnx`.
    pub platform: String,
    /// Planned execution time by batch size, of the largest requests.
    pub profile: Profile,
    /// What its settings say beside this, as the bytes of Triton's `ModelConfig` message.
    pub configuration: Bytes,
    /// Its lanes.
    pub lanes: Arc<ModelLanes>,
}

/// Where a model of the repository stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelState {
    /// Being loaded, profiled and warmed up.
    Loading,
    /// Serving.
    Ready,
    /// Not serving; the reason, empty when it was never asked for.
    Unavailable(String),
}

/// One line of the repository index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Model name.
    pub name: String,
    /// Version; empty when none could be read.
    pub version: String,
    /// Where it stands.
    pub state: ModelState,
}

/// What the server does with requests that arrive. It only ever moves down this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Intake {
    /// Requests are served.
    #[default]
    Open,
    /// The server has said that it will shut down, so that load balancers send requests elsewhere:
    /// it is not ready any more. Requests that still arrive are served.
    Leaving,
    /// The server shuts down: requests that arrive are refused.
    Closed,
}
