//! The backends of a pool, as the owner of its models sees them: where versions of models are loaded,
//! get the identities that plans call them by, and are given up.

use bytes::Bytes;
use std::fmt;
use std::time::Instant;
use symphony_backend::loader::{LoadError, LoadedFiles, Stage};
use symphony_backend::profiling::ProfileOrigin;
use symphony_backend::repository::ModelSource;
use symphony_backend::worker::Unreachable;
use symphony_core::{Class, ModelId, Objective, Profile, SizedProfile};
use symphony_wire::tensor::Signature;

/// A version that is loaded on the accelerators, as every backend describes it.
#[derive(Clone, Debug)]
pub struct LoadedVersion {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: u64,
    /// The inputs and outputs.
    pub signature: Signature,
    /// The latency objective.
    pub objective: Objective,
    /// The largest batch, in rows.
    pub rows_max: u32,
    /// The most requests that may be queued.
    pub queue_max: u32,
    /// The weight of its dropped requests under overload, relative to other models.
    pub loss_weight: f64,
    /// The class of requests that do not set one.
    pub class: Class,
    /// The engine that runs it.
    pub engine: String,
    /// The platform name that clients see.
    pub platform: String,
    /// How long its batches take.
    pub costs: Costs,
    /// Where the profile comes from.
    pub origin: ProfileOrigin,
    /// What its settings say, as the bytes of Triton's `ModelConfig` message.
    pub configuration: Bytes,
    /// The files it was loaded from. A later load changes nothing while they are current.
    pub files: LoadedFiles,
}

/// How long the batches of a version take.
#[derive(Clone, Debug)]
pub struct Costs {
    /// By the size of the requests.
    pub by_size: SizedProfile,
    /// For requests of the largest size.
    pub plan: Profile,
}

impl Costs {
    /// The costs by size, of which there is at least one for this signature.
    pub(crate) fn sized(&self, signature: &Signature) -> SizedProfile {
        if self.by_size.is_fixed() {
            return SizedProfile::fixed(signature.size(&signature.sizes_max()), self.plan.clone());
        }
        self.by_size.clone()
    }
}

/// The accelerators of this process, or those of backends elsewhere. Its calls wait; they come from
/// the thread that owns the models.
pub trait Backends: fmt::Debug + Send {
    /// A loaded version that nothing serves yet, with whatever is kept for it where it lies.
    type Copies: fmt::Debug + Send;

    /// How many accelerators there are.
    fn accelerators(&self) -> u32;

    /// Begins to load versions that [`load`](Backends::load) will ask for, several at a time.
    fn load_ahead(&mut self, sources: Vec<ModelSource>);

    /// Gives up what was begun and not asked for.
    fn end_loads_ahead(&mut self);

    /// Loads a version.
    ///
    /// # Errors
    /// No backend can, and why.
    fn load(&mut self, source: ModelSource) -> Result<(LoadedVersion, Self::Copies), LoadError>;

    /// Tells what the load of a model is about.
    fn tell(&self, model: &str, stage: Stage);

    /// Waits until accelerators can be told of another model.
    ///
    /// # Errors
    /// One of them cannot be told for too long.
    fn wait_for_room(&mut self) -> Result<(), Unreachable>;

    /// Has accelerators run the plans for these lanes with a version that was loaded; the first lane
    /// has the name of the model.
    ///
    /// # Errors
    /// One of them cannot be told; none runs it.
    fn hand_out(
        &mut self,
        lanes: &[ModelId],
        version: &LoadedVersion,
        copies: Self::Copies,
    ) -> Result<(), Unreachable>;

    /// Has accelerators give models up, and waits until they have, up to a bound.
    fn take_back(&mut self, models: &[ModelId]);

    /// Has accelerators give up what they could not be told to give up before.
    fn take_back_owed(&mut self);

    /// When [`refined`](Backends::refined) has something to do.
    fn refine_at(&self) -> Instant;

    /// The models whose batches take another time than their profile says. May try batches out.
    fn refined(&mut self, now: Instant) -> Vec<(ModelId, Costs)>;
}
