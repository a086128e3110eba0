//! At which sizes of its open dimensions a model runs.

use super::{Trial, WAYS_TRIED, all_ways};
use crate::engine::EngineError;
use crate::limits;
use crate::resident::BatchError;
use std::time::{Duration, Instant};
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec};

/// Sizes that models run at, the cheapest first: powers of two, multiples of 32 for images, windows
/// and seconds of audio.
const USUAL: [usize; 16] =
    [8, 16, 32, 64, 128, 224, 256, 320, 512, 576, 640, 1024, 16_000, 48_000, 4, 1];

/// The largest sizes that are looked for: an image's side, and a second's samples times thirty.
const IMAGE_SIZE_MAX: usize = 2048;
const IMAGE_GUESS_MAX: usize = 640;
const AUDIO_SIZE_MAX: usize = 1 << 19;
const SIZE_MAX: usize = 4096;

/// The way whose values are those that the graph names, if it names any.
const FIRST_WAY: usize = 0;

/// The most sizes at which a model is measured, by how much each is larger than the one before, and
/// by how much longer it may take.
const MEASURED_MAX: usize = 6;
const GROWTH: usize = 3;
const GROWTH_TIME: u32 = 9;

/// How often the range is halved in which the largest size lies.
const NARROWED: usize = 6;

/// Up to this size the search goes on although its time is over, as long as runs are short: how busy
/// the machine is must not decide which requests are taken.
const SIZE_SURE: usize = 512;

/// How long all runs of the search may take, and how long its longest run.
const SEARCH_TIME: Duration = Duration::from_secs(4);
const RUN_TIME: Duration = Duration::from_millis(1500);

/// What bounds the size of an open dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The configuration.
    Configured,
    /// The largest batch: it counts rows of one request.
    Rows,
    /// What the model runs at.
    Free,
}

/// Why there are no sizes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SizesError {
    /// There is not enough memory.
    Engine(EngineError),
    /// No size was found at which the model runs. What it says at the last one.
    Nowhere(BatchError),
    /// It does not run at a size that the configuration allows.
    Configured { dimension: String, max: usize, problem: BatchError },
}

