//! What is served, as the scheduler's process tells it to frontends.

use super::{IndexEntry, Intake, ServedModel, serde_bytes};
use crate::lanes::{LanesImage, ModelLanes, NoLanes};
use crate::tensor::Signature;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use symphony_core::{Class, ModelId, Objective, Profile};

/// The catalog as a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogImage {
    /// The repository was read: a model that is not in the index is none.
    pub known: bool,
    /// Every start-up model is loaded.
    pub ready: bool,
    /// What is done with requests that arrive.
    pub intake: Intake,
    /// The repository index.
    pub index: Vec<IndexEntry>,
    /// Every version that takes requests.
    pub models: Vec<ServedImage>,
}

/// One served version as a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedImage {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: String,
    /// What it takes and gives.
    pub signature: Signature,
    /// Its latency objective.
    pub objective: Objective,
    /// Largest batch in rows.
    pub rows_max: u32,
    /// Bound on its queued requests.
    pub queue_max: u32,
    /// The class of requests that ask for none.
    pub class: Class,
    /// The engine that runs it.
    pub engine: String,
    /// The platform name that clients know.
    pub platform: String,
    /// Planned execution time by batch size, of the largest requests.
    pub profile: Profile,
    /// What its settings say beside this, as the bytes of Triton's `ModelConfig` message.
    #[serde(with = "serde_bytes")]
    pub configuration: Bytes,
    /// Its lanes.
    pub lanes: LanesImage,
}

impl ServedImage {
    /// The value of a served model.
    #[must_use]
    pub fn of(model: &ServedModel) -> ServedImage {
        ServedImage {
            name: model.name.clone(),
            version: model.version.clone(),
            signature: model.signature.clone(),
            objective: model.objective,
            rows_max: model.rows_max,
            queue_max: model.queue_max,
            class: model.class,
            engine: model.engine.clone(),
            platform: model.platform.clone(),
            profile: model.profile.clone(),
            configuration: model.configuration.clone(),
            lanes: model.lanes.image(),
        }
    }

    /// The scheduler's name for the model; `None` for lanes without one.
    #[must_use]
    pub fn id(&self) -> Option<ModelId> {
        self.lanes.ids.first().copied()
    }

    /// The served model that this is the value of. Where `known` is the same model, its lanes stay, so
    /// that requests which are counted in them stay counted, and are brought up to date in place.
    ///
    /// # Errors
    /// The lanes are none.
    pub fn build(&self, known: Option<&ServedModel>) -> Result<Arc<ServedModel>, NoLanes> {
        let id = self.id().ok_or(NoLanes::Names)?;
        let known = known.filter(|known| known.id == id && known.lanes.update(&self.lanes));
        let lanes = match known {
            Some(known) => Arc::clone(&known.lanes),
            None => Arc::new(ModelLanes::of_image(&self.lanes)?),
        };
        Ok(Arc::new(ServedModel {
            id,
            name: self.name.clone(),
            version: self.version.clone(),
            signature: self.signature.clone(),
            objective: self.objective,
            rows_max: self.rows_max,
            queue_max: self.queue_max,
            class: self.class,
            engine: self.engine.clone(),
            platform: self.platform.clone(),
            profile: self.profile.clone(),
            configuration: self.configuration.clone(),
            lanes,
        }))
    }
}
