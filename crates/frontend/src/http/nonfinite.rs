//! `NaN`, `Infinity` and `-Infinity` in the data of inputs. They are not JSON, but Python's JSON
//! writers send them.
//!
//! Only a request that cannot be read as JSON comes here, so that no other pays for it. Each of
//! these words is replaced by a zero and blanks of the same length; the rest of the request is then
//! read as usual, and elements are read where they stand in the text that was sent.

use crate::error::InferError;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The words, in the form that Python writes and reads.
pub(super) const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// A request's text as it was sent, and the same text as JSON.
#[derive(Debug)]
pub(super) struct JsonText<'a> {
    sent: &'a [u8],
    json: Cow<'a, [u8]>,
}

impl<'a> JsonText<'a> {
    /// A text that is hoped to be JSON already.
    pub(super) fn plain(sent: &'a [u8]) -> JsonText<'a> {
        JsonText { sent, json: Cow::Borrowed(sent) }
    }

    /// The text with these words replaced; `None` when it has none.
    ///
    /// # Errors
    /// One of them stands where none can be meant.
    pub(super) fn replaced(sent: &'a [u8]) -> Result<Option<JsonText<'a>>, InferError> {
        let mut json = Vec::new();
        let mut scan = DataScan::default();
        let mut at = 0;
        while at < sent.len() {
            let Some(word) = word_at(sent, at) else {
                at = scan.pass(sent, at);
                continue;
            };
            if !scan.in_data {
                return Err(misplaced(word, at));
            }
            at = blank(&mut json, sent, at, word);
        }
        Ok((!json.is_empty()).then_some(JsonText { sent, json: Cow::Owned(json) }))
    }

    /// The text with these words replaced wherever they stand outside strings; `None` when it has
    /// none.
    pub(super) fn replaced_anywhere(sent: &'a [u8]) -> Option<JsonText<'a>> {
        let mut json = Vec::new();
        let mut at = 0;
        while at < sent.len() {
            at = match (sent[at], word_at(sent, at)) {
                (b'"', _) => string_end(sent, at),
                (_, Some(word)) => blank(&mut json, sent, at, word),
                (_, None) => at + 1,
            };
        }
        (!json.is_empty()).then_some(JsonText { sent, json: Cow::Owned(json) })
    }

    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// A value of the text as it was sent.
    pub(super) fn as_sent<'b>(&'b self, value: &'b RawValue) -> &'b str {
        let text = value.get();
        if matches!(self.json, Cow::Borrowed(_)) {
            return text;
        }
        let start = text.as_ptr().addr().wrapping_sub(self.json.as_ptr().addr());
        let sent = self.sent.get(start..start.saturating_add(text.len()));
        // Both are the same but for words of ASCII.
        sent.and_then(|sent| std::str::from_utf8(sent).ok()).unwrap_or(text)
    }
}

/// Puts a zero in the place of a word, in a copy that is made when it is needed; the end of the word.
fn blank(json: &mut Vec<u8>, sent: &[u8], at: usize, word: &str) -> usize {
    if json.is_empty() {
        *json = sent.to_vec();
    }
    json[at..at + word.len()].fill(b' ');
    json[at] = b'0';
    at + word.len()
}

fn misplaced(word: &str, at: usize) -> InferError {
    InferError::Invalid(format!(
        "the request is not JSON as the protocol has it: {word} at byte {at}; \
         only the data of FP32 and FP64 inputs may hold NaN, Infinity and -Infinity"
    ))
}

/// The word that stands here by itself.
fn word_at(text: &[u8], at: usize) -> Option<&'static str> {
    let is_inside = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    // Most bytes begin none of them.
    if !matches!(text[at], b'N' | b'I' | b'-') {
        return None;
    }
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    let word = WORDS.into_iter().find(|word| text[at..].starts_with(word.as_bytes()))?;
    (!is_inside(before) && !is_inside(text.get(at + word.len()))).then_some(word)
}

/// Where in a request the scan is: how deep, and whether in the `data` of one of its `inputs`.
#[derive(Default)]
struct DataScan {
    depth: usize,
    in_inputs: bool,
    in_data: bool,
}

/// The depth of the members of the request, and of those of an input.
const REQUEST_DEPTH: usize = 1;
const INPUT_DEPTH: usize = 3;

impl DataScan {
    /// Passes one byte, or one string; returns what comes next.
    fn pass(&mut self, text: &[u8], at: usize) -> usize {
        match text[at] {
            b'"' => {
                let end = string_end(text, at);
                if text[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':') {
                    self.name(&text[at..end]);
                }
                return end;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_data &= self.depth >= INPUT_DEPTH;
            }
            _ => {}
        }
        at + 1
    }

    /// A member of an object begins; its name has its quotes.
    fn name(&mut self, name: &[u8]) {
        match self.depth {
            REQUEST_DEPTH => self.in_inputs = name == b"\"inputs\"",
            INPUT_DEPTH => self.in_data = self.in_inputs && name == b"\"data\"",
            _ => {}
        }
    }
}

/// The end of the string that begins here, both quotes included.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_in_data_are_replaced_and_others_refused() {
        type Case = (&'static str, Result<Option<&'static str>, &'static str>);
        let cases: [Case; 12] = [
            (r#"{"inputs":[{"data":[1,2]}]}"#, Ok(None)),
            (r#"{"inputs":[{"data":"NaN"}]}"#, Ok(None)),
            (r#"{"inputs":[{"data":NaN}]}"#, Ok(Some(r#"{"inputs":[{"data":0  }]}"#))),
            (
                r#"{"inputs" : [{"shape":[1],"data" :[[Infinity], [-Infinity]]}]}"#,
                Ok(Some(r#"{"inputs" : [{"shape":[1],"data" :[[0       ], [0        ]]}]}"#)),
            ),
            (r#"{"id":"\"","inputs":[{"data":[NaN],"shape":[NaN]}]}"#, Err("NaN at byte 44")),
            (r#"{"inputs":[{"data":[1]},{"shape":NaN}]}"#, Err("NaN at byte 33")),
            (r#"{"inputs":[{"name":Infinity}]}"#, Err("Infinity at byte 19")),
            (r#"{"parameters":{"data":-Infinity}}"#, Err("-Infinity at byte 22")),
            (r#"{"outputs":[{"data":NaN}]}"#, Err("NaN at byte 20")),
            (r#"{"inputs":[{"data":[NaNs, -Infinit, xNaN]}]}"#, Ok(None)),
            ("NaN", Err("NaN at byte 0")),
            (r#"{"inputs":[{"data":"#, Ok(None)),
        ];
        for (text, expected) in cases {
            match (JsonText::replaced(text.as_bytes()), expected) {
                (Ok(got), Ok(expected)) => {
                    let got = got.map(|text| String::from_utf8(text.json.into_owned()).unwrap());
                    assert_eq!(got.as_deref(), expected, "{text}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn where_anything_may_be_a_number_words_are_replaced_everywhere_but_in_strings() {
        let text = br#"{"NaN":[NaN,"-Infinity",{"x":-Infinity}]}"#;
        let replaced = JsonText::replaced_anywhere(text).unwrap();
        let expected = r#"{"NaN":[0  ,"-Infinity",{"x":0        }]}"#;
        assert_eq!(std::str::from_utf8(replaced.json()), Ok(expected));
        assert!(JsonText::replaced_anywhere(b"[1, \"NaN\"]").is_none());
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_length(text in r#"[\[\]{}:, "\\]{0,9}(\{"inputs":\[\{"data":)?(NaN|-Infinity|[\[\],"]){0,9}.{0,9}"#) {
            if let Ok(Some(replaced)) = JsonText::replaced(text.as_bytes()) {
                prop_assert_eq!(replaced.json().len(), text.len());
            }
        }
    }
}
