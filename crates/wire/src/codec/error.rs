//! Why a frame is no message.

/// Why a frame is no message. It names what the frame was to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nobody sends frames of this kind here.
    #[error("a frame of kind {0}, which is none of this link's")]
    Kind(u8),
    /// The header claims more than the link takes.
    #[error("a frame of {claimed} bytes, and the link takes {max} at most")]
    Length {
        /// The bytes that are to follow.
        claimed: usize,
        /// The bound.
        max: usize,
    },
    /// The body ends too early.
    #[error("a frame of kind {kind} whose body ends before its {what}")]
    Short {
        /// The frame's kind.
        kind: u8,
        /// What is missing.
        what: &'static str,
    },
    /// The body goes on after its end.
    #[error("a frame of kind {kind} with {bytes} bytes too many")]
    Long {
        /// The frame's kind.
        kind: u8,
        /// How many.
        bytes: usize,
    },
    /// A number or text means nothing.
    #[error("a frame of kind {kind} with a {what} that there is not")]
    Value {
        /// The frame's kind.
        kind: u8,
        /// What it is of.
        what: &'static str,
    },
    /// A value of serde cannot be read.
    #[error("a frame of kind {kind} that cannot be read: {problem}")]
    Serde {
        /// The frame's kind.
        kind: u8,
        /// What is wrong with it.
        problem: String,
    },
}
