//! What can be a frame.

use super::error::DecodeError;
use super::reading::Body;
use super::writing::FrameWriter;

/// A message that a link can carry.
pub trait Frame: Sized + Send + 'static {
    /// Writes the message as one frame.
    fn encode(&self, to: &mut FrameWriter<'_>);

    /// Reads the message back.
    ///
    /// # Errors
    /// The kind is none of this direction's, or the body is none of the kind's.
    fn decode(body: Body<'_>) -> Result<Self, DecodeError>;
}
