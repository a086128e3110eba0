//! Request streams for the simulator and for load generators: seeded, so that the same seed
//! gives the same requests on every machine.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use symphony_core::{ModelId, Span, Time};

/// How the requests of one model follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Evenly spaced.
    Constant,
    /// Independent of each other: exponentially distributed gaps.
    Poisson,
}

/// The requests of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Whose requests.
    pub model: ModelId,
    /// How they follow each other.
    pub process: Process,
    /// Mean requests per second; positive and finite.
    pub rate: f64,
}

/// Why a stream cannot be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// A rate that is zero, negative or not a number.
    #[error("the rate of {model:?} is {rate}: it must be a positive number of requests per second")]
    Rate {
        /// The stream's model.
        model: ModelId,
        /// Its rate.
        rate: f64,
    },
}

/// The arrivals of several models, merged in order of time; equal times in order of stream.
/// Endless.
#[derive(Clone, Debug)]
pub struct Arrivals {
    streams: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    model: ModelId,
    process: Process,
    gap_mean: f64,
    generator: Pcg64Mcg,
    next: Time,
}

impl Arrivals {
    /// The arrivals of `streams`; each draws from its own generator, derived from `seed`, so that
    /// adding a stream leaves the others as they were.
    ///
    /// # Errors
    /// A rate is not a positive number.
    pub fn new(streams: &[Stream], seed: u64) -> Result<Arrivals, WorkloadError> {
        let streams = (0u64..)
            .zip(streams)
            .map(|(number, stream)| {
                Source::new(stream, seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
            .collect::<Result<_, _>>()?;
        Ok(Arrivals { streams })
    }
}

impl Iterator for Arrivals {
    type Item = (Time, ModelId);

    fn next(&mut self) -> Option<(Time, ModelId)> {
        let source = self.streams.iter_mut().min_by_key(|source| source.next)?;
        let arrival = (source.next, source.model);
        source.advance();
        Some(arrival)
    }
}

impl Source {
    fn new(stream: &Stream, seed: u64) -> Result<Source, WorkloadError> {
        let &Stream { model, process, rate } = stream;
        if !(rate.is_finite() && rate > 0.0) {
            return Err(WorkloadError::Rate { model, rate });
        }
        let generator = Pcg64Mcg::seed_from_u64(seed);
        let mut source =
            Source { model, process, gap_mean: 1e9 / rate, generator, next: Time::ZERO };
        source.advance();
        Ok(source)
    }

    fn advance(&mut self) {
        let gap = match self.process {
            Process::Constant => self.gap_mean,
            Process::Poisson => self.gap_mean * exponential(&mut self.generator),
        };
        self.next = self.next + Span::from_millis_f64(gap / 1e6);
    }
}

/// An exponentially distributed number with mean 1. `libm` because the logarithm of the
/// platform differs in the last bit from machine to machine.
fn exponential(generator: &mut impl Rng) -> f64 {
    let uniform = ((generator.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -libm::log(uniform)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(model: u32, process: Process, rate: f64) -> Stream {
        Stream { model: ModelId(model), process, rate }
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let streams = [stream(0, Process::Poisson, 100.0), stream(1, Process::Poisson, 300.0)];
        let first = |seed| Arrivals::new(&streams, seed).unwrap().take(1000).collect::<Vec<_>>();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        let pinned: Vec<_> = first(7).into_iter().take(4).map(|(time, m)| (time.0, m.0)).collect();
        expect_test::expect!["[(2051641, 1), (3712124, 0), (5471412, 1), (7990960, 1)]"].assert_eq(&format!("{pinned:?}"));
    }

    #[test]
    fn rates_and_order_are_as_asked() {
        let streams = [stream(0, Process::Poisson, 1000.0), stream(1, Process::Constant, 3000.0)];
        let arrivals: Vec<_> = Arrivals::new(&streams, 1)
            .unwrap()
            .take_while(|(time, _)| *time < Time(100_000_000_000))
            .collect();
        assert!(arrivals.is_sorted_by_key(|(time, _)| *time));
        let poisson = arrivals.iter().filter(|(_, model)| model.0 == 0).count() as f64;
        assert!((poisson - 100_000.0).abs() < 4.0 * 100_000f64.sqrt(), "{poisson}");
        let constant = arrivals.len() as f64 - poisson;
        assert!((constant - 300_000.0).abs() < 2.0, "{constant}");
    }

    #[test]
    fn a_rate_must_be_positive() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Arrivals::new(&[stream(3, Process::Poisson, rate)], 0).unwrap_err();
            assert!(error.to_string().contains("ModelId(3)"), "{error}");
        }
    }
}
