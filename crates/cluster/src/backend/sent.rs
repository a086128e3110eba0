//! The batches that a backend has and has not ended.

use super::fetching::BatchKey;
use std::collections::HashMap;
use symphony_core::{BatchId, Span, Time};
use symphony_wire::message::RunningBatch;

/// The batches that this backend has and has not ended. Schedulers number their batches each for
/// itself, so that here each gets a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) batches: HashMap<BatchId, SentBatch>,
    last: u64,
    /// No more will come.
    pub(crate) is_last: bool,
}

/// One batch that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentBatch {
    pub(crate) key: BatchKey,
    pub(crate) place: usize,
    pub(crate) received: Time,
    /// When its inputs were there.
    pub(crate) ready: Time,
    pub(crate) exec: Span,
}

impl Sent {
    /// Takes note of a batch. Returns its number here.
    pub(crate) fn add(&mut self, batch: SentBatch) -> BatchId {
        self.last += 1;
        let number = BatchId(self.last);
        self.batches.insert(number, batch);
        number
    }

    pub(crate) fn by_key(&mut self, key: BatchKey) -> Option<(BatchId, &mut SentBatch)> {
        let mut batches = self.batches.iter_mut();
        batches.find(|(_, batch)| batch.key == key).map(|(number, batch)| (*number, batch))
    }

    /// A batch does not run.
    pub(crate) fn forget(&mut self, key: BatchKey) {
        if let Some((number, _)) = self.by_key(key) {
            self.batches.remove(&number);
        }
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// What still runs, for a scheduler that takes over.
    pub(crate) fn running(&self, now: Time) -> Vec<RunningBatch> {
        let running = |batch: &SentBatch| RunningBatch {
            accelerator: u32::try_from(batch.place).unwrap_or(u32::MAX),
            epoch: batch.key.epoch,
            batch: batch.key.batch,
            left: batch.exec.saturating_sub(now.since(batch.ready)),
        };
        self.batches.values().map(running).collect()
    }
}
