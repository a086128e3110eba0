//! Random numbers that are the same on every machine: one pinned generator, with logarithms and
//! powers from `libm`, because those of the platform differ in the last bit.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A seeded generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Pcg64Mcg,
}

impl Random {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { generator: Pcg64Mcg::seed_from_u64(seed) }
    }

    /// Generator `number` of a family with this seed. Adding one does not change the others.
    #[must_use]
    pub fn numbered(seed: u64, number: u64) -> Random {
        Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A uniform number above zero, up to and including one.
    pub fn uniform(&mut self) -> f64 {
        ((self.generator.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// An exponential number with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.uniform())
    }

    /// A normal number with mean 0 and standard deviation 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * libm::log(square) / square).sqrt();
            }
        }
    }

    /// A gamma number with this shape and mean `shape` (Marsaglia and Tsang 2000, with their boost
    /// for shapes below one).
    ///
    /// `shape` is positive.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::pow(self.uniform(), 1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let base = 1.0 + c * normal;
            if base <= 0.0 {
                continue;
            }
            let v = base * base * base;
            let bar = 0.5 * normal * normal + d - d * v + d * libm::log(v);
            if libm::log(self.uniform()) < bar {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_spreads_are_as_named() {
        let check = |name: &str, mean: f64, deviation: f64, draw: &dyn Fn(&mut Random) -> f64| {
            let mut random = Random::new(11);
            let n = 200_000;
            let draws: Vec<f64> = (0..n).map(|_| draw(&mut random)).collect();
            let is_mean = draws.iter().sum::<f64>() / f64::from(n);
            let variance =
                draws.iter().map(|x| (x - is_mean) * (x - is_mean)).sum::<f64>() / f64::from(n);
            assert!((is_mean - mean).abs() < 0.02 * deviation.max(mean), "{name}: {is_mean}");
            assert!((variance.sqrt() / deviation - 1.0).abs() < 0.03, "{name}: {variance}");
        };
        check("uniform", 0.5, (1.0f64 / 12.0).sqrt(), &Random::uniform);
        check("exponential", 1.0, 1.0, &Random::exponential);
        check("normal", 0.0, 1.0, &Random::normal);
        check("gamma 4", 4.0, 2.0, &|random| random.gamma(4.0));
        check("gamma 0.25", 0.25, 0.5, &|random| random.gamma(0.25));
    }
}
