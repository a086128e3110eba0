//! One request per line: `{"time_ms": 12.5, "model": "resnet50", "rows": 2}`.

use super::{TraceError, TraceFault, read_line};
use crate::Arrival;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use symphony_core::{ModelId, Span, Time};

/// Reads a trace line by line, in constant memory. It ends at the first error.
#[derive(Debug)]
pub struct Jsonl<R> {
    path: PathBuf,
    reader: R,
    line: u64,
    text: String,
    models: BTreeMap<String, ModelId>,
    before: Time,
    ended: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    time_ms: f64,
    model: String,
    #[serde(default = "one")]
    rows: u32,
}

fn one() -> u32 {
    1
}

/// A hundred years, which is far below the limit of integer nanoseconds.
const TIME_MS_MAX: f64 = 100.0 * 366.0 * 86_400_000.0;

impl Jsonl<BufReader<File>> {
    /// Opens a trace. `models` are the names in order of number.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, models: &[String]) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|error| TraceError {
            path: path.to_owned(),
            line: 0,
            fault: error.into(),
        })?;
        Ok(Jsonl::new(BufReader::new(file), path, models))
    }
}

impl<R: BufRead> Jsonl<R> {
    /// Reads from `reader`. `path` is for messages, and `models` are the names in order of number.
    pub fn new(reader: R, path: &Path, models: &[String]) -> Jsonl<R> {
        Jsonl {
            path: path.to_owned(),
            reader,
            line: 0,
            text: String::new(),
            models: models.iter().cloned().zip((0..).map(ModelId::first)).collect(),
            before: Time::ZERO,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<Arrival>, TraceFault> {
        loop {
            self.line += 1;
            if !read_line(&mut self.reader, &mut self.text)? {
                return Ok(None);
            }
            if !self.text.is_empty() {
                return self.parse().map(Some);
            }
        }
    }

    fn parse(&mut self) -> Result<Arrival, TraceFault> {
        let JsonLine { time_ms, model, rows } =
            serde_json::from_str(&self.text).map_err(TraceFault::Json)?;
        if !(0.0..=TIME_MS_MAX).contains(&time_ms) {
            return Err(TraceFault::Time { time_ms, max: TIME_MS_MAX });
        }
        let time = Time(Span::from_millis_f64(time_ms).0);
        if time < self.before {
            let before_ms = Span(self.before.0).as_millis_f64();
            return Err(TraceFault::Order { time_ms, before_ms });
        }
        let Some(&id) = self.models.get(&model) else {
            let known = self.models.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(TraceFault::Model { model, known });
        };
        if rows == 0 {
            return Err(TraceFault::Rows);
        }
        self.before = time;
        Ok(Arrival { time, model: id, rows })
    }
}

impl<R: BufRead> Iterator for Jsonl<R> {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        let (path, line) = (&self.path, self.line);
        read.map_err(|fault| TraceError { path: path.clone(), line, fault }).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    fn check(trace: &str, expected: &Expect) {
        let models = ["a", "b"].map(String::from);
        let mut text = String::new();
        for line in Jsonl::new(trace.as_bytes(), Path::new("t.jsonl"), &models) {
            let _ = match line {
                Ok(Arrival { time, model, rows }) => {
                    writeln!(text, "{} {} {rows}", time.0, model.slot())
                }
                Err(error) => writeln!(text, "{error}"),
            };
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_trace_is_read_in_order() {
        check(
            "{\"time_ms\":0,\"model\":\"b\"}\n\n{\"time_ms\": 1.5, \"model\": \"a\", \"rows\": 4}",
            &expect![[r"
                0 1 1
                1500000 0 4
            "]],
        );
        check("", &expect![""]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = "{\"time_ms\":2,\"model\":\"a\"}\n";
        check(
            &format!("{good}{{\"time_ms\":1,\"model\":\"a\"}}\n{good}"),
            &expect![[r"
                2000000 0 1
                t.jsonl:2: the time 1 ms comes after 2 ms: sort the trace by time
            "]],
        );
        check(
            &format!("{good}{{\"time_ms\":3,\"mo"),
            &expect![[r#"
                2000000 0 1
                t.jsonl:2: EOF while parsing a string at line 1 column 16; each line must be complete and look like {"time_ms": 12.5, "model": "resnet50"}, with "rows" if it is not 1
            "#]],
        );
        for (line, part) in [
            ("{\"time_ms\":1e30,\"model\":\"a\"}", "it must lie between 0 and"),
            ("{\"time_ms\":1e999,\"model\":\"a\"}", "number out of range"),
            ("{\"time_ms\":-1,\"model\":\"a\"}", "it must lie between 0 and"),
            ("{\"time_ms\":1,\"model\":\"c\"}", "unknown model `c`: the scenario has a, b"),
            ("{\"time_ms\":1,\"model\":\"a\",\"rows\":0}", "give it at least 1"),
            ("{\"time\":1,\"model\":\"a\"}", "unknown field `time`"),
        ] {
            let models = ["a", "b"].map(String::from);
            let mut reader = Jsonl::new(line.as_bytes(), Path::new("t.jsonl"), &models);
            let error = reader.next().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("t.jsonl:1: ") && error.contains(part), "{error}");
            assert!(reader.next().is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let models = ["a"].map(String::from);
            for whole in [bytes.clone(), [b"{\"time_ms\":", &bytes[..], b",\"model\":\"a\"}"].concat()] {
                let reader = Jsonl::new(&whole[..], Path::new("t.jsonl"), &models);
                let lines: Vec<_> = reader.collect();
                proptest::prop_assert!(lines.iter().rev().skip(1).all(Result::is_ok));
            }
        }
    }
}
