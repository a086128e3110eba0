//! Reads a configuration from protobuf's text format.

use crate::{MODEL_CONFIG, proto};
use miette::Diagnostic;
use prost_reflect::DynamicMessage;

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads a configuration.
///
/// # Errors
/// Where the text is not the text format, or says something that a configuration does not have.
pub fn parse(text: &str) -> Result<proto::ModelConfig, TextError> {
    let spelled = Spelled::of(text);
    let message = DynamicMessage::parse_text_format(MODEL_CONFIG.clone(), &spelled.text);
    let message = message.map_err(|error| {
        let label = error.labels().and_then(|mut labels| labels.next());
        let at = label.map_or(text.len(), |label| spelled.original(label.offset()));
        let (line, column) = position(text, at);
        TextError { line, column, problem: error.to_string() }
    })?;
    Ok(message.transcode_to().expect("both are made of one description"))
}

/// The line and the column of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[start..].chars().count() + 1)
}

/// A text in which a colon stands between the name of a field and its list. The format lets it be
/// left out before a list of messages, and most configurations do (`input [ { … } ]`); the parser
/// asks for it.
struct Spelled {
    text: String,
    /// Where colons were added, in the new text, ascending.
    added: Vec<usize>,
}

impl Spelled {
    fn of(text: &str) -> Spelled {
        let mut spelled = Spelled { text: String::with_capacity(text.len()), added: Vec::new() };
        let mut rest = text;
        // Where a colon would be added if a list came next: behind a name.
        let mut behind_name = None;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' | '\'' => string_length(rest, first),
                _ if is_word(first) => rest.find(|char| !is_word(char)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            let is_token = first != '#' && !first.is_ascii_whitespace();
            if is_token && let Some(at) = behind_name.take().filter(|_| first == '[') {
                spelled.add(at);
            }
            let (token, behind) = rest.split_at(length);
            spelled.text.push_str(token);
            if is_word(first) && !first.is_ascii_digit() {
                behind_name = Some(spelled.text.len());
            }
            rest = behind;
        }
        spelled
    }

    fn add(&mut self, at: usize) {
        self.text.insert(at, ':');
        self.added.push(at);
    }

    /// Where a byte of the new text stands in the original one.
    fn original(&self, at: usize) -> usize {
        at - self.added.partition_point(|added| *added < at)
    }
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The length of the string at the beginning of a text, with its quotes. One that does not end on
/// its line is as long as the quote: the parser says what is wrong.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            '\n' => break,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    quote.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// What a text gives, as the messages' own JSON without fields that are not set, or the error.
    fn shown(text: &str) -> String {
        match parse(text) {
            Err(error) => format!("{}:{}: {error}", error.line, error.column),
            Ok(config) => {
                let inputs =
                    config.input.iter().map(|input| format!("{} {:?}", input.name, input.dims));
                let inputs: Vec<_> = inputs.collect();
                format!("{:?} {:?} {inputs:?}", config.name, config.max_batch_size)
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
    fn check(texts: &[&str], expected: Expect) {
        let lines: String = texts.iter().map(|text| shown(text) + "\n").collect();
        expected.assert_eq(&lines);
    }

    #[test]
    fn every_spelling_of_the_format_is_read() {
        check(
            &[
                "",
                "# a comment [\n",
                "name: 'm' # [\nmax_batch_size: 0",
                r#"input [ { name: "x" dims: [ -1, 0x10 ] }, { name: "y" dims: 2 dims: 3 } ]"#,
                "input: [ { name: 'x', dims: [1] }; ]",
                "input # here [\n [ { name: 'a' 'b' dims [1] } ]",
                "input { name: 'x [ \\' [' } input < name: 'y' >",
                "name: \"é\" input[{name: 'x'}]",
            ],
            expect![[r#"
                "" None []
                "" None []
                "m" Some(0) []
                "" None ["x [-1, 16]", "y [2, 3]"]
                1:34: expected ',' or ']', but found ';'
                "" None ["ab [1]"]
                "" None ["x [ ' [ []", "y []"]
                "é" None ["x []"]
            "#]],
        );
    }

    #[test]
    fn errors_have_a_place() {
        check(
            &[
                "name: 'm'\n  max_bach_size: 8",
                "name: 'm'\nname: 'n'",
                "input [ { name: 'é' dims: [ one ] } ]",
                "input[{data_type: TYPE_FLOAT}]",
                "input [ { name: \"x }\n ]",
                "max_batch_size: 99999999999",
                "max_batch_size: 3x",
                "input [\n  { name: 'x'",
                "dynamic_batching { } sequence_batching { }",
                "= 3",
                "name: '\\xff'",
            ],
            expect![[r#"
                2:3: field 'max_bach_size' not found for message 'inference.ModelConfig'
                2:7: 'name' is already set
                1:29: expected an integer, but found 'one'
                1:19: value 'TYPE_FLOAT' was not found for enum 'inference.DataType'
                1:21: invalid string character
                1:17: expected value to be a signed 32-bit integer, but the value 99999999999 is out of range
                1:17: whitespace is required between an integer literal and an identifier
                2:14: expected '}' or a field name, but reached end of input
                1:40: a value is already set for oneof 'scheduling_choice'
                1:1: invalid token
                1:7: string is not valid utf-8
            "#]],
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn pieces_of_the_format_in_any_order_are_read_or_refused(
            pieces in proptest::collection::vec(prop_oneof![
                Just("input"), Just("dims"), Just("max_batch_size"), Just("dynamic_batching"),
                Just("["), Just("]"), Just("{"), Just("}"), Just(":"), Just(","), Just("-1"),
                Just("'x"), Just("\""), Just("\\"), Just("#"), Just("\n"), Just("0x"), Just("9e9"),
                Just("TYPE_FP32"), Just("é"), Just("name: 'm' "), Just("<"), Just(">"), Just(" "),
            ], 0..40)
        ) {
            let _ = parse(&pieces.concat());
        }

        /// Added colons change neither what is read nor where errors stand.
        #[test]
        fn places_are_those_of_the_text(text in r#"([a-z]{0,3}[ \n"'\[#é:]){0,20}"#) {
            let spelled = Spelled::of(&text);
            let mut without = spelled.text.clone();
            for at in spelled.added.iter().rev() {
                prop_assert_eq!(without.remove(*at), ':');
            }
            prop_assert_eq!(&without, &text);
            for (at, char) in spelled.text.char_indices() {
                if !spelled.added.contains(&at) {
                    prop_assert_eq!(text[spelled.original(at)..].chars().next(), Some(char));
                }
            }
        }
    }
}
