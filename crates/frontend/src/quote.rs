//! How much of what a client sent is repeated in an error: enough to find it, never all of it.

/// Longest text of a client that an error repeats, in bytes.
const BRIEF_MAX: usize = 48;

/// Most dimensions of a shape that an error repeats.
const DIMENSIONS_MAX: usize = 8;

/// The beginning of a text that a client sent, short enough for a message.
pub(crate) fn brief(text: &str) -> String {
    let end = text.floor_char_boundary(BRIEF_MAX + 4);
    shortened(text[..end].to_owned(), BRIEF_MAX)
}

/// A text, or its beginning, of at most so many bytes.
pub(crate) fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push_str("...");
    }
    text
}

/// A shape that a client sent, or its beginning.
pub(crate) fn shape(shape: &[i64]) -> String {
    match shape.get(..DIMENSIONS_MAX) {
        Some(start) if shape.len() > DIMENSIONS_MAX => {
            format!("{start:?} and {} dimensions more", shape.len() - DIMENSIONS_MAX)
        }
        _ => format!("{shape:?}"),
    }
}
