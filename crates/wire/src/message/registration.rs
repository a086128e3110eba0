//! What a backend says of itself when it joins a pool.

use super::serde_bytes;
use super::version::VersionKey;
use crate::tensor::Signature;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use symphony_core::{BatchId, Class, Objective, Profile, SizedProfile, Span};

/// A backend, in one of its lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its life: another number each time it starts.
    pub life: u64,
    /// Its accelerators, by the backend's own numbers.
    pub accelerators: Vec<AcceleratorFacts>,
    /// What it runs models with.
    pub engines: Vec<EngineFacts>,
    /// The model versions that it has loaded.
    pub loaded: Vec<LoadedFacts>,
    /// The batches that its accelerators have and have not ended.
    pub running: Vec<RunningBatch>,
}

/// One accelerator of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorFacts {
    /// What it is, such as `cpu`.
    pub kind: String,
    /// Its memory in bytes; zero where that is not known.
    pub memory: u64,
}

/// One engine of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// Its name, such as `onnxruntime`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A batch that an accelerator has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningBatch {
    /// Of the backend's accelerators, the number of the one that has it.
    pub accelerator: u32,
    /// Of its plan.
    pub epoch: u64,
    /// Which batch.
    pub batch: BatchId,
    /// For how long it still takes.
    pub left: Span,
}

/// A model version that a backend has loaded: what the scheduler and frontends have to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedFacts {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: u64,
    /// What its files are: equal for equal files.
    pub fingerprint: String,
    /// What it takes and gives.
    pub signature: Signature,
    /// Its latency objective: promised, or best effort.
    pub objective: Objective,
    /// Largest batch in rows.
    pub rows_max: u32,
    /// Bound on its queued requests.
    pub queue_max: u32,
    /// How much a lost request counts beside other models'.
    pub loss_weight: f64,
    /// The class of requests that ask for none.
    pub class: Class,
    /// The engine that runs it.
    pub engine: String,
    /// The platform name that clients know.
    pub platform: String,
    /// What batches cost by rows and size, with their spread.
    pub costs: SizedProfile,
    /// What batches of the largest requests are planned to take.
    pub plan: Profile,
    /// Where the profile is from.
    pub origin: ProfileOrigin,
    /// What its settings say beside this, as the bytes of Triton's `ModelConfig` message.
    #[serde(with = "serde_bytes")]
    pub configuration: Bytes,
}

/// Where a profile comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileOrigin {
    /// Measured just now.
    Measured,
    /// Measured earlier and checked now.
    Cached,
    /// Not measured: an emulated model takes the time that its configuration gives.
    Known,
}

impl LoadedFacts {
    /// The version.
    #[must_use]
    pub fn key(&self) -> VersionKey {
        VersionKey {
            name: self.name.clone(),
            version: self.version,
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// What batches cost by size, of which there is at least one for this signature.
    #[must_use]
    pub fn costs_by_size(&self) -> SizedProfile {
        if self.costs.is_fixed() {
            let size = self.signature.size(&self.signature.sizes_max());
            return SizedProfile::fixed(size, self.plan.clone());
        }
        self.costs.clone()
    }
}
