//! Numbers that look random and are the same in every run.

/// Splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Numbers from zero on, the first the most popular: that of rank `k` by `1 / k^exponent`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(count: u32, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += libm::pow(f64::from(rank), -exponent);
            sum
        });
        Zipf(sums.collect())
    }

    /// The part of all that is this number.
    pub(crate) fn share(&self, number: u32) -> f64 {
        let sum = |rank: usize| rank.checked_sub(1).map_or(0.0, |at| self.0[at]);
        let rank = number as usize;
        (sum(rank + 1) - sum(rank)) / sum(self.0.len())
    }

    pub(crate) fn pick(&self, random: &mut Random) -> u32 {
        let all = self.0.last().copied().unwrap_or_default();
        let point = (random.next() >> 11) as f64 / (1u64 << 53) as f64 * all;
        let rank = self.0.partition_point(|sum| *sum <= point);
        u32::try_from(rank.min(self.0.len() - 1)).unwrap_or(u32::MAX)
    }
}
