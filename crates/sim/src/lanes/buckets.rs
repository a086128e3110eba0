//! Buckets of sizes that are split and merged by what waits in them, as in BucketServe (Zheng, Xu, Song
//! and Ye, "BucketServe: Bucket-Based Dynamic Batching for Smart and Efficient LLM Inference Serving",
//! arXiv 2507.17120).
//!
//! As its abstract and summaries describe it, requests wait in buckets of sequence lengths. A bucket is
//! split at the middle of its range when more requests wait in it than one batch takes and most of
//! them are in its lower half; when fewer wait in all buckets than one batch takes, all are merged
//! into one. Costs play no part. Our reading: "most" is one half, one batch takes what the objective
//! allows of the largest requests, and splitting ends with the lanes that there are. Everything else
//! is our scheduler's, so that only the rule for buckets is compared.

/// A bucket is split when more than this share of its requests is in the lower half.
const LOWER_SHARE: f64 = 0.5;

/// Buckets, each in a lane of its own.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// By growing size.
    buckets: Vec<Bucket>,
    /// By lane: requests that wait.
    waiting: Vec<u64>,
    /// A batch takes so many rows.
    batch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The largest size of the bucket before.
    above: u64,
    upper: u64,
    lane: usize,
    /// Requests that wait and came to the bucket as it is, and those of them in its lower half.
    waiting: u64,
    lower: u64,
}

impl Bucket {
    fn middle(&self) -> u64 {
        u64::midpoint(self.above, self.upper)
    }
}

impl Buckets {
    /// One bucket for all sizes up to `most`, and room for as many as there are lanes.
    pub(super) fn new(most: u64, lanes: usize, batch: u32) -> Buckets {
        let bucket = Bucket { above: 0, upper: most, lane: 0, waiting: 0, lower: 0 };
        Buckets { buckets: vec![bucket], waiting: vec![0; lanes], batch: batch.into() }
    }

    /// A request came; its lane, and the lane and size of a bucket that was split off for it.
    pub(super) fn arrive(&mut self, size: u64) -> (usize, Option<(usize, u64)>) {
        let split = self.adjust();
        let at = self.at(size);
        let bucket = &mut self.buckets[at];
        bucket.waiting += 1;
        bucket.lower += u64::from(size <= bucket.middle());
        self.waiting[bucket.lane] += 1;
        (bucket.lane, split)
    }

    /// A request of this size waits no longer.
    pub(super) fn leave(&mut self, lane: usize, size: u64) {
        self.waiting[lane] = self.waiting[lane].saturating_sub(1);
        let at = self.at(size);
        let bucket = &mut self.buckets[at];
        // One that came before the bucket was made does not count in it.
        if bucket.lane == lane && bucket.waiting > 0 {
            bucket.waiting -= 1;
            bucket.lower = bucket.lower.saturating_sub(u64::from(size <= bucket.middle()));
        }
    }

    fn at(&self, size: u64) -> usize {
        let at = self.buckets.partition_point(|bucket| bucket.upper < size);
        at.min(self.buckets.len() - 1)
    }

    fn adjust(&mut self) -> Option<(usize, u64)> {
        if self.waiting.iter().sum::<u64>() < self.batch {
            self.merge();
            return None;
        }
        let is_skewed = |bucket: &Bucket| {
            bucket.waiting > self.batch
                && bucket.lower as f64 > LOWER_SHARE * bucket.waiting as f64
                && bucket.upper - bucket.above > 1
        };
        let at = self.buckets.iter().position(is_skewed)?;
        let is_free = |lane: &usize| {
            self.waiting[*lane] == 0 && self.buckets.iter().all(|bucket| bucket.lane != *lane)
        };
        let lane = (0..self.waiting.len()).find(is_free)?;
        let whole = self.buckets[at];
        let middle = whole.middle();
        // What waits stays in its lane, so both halves begin without any.
        let lower = Bucket { upper: middle, lane, waiting: 0, lower: 0, ..whole };
        self.buckets[at] = Bucket { above: middle, waiting: 0, lower: 0, ..whole };
        self.buckets.insert(at, lower);
        Some((lane, middle))
    }

    /// The bucket of the largest sizes takes everything.
    fn merge(&mut self) {
        let last = self.buckets.len() - 1;
        if last > 0 {
            self.buckets.drain(..last);
            self.buckets[0] = Bucket { above: 0, waiting: 0, lower: 0, ..self.buckets[0] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_lower_half_is_split_off_and_a_quiet_model_has_one_bucket() {
        let mut buckets = Buckets::new(512, 3, 4);
        let mut lanes: Vec<_> = (0..6).map(|_| buckets.arrive(40)).collect();
        assert_eq!(lanes.pop(), Some((1, Some((1, 256)))), "five waited, all of them short");
        assert!(lanes.iter().all(|lane| *lane == (0, None)));
        assert_eq!(buckets.arrive(300), (0, None));
        for _ in 0..4 {
            buckets.arrive(200);
        }
        assert_eq!(buckets.arrive(40), (1, None), "most of the lower bucket are in its upper half");
        (0..5).for_each(|_| buckets.leave(0, 40));
        (0..4).for_each(|_| buckets.leave(1, 200));
        assert_eq!(buckets.arrive(40), (0, None), "three wait: one bucket again");
    }
}