impl<'a> Trial<'a> {
    /// Finds sizes at which the model runs, values with which it does, and the largest size of each
    /// open dimension, which its signature then has.
    pub(crate) fn find_sizes(mut self, bounds: &[Bound]) -> Result<Trial<'a>, SizesError> {
        let begun = Instant::now();
        self.find_base(bounds, begun)?;
        let mut max = Vec::new();
        for (index, bound) in bounds.iter().enumerate() {
            max.push(match bound {
                Bound::Configured => self.check_bound(index)?,
                Bound::Rows | Bound::Free => self.find_bound(index, *bound, begun),
            });
        }
        fit_memory(self.signature(), &mut max, bounds);
        self.run_larger(&max, begun);
        let mut signature = self.signature().clone();
        for (open, max) in signature.dimensions.iter_mut().zip(max) {
            open.max = max;
        }
        self.resign(signature).map_err(SizesError::Engine)
    }

    /// Finds sizes, equal for all dimensions, and the ways of generating values.
    fn find_base(&mut self, bounds: &[Bound], begun: Instant) -> Result<(), SizesError> {
        let mut guesses: Vec<Vec<usize>> = Vec::new();
        for usual in USUAL {
            let guess: Vec<usize> =
                (0..bounds.len()).map(|index| self.guess(index, bounds[index], usual)).collect();
            if !guesses.contains(&guess) {
                guesses.push(guess);
            }
        }
        let mut last = None;
        for guess in guesses {
            for way in all_ways() {
                let is_full = self.ways.len() >= WAYS_TRIED && way != FIRST_WAY;
                if is_full || self.is_found(way) {
                    continue;
                }
                match self.try_sizes(&guess, way) {
                    Ok(time) => {
                        if self.ways.is_empty() {
                            self.time = time;
                            self.base.clone_from(&guess);
                        }
                        self.ways.push((way, guess.clone()));
                    }
                    Err(error) => last = Some(error),
                }
            }
            // Once it runs, half of the time is enough for values that need other sizes.
            let most = if self.ways.is_empty() { SEARCH_TIME } else { SEARCH_TIME / 2 };
            let is_done = self.ways.len() >= WAYS_TRIED && self.is_found(FIRST_WAY);
            if is_done || begun.elapsed() > most {
                break;
            }
        }
        match last {
            Some(error) if self.ways.is_empty() => Err(SizesError::Nowhere(error)),
            _ => Ok(()),
        }
    }

    /// Runs larger and larger sizes of all dimensions together, as far as time allows: these are what
    /// the model is measured at.
    fn run_larger(&mut self, max: &[usize], begun: Instant) {
        self.ran = vec![(self.base.clone(), self.way())];
        let mut last = self.time;
        while let Some((sizes, _)) = self.ran.last()
            && self.ran.len() < MEASURED_MAX
        {
            let larger: Vec<usize> =
                sizes.iter().zip(max).map(|(size, max)| (size * GROWTH).min(*max)).collect();
            let is_late = begun.elapsed() > SEARCH_TIME || last * GROWTH_TIME > RUN_TIME;
            if larger == *sizes || is_late {
                return;
            }
            let ways: Vec<usize> = self.ways.iter().map(|(way, _)| *way).collect();
            let ran = ways.into_iter().find_map(|way| {
                let time = self.try_sizes(&larger, way).ok()?;
                Some((time, way))
            });
            let Some((time, way)) = ran else { return };
            last = time;
            self.ran.push((larger, way));
        }
    }

    fn is_found(&self, way: usize) -> bool {
        self.ways.iter().any(|(found, _)| *found == way)
    }

    fn guess(&self, index: usize, bound: Bound, usual: usize) -> usize {
        match bound {
            Bound::Configured => usual.min(self.signature().dimensions[index].max),
            Bound::Rows => 1,
            Bound::Free => match largest(self.signature(), index) {
                (_, true) => usual.min(IMAGE_GUESS_MAX),
                (most, false) => usual.min(most),
            },
        }
    }

    /// Runs one row with any values that the model takes at these sizes.
    fn try_any(&mut self, sizes: &[usize]) -> Result<Duration, BatchError> {
        let first = self.way();
        let mut tried = self.try_sizes(sizes, first);
        for (way, _) in self.ways.clone().into_iter().skip(1) {
            if tried.is_err() {
                tried = self.try_sizes(sizes, way);
            }
        }
        tried
    }

    /// Runs one row.
    fn try_sizes(&mut self, sizes: &[usize], way: usize) -> Result<Duration, BatchError> {
        let rows = self.values.rows(self.signature(), sizes, way, 1, super::SEED);
        let begun = Instant::now();
        self.outputs(&rows)?;
        Ok(begun.elapsed())
    }

    fn check_bound(&mut self, index: usize) -> Result<usize, SizesError> {
        let open = self.signature().dimensions[index].clone();
        let mut sizes = self.base.clone();
        sizes[index] = open.max;
        match self.try_any(&sizes) {
            Ok(_) => Ok(open.max),
            Err(problem) => {
                Err(SizesError::Configured { dimension: open.name, max: open.max, problem })
            }
        }
    }

    /// Doubles the size of one dimension while the model runs and time allows.
    fn find_bound(&mut self, index: usize, bound: Bound, begun: Instant) -> usize {
        let (most, is_image) = match bound {
            Bound::Rows => (self.signature().dimensions[index].max, false),
            Bound::Configured | Bound::Free => largest(self.signature(), index),
        };
        let mut good = self.base[index];
        let mut last = self.time;
        while good < most {
            let is_over = begun.elapsed() > SEARCH_TIME && good >= SIZE_SURE;
            if is_over || last * 3 > RUN_TIME {
                // An image's side is bounded by memory and time alone.
                return if is_image { most } else { good };
            }
            let mut sizes = self.base.clone();
            sizes[index] = (good * 2).min(most);
            match self.try_any(&sizes) {
                Ok(time) => (good, last) = (sizes[index], time),
                Err(_) => return self.narrowed(sizes, index, good),
            }
        }
        good
    }

    /// The largest size that runs between one that does and one that does not, nearly.
    fn narrowed(&mut self, mut sizes: Vec<usize>, index: usize, mut good: usize) -> usize {
        let mut bad = sizes[index];
        for _ in 0..NARROWED {
            let middle = usize::midpoint(good, bad);
            if middle == good {
                break;
            }
            sizes[index] = middle;
            match self.try_any(&sizes) {
                Ok(_) => good = middle,
                Err(_) => bad = middle,
            }
        }
        good
    }
}

/// The largest size that is looked for, and whether the dimension is a side of an image.
fn largest(signature: &Signature, index: usize) -> (usize, bool) {
    let has = |spec: &&TensorSpec| {
        spec.shape.iter().any(|dim| matches!(dim, Dim::Open(i) if usize::from(*i) == index))
    };
    let is_float = |spec: &&TensorSpec| {
        matches!(
            spec.datatype,
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 | DataType::Int16
        )
    };
    let inputs: Vec<&TensorSpec> = signature.inputs.iter().filter(has).collect();
    if inputs.iter().any(|spec| spec.shape.len() >= 4) {
        (IMAGE_SIZE_MAX, true)
    } else if inputs.iter().all(is_float) {
        (AUDIO_SIZE_MAX, false)
    } else {
        (SIZE_MAX, false)
    }
}

/// Halves the largest sizes until a row keeps to the bound on memory.
fn fit_memory(signature: &Signature, max: &mut [usize], bounds: &[Bound]) {
    let mut signature = signature.clone();
    loop {
        for (open, max) in signature.dimensions.iter_mut().zip(max.iter()) {
            open.max = *max;
        }
        if limits::excess(&signature, &signature.inputs, 1).is_none() {
            return;
        }
        let free = (0..max.len()).filter(|index| bounds[*index] == Bound::Free && max[*index] > 1);
        let Some(index) = free.max_by_key(|index| max[*index]) else { return };
        max[index] /= 2;
    }
}
