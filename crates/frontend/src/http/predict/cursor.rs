//! A place in a text that is known to be JSON, but for numbers that are not finite.

use crate::http::elements::text_length;

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// An array begins.
    Array,
    /// An object begins.
    Object,
    /// The array or object ends.
    End,
    /// A string, with its quotes.
    Text(&'a str),
    /// A number, `true`, `false` or `null`.
    Plain(&'a str),
}

/// The place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { rest: text }
    }

    /// What stands next; the cursor passes it. A text that ends is an end.
    pub(super) fn next(&mut self) -> Next<'a> {
        let separator = |letter: char| letter.is_ascii_whitespace() || ",:".contains(letter);
        self.rest = self.rest.trim_start_matches(separator);
        let (length, next): (usize, fn(&'a str) -> Next<'a>) = match self.rest.as_bytes().first() {
            None => return Next::End,
            Some(b'[') => (1, |_| Next::Array),
            Some(b'{') => (1, |_| Next::Object),
            Some(b']' | b'}') => (1, |_| Next::End),
            Some(b'"') => (text_length(self.rest), Next::Text),
            Some(_) => (plain_length(self.rest), Next::Plain),
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        next(text)
    }
}

fn plain_length(text: &str) -> usize {
    let is_end = |letter: char| letter.is_ascii_whitespace() || ",:[]{}\"".contains(letter);
    // The first letter is none of them, so that the cursor always moves.
    text.find(is_end).unwrap_or(text.len())
}
