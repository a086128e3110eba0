//! Generated weights: the same bytes on every machine for the same seed.

use bytes::Bytes;

/// SplitMix64 (Steele, Lea and Flood 2014): one addition and three mixing steps per 64 bits, so
/// that hundreds of megabytes take a fraction of a second.
#[derive(Debug)]
pub(crate) struct Weights {
    state: u64,
}

impl Weights {
    pub(crate) fn new(seed: u64) -> Weights {
        Weights { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `count` little-endian 32-bit floats, uniform with mean 0 and the given standard deviation.
    pub(crate) fn uniform(&mut self, count: usize, deviation: f32) -> Bytes {
        // A uniform distribution over [-a, a] has the standard deviation a / sqrt(3).
        let step = deviation * 3f32.sqrt() / (1u32 << 23) as f32;
        let mut data = vec![0; count * 4];
        for pair in data.chunks_mut(8) {
            let bits = self.next().to_le_bytes();
            let (low, high) = pair.split_at_mut(4);
            low.copy_from_slice(&number([bits[0], bits[1], bits[2]], step));
            if let Ok(high) = <&mut [u8; 4]>::try_from(high) {
                *high = number([bits[4], bits[5], bits[6]], step);
            }
        }
        data.into()
    }
}

/// Maps 24 random bits to the middle of one of 2^24 equal cells around 0: exact in a float, so
/// every machine gets the same number.
fn number([a, b, c]: [u8; 3], step: f32) -> [u8; 4] {
    let cell = i32::from_le_bytes([a, b, c, 0]) - (1 << 23);
    ((cell as f32 + 0.5) * step).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_deviation_asked_for() {
        let data = Weights::new(7).uniform(100_001, 0.5);
        let values: Vec<f32> =
            data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(values.len(), 100_001);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.01, "variance {variance}");
        assert!(values.iter().all(|v| v.abs() <= 0.5 * 3f32.sqrt()));
    }

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let first = |seed| Weights::new(seed).uniform(1, 1.0).to_vec();
        assert_eq!(first(0), first(0));
        assert_ne!(first(0), first(1));
        // The generator's published first output for seed 0 is e220a8397b1dcdaf.
        assert_eq!(Weights::new(0).next(), 0xE220_A839_7B1D_CDAF);
    }
}
