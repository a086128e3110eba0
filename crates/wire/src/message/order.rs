//! What the scheduler orders of a backend, and what comes of it.

use super::LoadedFacts;
use super::version::VersionKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use symphony_core::ModelId;

/// Something to do with models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Load a version of a model on every accelerator, without taking batches for it yet. Done with
    /// [`OrderDone::Loaded`].
    Load {
        /// Where its files are.
        source: Source,
        /// Name in the repository.
        name: String,
        /// Version in the repository.
        version: u64,
    },
    /// Take batches for a loaded version under these names from now on. Done with
    /// [`OrderDone::Bound`].
    Bind {
        /// The version, as the backend calls it.
        version: VersionKey,
        /// The name of each of its lanes; the first is the model's.
        lanes: Vec<ModelId>,
    },
    /// Take no more batches for a model, and free what it holds. Done with [`OrderDone::Unloaded`].
    Unload {
        /// The model, by its first lane.
        model: ModelId,
    },
    /// Free a loaded version that no plan of this scheduler names. Done with [`OrderDone::Unloaded`].
    Forget {
        /// The version, as the backend calls it.
        version: VersionKey,
    },
}

/// Where a backend gets the files of a model from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The model's directory, which the backend sees at this path.
    Shared {
        /// The directory of the repository.
        path: PathBuf,
    },
    /// The backend asks for what it lacks of them by [`FileWanted`], with the order's number.
    Streamed {
        /// Every file.
        files: Vec<AnnouncedFile>,
    },
}

/// A file of a model that is streamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncedFile {
    /// Where it belongs in the model's directory, such as `1/model.onnx`. It comes from another
    /// process: whoever writes it has to hold it inside that directory.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its contents.
    pub sha256: [u8; 32],
}

/// A piece of a file that an order announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Of the order.
    pub number: u64,
    /// Which of its files.
    pub file: u32,
    /// Where the piece belongs in the file.
    pub offset: u64,
    /// Its bytes, at most [`FilePart::BYTES_MAX`].
    pub bytes: Bytes,
}

impl FilePart {
    /// The longest piece that is sent: other messages wait for no more than this.
    pub const BYTES_MAX: u32 = 256 << 10;
}

/// What a backend asks for of a file that an order announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileWanted {
    /// Of the order.
    pub number: u64,
    /// Which of its files.
    pub file: u32,
    /// Where the piece begins.
    pub offset: u64,
    /// How many bytes, at most [`FilePart::BYTES_MAX`].
    pub bytes: u32,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderDone {
    /// The version is loaded.
    Loaded(Box<LoadedFacts>),
    /// Batches are taken for it.
    Bound,
    /// It is gone.
    Unloaded,
}
