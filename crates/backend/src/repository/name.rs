//! The names that models can have.

/// Longest name of a model.
pub const NAME_MAX: usize = 128;

/// Whether a text can be a model's name, which is also a directory's and part of a URL.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
