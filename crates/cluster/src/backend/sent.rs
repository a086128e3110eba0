//! The batches that a backend has and has not ended.

use super::fetching::BatchKey;
use std::collections::HashMap;
use symphony_core::{BatchId, ModelId, RequestId, Span, Time};
use symphony_wire::message::RunningBatch;

/// The batches that this backend has and has not ended. Schedulers number their batches each for
/// itself, so that here each gets a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) batches: HashMap<BatchId, SentBatch>,
    last: u64,
    /// What a scheduler was told to be running, until this backend is in its pool.
    announced: Vec<(BatchKey, usize)>,
    /// No more will come.
    pub(crate) is_last: bool,
}

/// One batch that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct SentBatch {
    pub(crate) key: BatchKey,
    /// By the name that its plan calls it.
    pub(crate) model: ModelId,
    pub(crate) place: usize,
    pub(crate) received: Time,
    /// When its inputs were there.
    pub(crate) ready: Time,
    pub(crate) exec: Span,
    pub(crate) requests: Vec<RequestId>,
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

    /// Whether a request is in a batch that has not ended.
    pub(crate) fn has(&self, id: RequestId) -> bool {
        self.batches.values().any(|batch| batch.requests.contains(&id))
    }

    /// Whether a batch by one of these names has not ended.
    pub(crate) fn runs(&self, lanes: &[ModelId]) -> bool {
        self.batches.values().any(|batch| lanes.contains(&batch.model))
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// What still runs, for a scheduler that takes over.
    pub(crate) fn announce(&mut self, now: Time) -> Vec<RunningBatch> {
        self.announced = self.batches.values().map(|batch| (batch.key, batch.place)).collect();
        let running = |batch: &SentBatch| RunningBatch {
            accelerator: u32::try_from(batch.place).unwrap_or(u32::MAX),
            epoch: batch.key.epoch,
            batch: batch.key.batch,
            left: batch.exec.saturating_sub(now.since(batch.ready)),
        };
        self.batches.values().map(running).collect()
    }

    /// The batches that were announced and have ended since, with the places of their accelerators:
    /// their ends were told to nobody.
    pub(crate) fn ended_meanwhile(&mut self) -> Vec<(BatchKey, usize)> {
        let mut announced = std::mem::take(&mut self.announced);
        announced.retain(|(key, _)| self.by_key(*key).is_none());
        announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: ModelId = ModelId::first(2);

    fn batch(number: u64) -> SentBatch {
        let key = BatchKey { epoch: 1, batch: BatchId(number) };
        let (received, ready) = (Time(0), Time(10));
        let requests = vec![RequestId::only(number)];
        SentBatch { key, model: MODEL, place: 3, received, ready, exec: Span(100), requests }
    }

    #[test]
    fn a_batch_that_ends_between_announcement_and_welcome_is_told_of() {
        let mut sent = Sent::default();
        let first = sent.add(batch(7));
        sent.add(batch(8));
        let running = sent.announce(Time(30));
        assert_eq!(running.len(), 2);
        assert!(running.iter().all(|batch| (batch.accelerator, batch.left) == (3, Span(80))));
        assert!(sent.has(RequestId::only(7)));
        sent.batches.remove(&first);
        assert!(!sent.has(RequestId::only(7)) && sent.has(RequestId::only(8)));
        assert_eq!(sent.ended_meanwhile(), [(batch(7).key, 3)]);
        assert!(sent.ended_meanwhile().is_empty(), "once");
    }

    #[test]
    fn two_schedulers_may_give_batches_the_same_number() {
        let mut sent = Sent::default();
        let other = BatchKey { epoch: 2, batch: BatchId(7) };
        let numbers = [sent.add(batch(7)), sent.add(SentBatch { key: other, ..batch(7) })];
        assert_ne!(numbers[0], numbers[1]);
        sent.forget(other);
        assert!(!sent.is_empty() && sent.runs(&[ModelId::first(0), MODEL]));
        sent.forget(batch(7).key);
        assert!(sent.is_empty() && !sent.runs(&[MODEL]));
    }
}
