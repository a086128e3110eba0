//! The Azure Functions trace of 2019: `HashOwner,HashApp,HashFunction,Trigger,1,2,…,1440`, one row
//! per function with its invocations in each minute of a day.
//!
//! Functions stand for models by turns, in order of row: so do other systems that replay this
//! trace. Within a minute the invocations fall independently of each other.

use super::{TraceError, TraceFault, read_line};
use crate::Arrival;
use crate::random::Random;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use symphony_core::{ModelId, Time};

/// A trace, folded onto models.
#[derive(Clone, Debug, PartialEq)]
pub struct Azure {
    /// Invocations by minute, then by model.
    counts: Vec<Vec<u64>>,
}

/// Columns before the first minute.
const NAMES: usize = 4;
const MINUTE_NS: u64 = 60_000_000_000;

impl Azure {
    /// Reads a whole file for `models` models, which is at least one. What stays in memory is
    /// one number per model and minute.
    ///
    /// # Errors
    /// The file cannot be read or is not in this layout.
    pub fn open(path: &Path, models: u32) -> Result<Azure, TraceError> {
        let at = |line, fault| TraceError { path: path.to_owned(), line, fault };
        let file = File::open(path).map_err(|error| at(0, error.into()))?;
        Azure::read(BufReader::new(file), models).map_err(|(line, fault)| at(line, fault))
    }

    fn read(mut reader: impl BufRead, models: u32) -> Result<Azure, (u64, TraceFault)> {
        let mut text = String::new();
        read_line(&mut reader, &mut text).map_err(|fault| (1, fault))?;
        let minutes = minutes(&text).ok_or_else(|| {
            let start = text.chars().take(60).collect();
            (1, TraceFault::Header(start))
        })?;
        let mut counts = vec![vec![0; models as usize]; minutes];
        let mut line = 2;
        while read_line(&mut reader, &mut text).map_err(|fault| (line, fault))? {
            let model = (line - 2) % u64::from(models.max(1));
            #[expect(clippy::cast_possible_truncation, reason = "a remainder by a u32")]
            add_row(&text, model as usize, &mut counts).map_err(|fault| (line, fault))?;
            line += 1;
        }
        if counts.iter().flatten().all(|&count| count == 0) {
            return Err((line - 1, TraceFault::Empty));
        }
        Ok(Azure { counts })
    }

    /// Mean requests per second of each model over the whole trace.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        let seconds = 60.0 * self.counts.len() as f64;
        let models = self.counts.first().map_or(0, Vec::len);
        let total = |model: usize| self.counts.iter().map(|minute| minute[model]).sum::<u64>();
        (0..models).map(|model| total(model) as f64 / seconds).collect()
    }

    /// The arrivals, with `scale` times as many requests as the trace has (fractions of a
    /// request by chance).
    #[must_use]
    pub fn arrivals(&self, scale: f64, seed: u64) -> AzureArrivals<'_> {
        let random = Random::new(seed);
        AzureArrivals { trace: self, scale, random, minute: 0, pending: Vec::new() }
    }
}

/// How many minutes the header has; `None` when it is not one.
fn minutes(header: &str) -> Option<usize> {
    let mut columns = header.split(',');
    let names = ["HashOwner", "HashApp", "HashFunction", "Trigger"];
    if !names.iter().all(|name| columns.next() == Some(name)) {
        return None;
    }
    let mut count = 0;
    for column in columns {
        count += 1;
        if column.parse() != Ok(count) {
            return None;
        }
    }
    (count > 0).then_some(count)
}

fn add_row(row: &str, model: usize, counts: &mut [Vec<u64>]) -> Result<(), TraceFault> {
    let expected = NAMES + counts.len();
    let is = row.split(',').count();
    if is != expected {
        return Err(TraceFault::Columns { is, expected });
    }
    for (minute, (text, counts)) in (1..).zip(row.split(',').skip(NAMES).zip(counts)) {
        let count: u32 =
            text.parse().map_err(|_| TraceFault::Count { minute, text: text.to_owned() })?;
        counts[model] += u64::from(count);
    }
    Ok(())
}

