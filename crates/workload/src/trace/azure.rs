//! The Azure Functions trace of 2019: `HashOwner,HashApp,HashFunction,Trigger,1,2,…,1440`, one row
//! per function with its invocations in each minute of a day.
//!
//! Functions are assigned to models in turn, in order of row, as in other systems that replay this
//! trace. Within a minute invocations are independent of each other.

use super::{TraceError, TraceFault, read_line};
use crate::Arrival;
use crate::random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use symphony_core::{ModelId, Span, Time};

/// A trace, folded onto models.
#[derive(Clone, Debug, PartialEq)]
pub struct Azure {
    /// Invocations of each minute, then of each model.
    counts: Vec<Vec<u64>>,
}

/// The columns before the first minute.
const NAMES: usize = 4;
const MINUTE_NS: u64 = 60_000_000_000;

impl Azure {
    /// Reads a whole file for `models` models, at least one. One number per model and minute stays
    /// in memory.
    ///
    /// # Errors
    /// The file cannot be read or has a different layout.
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

    /// The mean requests per second of each model over the whole trace.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        let seconds = 60.0 * self.counts.len() as f64;
        let models = self.counts.first().map_or(0, Vec::len);
        let total = |model: usize| self.counts.iter().map(|minute| minute[model]).sum::<u64>();
        (0..models).map(|model| total(model) as f64 / seconds).collect()
    }

    /// The length of the trace.
    #[must_use]
    pub fn length(&self) -> Span {
        Span(MINUTE_NS * self.counts.len() as u64)
    }

    /// The arrivals, with `scale` times as many requests as in the trace. Fractions of a request
    /// are rounded at random.
    #[must_use]
    pub fn arrivals(&self, scale: f64, seed: u64) -> AzureArrivals<'_> {
        let rest = vec![Rest::default(); self.counts.first().map_or(0, Vec::len)];
        let (random, next) = (Random::new(seed), BinaryHeap::new());
        AzureArrivals { trace: self, scale, random, minute: 0, next, rest }
    }
}

/// The number of minutes in the header, or `None` when it is not a header.
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

/// The arrivals of an [`Azure`] trace, in order of time. Memory holds one arrival per model.
#[derive(Clone, Debug)]
pub struct AzureArrivals<'a> {
    trace: &'a Azure,
    scale: f64,
    random: Random,
    /// The number of minutes that have begun.
    minute: u64,
    /// The next arrival of each model that has one left in this minute.
    next: BinaryHeap<Reverse<(Time, ModelId)>>,
    /// The rest of each model's requests in this minute after that, by number.
    rest: Vec<Rest>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    count: u64,
    /// The share of the minute that has passed.
    within: f64,
}

impl Iterator for AzureArrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        while self.next.is_empty() {
            let counts = self.trace.counts.get(usize::try_from(self.minute).ok()?)?;
            self.begin(counts);
        }
        let Reverse((time, model)) = self.next.pop()?;
        self.draw(model);
        Some(Arrival { time, model, rows: 1 })
    }
}

impl AzureArrivals<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    #[expect(clippy::cast_sign_loss, reason = "negative saturates to zero")]
    fn begin(&mut self, counts: &[u64]) {
        self.minute += 1;
        for (model, &count) in (0..).map(ModelId::first).zip(counts) {
            let expected = count as f64 * self.scale;
            let whole = expected.floor();
            let extra = if self.random.uniform() <= expected - whole { 1 } else { 0 };
            self.rest[model.index()] = Rest { count: whole as u64 + extra, within: 0.0 };
            self.draw(model);
        }
    }

    /// Draws the next of `count` independent, uniform times: the first of them divides the rest of
    /// the minute so that all others lie behind it.
    #[expect(clippy::cast_possible_truncation, reason = "within a minute")]
    #[expect(clippy::cast_sign_loss, reason = "a share is positive")]
    fn draw(&mut self, model: ModelId) {
        let rest = &mut self.rest[model.index()];
        if rest.count == 0 {
            return;
        }
        let behind = libm::pow(self.random.uniform(), 1.0 / rest.count as f64);
        rest.within = 1.0 - (1.0 - rest.within) * behind;
        rest.count -= 1;
        let within = ((rest.within * MINUTE_NS as f64) as u64).min(MINUTE_NS - 1);
        let time = Time((self.minute - 1) * MINUTE_NS + within);
        self.next.push(Reverse((time, model)));
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
        let minutes: Vec<_> =
            arrivals.iter().map(|a| (a.time.0 / MINUTE_NS, a.model.slot())).collect();
        let count = |minute, model| minutes.iter().filter(|m| **m == (minute, model)).count();
        let counts = [0, 1, 2].map(|minute| [count(minute, 0), count(minute, 1)]);
        assert_eq!(counts, [[4, 0], [0, 0], [2, 20]]);
        assert_eq!(trace.rates(), [6.0 / 180.0, 20.0 / 180.0]);
        assert_eq!(trace.length(), Span::from_secs(180));
        let many = trace.arrivals(100.5, 3).count();
        assert!((2610..=2616).contains(&many), "{many}");
        assert_eq!(
            trace.arrivals(0.1, 3).collect::<Vec<_>>(),
            trace.arrivals(0.1, 3).collect::<Vec<_>>()
        );
    }

    #[test]
    fn arrivals_are_spread_over_their_minute() {
        let trace = Azure::read(SAMPLE.as_bytes(), 1).unwrap();
        let mut eighths = [0i32; 8];
        for arrival in trace.arrivals(1000.0, 5).filter(|arrival| arrival.time.0 > 2 * MINUTE_NS) {
            eighths[usize::try_from(arrival.time.0 % MINUTE_NS * 8 / MINUTE_NS).unwrap()] += 1;
        }
        assert_eq!(eighths.iter().sum::<i32>(), 22_000);
        // 2750 are expected, give or take 49.
        assert!(eighths.iter().all(|count| (count - 2750).abs() < 250), "{eighths:?}");
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
