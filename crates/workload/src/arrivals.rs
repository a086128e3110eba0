//! The arrivals of several streams, merged in order of time.

use crate::process::Gaps;
use crate::random::Random;
use crate::schedule::Course;
use crate::{Process, Schedule, WorkloadError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use symphony_core::{ModelId, Time};

/// One request of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The time of its arrival.
    pub time: Time,
    /// Its model.
    pub model: ModelId,
    /// Its rows, at least one.
    pub rows: u32,
}

/// The requests of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// The model.
    pub model: ModelId,
    /// The process of their arrivals.
    pub process: Process,
    /// The mean requests per second at a factor of one in the schedule; positive and finite.
    pub rate: f64,
    /// How the rate changes over time.
    pub schedule: Schedule,
    /// The rows of each request, at least one.
    pub rows: u32,
}

impl Stream {
    /// Requests of one row at a constant rate.
    #[must_use]
    pub fn steady(model: ModelId, process: Process, rate: f64) -> Stream {
        Stream { model, process, rate, schedule: Schedule::Constant, rows: 1 }
    }
}

/// The arrivals of several streams, merged in order of time. Equal times are in order of stream. It
/// never ends, unless the schedules end in silence.
#[derive(Clone, Debug)]
pub struct Arrivals {
    sources: Vec<StreamSource>,
    /// The next arrival of each stream that has more.
    next: BinaryHeap<Reverse<(Time, usize)>>,
}

#[derive(Clone, Debug)]
struct StreamSource {
    model: ModelId,
    rows: u32,
    gaps: Gaps,
    /// The mean gap in nanoseconds, at factor one.
    gap_mean: f64,
    random: Random,
    course: Course,
}

impl Arrivals {
    /// The arrivals of `streams`. Each stream has its own generator, derived from `seed`, so that
    /// adding a stream does not change the others.
    ///
    /// # Errors
    /// A rate is not a positive number, or a process or schedule is not valid.
    pub fn new(streams: &[Stream], seed: u64) -> Result<Arrivals, WorkloadError> {
        let mut sources = (0u64..)
            .zip(streams)
            .map(|(number, stream)| StreamSource::new(stream, Random::numbered(seed, number)))
            .collect::<Result<Vec<_>, _>>()?;
        let first =
            |(number, source): (usize, &mut StreamSource)| Some(Reverse((source.next()?, number)));
        let next = sources.iter_mut().enumerate().filter_map(first).collect();
        Ok(Arrivals { sources, next })
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let mut first = self.next.peek_mut()?;
        let Reverse((time, number)) = *first;
        let source = &mut self.sources[number];
        let arrival = Arrival { time, model: source.model, rows: source.rows };
        match source.next() {
            Some(time) => *first = Reverse((time, number)),
            None => {
                PeekMut::pop(first);
            }
        }
        Some(arrival)
    }
}

impl StreamSource {
    fn new(stream: &Stream, mut random: Random) -> Result<StreamSource, WorkloadError> {
        let &Stream { model, process, rate, ref schedule, rows } = stream;
        let gap_mean = 1e9 / rate;
        if !(rate > 0.0 && gap_mean > 0.0 && gap_mean.is_finite()) {
            return Err(WorkloadError::Rate { model, rate });
        }
        if rows == 0 {
            return Err(WorkloadError::Rows { model });
        }
        let gaps = process.gaps(gap_mean, &mut random)?;
        Ok(StreamSource { model, rows, gaps, gap_mean, random, course: schedule.course()? })
    }

    fn next(&mut self) -> Option<Time> {
        let gap = self.gaps.next(&mut self.random);
        self.course.advance(self.gap_mean * gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::Span;

    fn stream(model: u32, process: Process, rate: f64) -> Stream {
        Stream::steady(ModelId::first(model), process, rate)
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let streams = [stream(0, Process::Poisson, 100.0), stream(1, Process::Poisson, 300.0)];
        let first = |seed| Arrivals::new(&streams, seed).unwrap().take(1000).collect::<Vec<_>>();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        let pinned: Vec<_> = first(7).iter().take(4).map(|a| (a.time.0, a.model.slot())).collect();
        expect_test::expect!["[(2051641, 1), (3712124, 0), (5471412, 1), (7990960, 1)]"]
            .assert_eq(&format!("{pinned:?}"));
    }

    #[test]
    fn rates_and_order_are_as_asked() {
        let bursts = Process::OnOff { on: Span::from_millis(20), off: Span::from_millis(60) };
        let streams = [
            stream(0, Process::Poisson, 1000.0),
            stream(1, Process::Constant, 3000.0),
            stream(2, Process::Gamma { cv: 3.0 }, 1000.0),
            stream(3, bursts, 1000.0),
        ];
        let arrivals: Vec<_> = Arrivals::new(&streams, 1)
            .unwrap()
            .take_while(|arrival| arrival.time < Time(100_000_000_000))
            .collect();
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.time));
        let count =
            |model| arrivals.iter().filter(|a| a.model == ModelId::first(model)).count() as f64;
        assert!((count(0) - 100_000.0).abs() < 4.0 * 100_000f64.sqrt(), "{}", count(0));
        assert!((count(1) - 300_000.0).abs() < 2.0, "{}", count(1));
        assert!((count(2) - 100_000.0).abs() < 4.0 * 3.0 * 100_000f64.sqrt(), "{}", count(2));
        assert!((count(3) - 100_000.0).abs() < 10_000.0, "{}", count(3));
    }

    /// The variance of counts per 100 ms, in multiples of their mean: 1 for Poisson.
    fn dispersion(process: Process) -> f64 {
        let mut counts = vec![0f64; 1000];
        for arrival in Arrivals::new(&[stream(0, process, 1000.0)], 5).unwrap() {
            let slot = usize::try_from(arrival.time.0 / 100_000_000).unwrap();
            let Some(count) = counts.get_mut(slot) else { break };
            *count += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let square = counts.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>();
        square / counts.len() as f64 / mean
    }

    #[test]
    fn burstiness_is_as_named() {
        let bursts = Process::OnOff { on: Span::from_millis(50), off: Span::from_millis(150) };
        for (process, low, high) in [
            (Process::Constant, 0.0, 0.02),
            (Process::Poisson, 0.8, 1.2),
            (Process::Gamma { cv: 0.5 }, 0.2, 0.35),
            (Process::Gamma { cv: 2.0 }, 3.2, 4.8),
            (bursts, 20.0, 200.0),
        ] {
            let is = dispersion(process);
            assert!((low..=high).contains(&is), "{process:?}: {is}");
        }
    }

    #[test]
    fn a_stream_must_be_possible() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
            let error = Arrivals::new(&[stream(3, Process::Poisson, rate)], 0).unwrap_err();
            assert!(error.to_string().contains("model 3"), "{error}");
        }
        let on = Span::ZERO;
        for process in [
            Process::Gamma { cv: 0.0 },
            Process::Gamma { cv: f64::NAN },
            Process::OnOff { on, off: Span(1) },
        ] {
            assert!(Arrivals::new(&[stream(0, process, 1.0)], 0).is_err(), "{process:?}");
        }
        let rows = Stream { rows: 0, ..stream(0, Process::Poisson, 1.0) };
        assert_eq!(
            Arrivals::new(&[rows], 0).unwrap_err(),
            WorkloadError::Rows { model: ModelId::first(0) }
        );
    }
}
