//! The backends of a pool, as the owner of its models sees them: where versions of models are loaded,
//! get the identities that plans call them by, and are given up.

use std::fmt;
use std::time::Instant;
use symphony_backend::loader::{LoadError, LoadedFiles, Stage};
use symphony_backend::repository::ModelSource;
use symphony_backend::worker::Unreachable;
use symphony_core::{ModelId, Profile, SizedProfile};
use symphony_wire::message::LoadedFacts;

/// A version that is loaded on the accelerators.
#[derive(Clone, Debug)]
pub struct LoadedVersion {
    /// As every backend describes it.
    pub facts: LoadedFacts,
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