/// The arrivals of an [`Azure`] trace, in order of time. Memory holds one minute of them.
#[derive(Clone, Debug)]
pub struct AzureArrivals<'a> {
    trace: &'a Azure,
    scale: f64,
    random: Random,
    minute: u64,
    /// The rest of the minute, last first.
    pending: Vec<Arrival>,
}

impl Iterator for AzureArrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        while self.pending.is_empty() {
            let counts = self.trace.counts.get(usize::try_from(self.minute).ok()?)?;
            self.draw(counts);
            self.minute += 1;
        }
        self.pending.pop()
    }
}

impl AzureArrivals<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    #[expect(clippy::cast_sign_loss, reason = "negative saturates to zero")]
    fn draw(&mut self, counts: &[u64]) {
        for (model, &count) in (0..).map(ModelId).zip(counts) {
            let expected = count as f64 * self.scale;
            let whole = expected.floor();
            let extra = if self.random.uniform() <= expected - whole { 1 } else { 0 };
            for _ in 0..whole as u64 + extra {
                // Uniform up to and including one: from the far end, so that a minute's first
                // moment belongs to it and its last does not.
                let within = (1.0 - self.random.uniform()) * MINUTE_NS as f64;
                let time = Time(self.minute * MINUTE_NS + within as u64);
                self.pending.push(Arrival { time, model, rows: 1 });
            }
        }
        self.pending.sort_by_key(|arrival| std::cmp::Reverse((arrival.time, arrival.model)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n\
                          o1,a1,f1,http,3,0,1\n\
                          o1,a1,f2,queue,0,0,20\n\
                          o2,a2,f3,timer,1,0,1\n";

    #[test]
    fn functions_take_turns_as_models() {
        let trace = Azure::read(SAMPLE.as_bytes(), 2).unwrap();
        let arrivals: Vec<_> = trace.arrivals(1.0, 3).collect();
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.time));
        let minutes: Vec<_> = arrivals.iter().map(|a| (a.time.0 / MINUTE_NS, a.model.0)).collect();
        let count = |minute, model| minutes.iter().filter(|m| **m == (minute, model)).count();
        let counts = [0, 1, 2].map(|minute| [count(minute, 0), count(minute, 1)]);
        assert_eq!(counts, [[4, 0], [0, 0], [2, 20]]);
        assert_eq!(trace.rates(), [6.0 / 180.0, 20.0 / 180.0]);
        let many = trace.arrivals(100.5, 3).count();
        assert!((2610..=2616).contains(&many), "{many}");
        assert_eq!(
            trace.arrivals(0.1, 3).collect::<Vec<_>>(),
            trace.arrivals(0.1, 3).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, part) in [
            ("", 1, "the header must be"),
            ("HashOwner,HashApp,HashFunction,Trigger\n", 1, "the header must be"),
            ("HashOwner,HashApp,HashFunction,Trigger,1,3\n", 1, "the header must be"),
            ("HashOwner,HashApp,HashFunction,Trigger,1,2\na,b,c,d,1\n", 2, "5 columns where"),
            ("HashOwner,HashApp,HashFunction,Trigger,1\na,b,c,d,-1\n", 2, "minute 1: `-1`"),
            ("HashOwner,HashApp,HashFunction,Trigger,1\na,b,c,d,0\n", 2, "no request"),
        ] {
            let (is, fault) = Azure::read(text.as_bytes(), 2).unwrap_err();
            assert_eq!(is, line, "{fault}");
            assert!(fault.to_string().contains(part), "{fault}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let header = b"HashOwner,HashApp,HashFunction,Trigger,1,2\n";
            for whole in [bytes.clone(), [header, &bytes[..]].concat()] {
                let _ = Azure::read(&whole[..], 3);
            }
        }
    }
}
