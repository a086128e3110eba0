//! How far the load of a model is.

/// What a load is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Waiting,
    /// Its files are read and described.
    Reading,
    /// An engine, of this name, optimises its graph; then it is tried out.
    Preparing(&'static str),
    /// It is measured.
    Measuring,
    /// It serves.
    Serving,
    /// It cannot be loaded.
    Failed,
}
