//! Which requests of a lost batch are scheduled again, and which are given up.
//!
//! In: batches that were sent, ended, were lost. Out: a [`Verdict`] for each request of a lost batch.
//! Knows neither queues nor how long anything takes: a request that is submitted again and can no
//! longer be in time is dropped by the queue that it comes to, at once.

use crate::ids::{AcceleratorId, BatchId, ModelId, Origin, RequestId};
use crate::request::Request;
use crate::sched::Start;
use crate::time::Time;
use std::collections::BTreeMap;

/// The batches that a scheduler has sent and not heard the end of, with their requests.
///
/// A request is scheduled again once: when the second batch that it was sent in is lost as well, it is
/// given up, for it may be what takes accelerators down.
///
/// It holds no more batches than accelerators have, and beside them only requests that were submitted
/// again and are neither due nor sent yet. Batches are numbered within the life of a scheduler, so each
/// life has a ledger of its own, which begins empty.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    sent: BTreeMap<BatchId, SentBatch>,
    /// The deadlines of requests that were submitted again and have not been sent since.
    again: BTreeMap<RequestId, Time>,
    /// Room for the requests of further batches.
    spare: Vec<Vec<SentRequest>>,
}

#[derive(Clone, Debug)]
struct SentBatch {
    accelerator: AcceleratorId,
    model: ModelId,
    requests: Vec<SentRequest>,
}

#[derive(Clone, Copy, Debug)]
struct SentRequest {
    request: Request,
    /// Whether a batch of it was lost before.
    is_again: bool,
}

/// What becomes of a request whose batch does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Submit it again, with the arrival and the deadline that it came with.
    Resubmit {
        /// Its model.
        model: ModelId,
        /// The request.
        request: Request,
    },
    /// Answer it as failed, now.
    GiveUp {
        /// The request.
        request: Request,
        /// Where its batch was lost.
        accelerator: AcceleratorId,
        /// Why it is not submitted again.
        why: GivenUp,
    },
}

/// Why a request is not submitted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Its deadline is over.
    Late,
    /// It had been submitted again before.
    LostTwice,
}

impl GivenUp {
    /// The reason, to follow the name of the accelerator.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            GivenUp::Late => "was lost with the batch, and the request's deadline is over",
            GivenUp::LostTwice => {
                "was lost with the batch, and so was the one that ran the request before"
            }
        }
    }
}

impl Ledger {
    /// A batch was sent to its accelerator, with these requests.
    pub fn sent(&mut self, start: &Start, requests: &[Request]) {
        let &Start { batch, accelerator, model, .. } = start;
        let mut room = self.spare.pop().unwrap_or_default();
        let again = &mut self.again;
        room.extend(requests.iter().map(|request| {
            let is_again = !again.is_empty() && again.remove(&request.id).is_some();
            SentRequest { request: *request, is_again }
        }));
        let sent = SentBatch { accelerator, model, requests: room };
        let before = self.sent.insert(batch, sent);
        debug_assert!(before.is_none(), "{batch:?} was sent twice");
    }

    /// A batch has ended, and its requests have had their outcomes; whether it was waited for. One
    /// that was lost before is not.
    pub fn ended(&mut self, batch: BatchId) -> bool {
        let ended = self.sent.remove(&batch);
        let is_known = ended.is_some();
        if let Some(ended) = ended {
            self.keep_room(ended.requests);
        }
        is_known
    }

    /// A batch is lost: what becomes of each of its requests, in their order. Nothing of a batch that
    /// is not waited for.
    pub fn lost(&mut self, now: Time, batch: BatchId, mut each: impl FnMut(Verdict)) {
        self.again.retain(|_, deadline| *deadline > now);
        self.take(batch, |again, lost, SentRequest { request, is_again }| {
            let why = match (is_again, request.deadline > now) {
                (true, _) => GivenUp::LostTwice,
                (false, false) => GivenUp::Late,
                (false, true) => {
                    again.insert(request.id, request.deadline);
                    return each(Verdict::Resubmit { model: lost.model, request });
                }
            };
            each(Verdict::GiveUp { request, accelerator: lost.accelerator, why });
        });
    }

    /// A batch comes back from an accelerator that runs no more, and has not begun: its requests are
    /// submitted again, those whose deadline is over are given up. No request is to blame for that, so
    /// it does not count as the one time that it is scheduled again.
    pub fn handed_back(&mut self, now: Time, batch: BatchId, mut each: impl FnMut(Verdict)) {
        self.take(batch, |again, back, SentRequest { request, is_again }| {
            if request.deadline <= now {
                let (accelerator, why) = (back.accelerator, GivenUp::Late);
                return each(Verdict::GiveUp { request, accelerator, why });
            }
            if is_again {
                again.insert(request.id, request.deadline);
            }
            each(Verdict::Resubmit { model: back.model, request });
        });
    }

    /// A request that was submitted has its outcome without having been sent: it was dropped, or not
    /// taken.
    pub fn dropped(&mut self, request: RequestId) {
        if !self.again.is_empty() {
            self.again.remove(&request);
        }
    }

    /// The life of a frontend is over: none of its requests is submitted again.
    pub fn forget(&mut self, origin: Origin) {
        self.again.retain(|id, _| id.origin() != origin);
        for batch in self.sent.values_mut() {
            batch.requests.retain(|sent| sent.request.id.origin() != origin);
        }
    }

    /// Where a batch runs that is waited for, and whose it is.
    #[must_use]
    pub fn batch(&self, batch: BatchId) -> Option<(AcceleratorId, ModelId)> {
        self.sent.get(&batch).map(|sent| (sent.accelerator, sent.model))
    }

    /// Batches that are waited for.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.sent.len()
    }

    /// Requests that were submitted again and are not known to have been sent.
    #[must_use]
    pub fn resubmitted(&self) -> usize {
        self.again.len()
    }

    /// Takes a batch out and gives its requests to `each`.
    fn take(
        &mut self,
        batch: BatchId,
        mut each: impl FnMut(&mut BTreeMap<RequestId, Time>, &SentBatch, SentRequest),
    ) {
        let Some(taken) = self.sent.remove(&batch) else { return };
        for sent in &taken.requests {
            each(&mut self.again, &taken, *sent);
        }
        self.keep_room(taken.requests);
    }

    fn keep_room(&mut self, mut requests: Vec<SentRequest>) {
        requests.clear();
        self.spare.push(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Class;
    use crate::slowdown::Slowdown;
    use crate::time::Span;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const MODEL: ModelId = ModelId::first(3);

    /// A request of one of two frontends that is due at this time.
    fn request(number: u64, deadline: u64) -> Request {
        let origin = Origin::new(u16::from(number >= 100), 0);
        Request {
            id: RequestId::new(origin, number),
            arrival: Time::ZERO,
            deadline: Time(deadline),
            rows: 1,
            class: Class::High,
        }
    }

    fn send(ledger: &mut Ledger, batch: u64, requests: &[Request]) {
        let start = Start {
            batch: BatchId(batch),
            accelerator: AcceleratorId(7),
            model: MODEL,
            requests: 0..requests.len(),
            rows: 1,
            begin: Time::ZERO,
            exec: Span(1),
            slowdown: Slowdown::ONE,
            behind: false,
        };
        ledger.sent(&start, requests);
    }

    fn verdicts(act: impl FnOnce(&mut dyn FnMut(Verdict))) -> String {
        let mut lines = Vec::new();
        act(&mut |verdict| {
            lines.push(match verdict {
                Verdict::Resubmit { model, request } => format!("{} again to {model}", request.id),
                Verdict::GiveUp { request, accelerator, why } => {
                    format!("{} failed: {} {}", request.id, accelerator.0, why.text())
                }
            });
        });
        lines.join("\n")
    }

    #[track_caller]
    fn lose(ledger: &mut Ledger, now: u64, batch: u64, expected: &Expect) {
        expected.assert_eq(&verdicts(|each| ledger.lost(Time(now), BatchId(batch), each)));
    }

    #[test]
    fn a_request_is_scheduled_again_once_and_while_its_deadline_allows() {
        let mut ledger = Ledger::default();
        send(&mut ledger, 0, &[request(1, 10), request(2, 20)]);
        lose(
            &mut ledger,
            10,
            0,
            &expect![[r"
                0.0.1 failed: 7 was lost with the batch, and the request's deadline is over
                0.0.2 again to 3.0"]],
        );
        lose(&mut ledger, 10, 0, &expect![""]);
        assert!(!ledger.ended(BatchId(0)), "its late end is of no interest");
        send(&mut ledger, 1, &[request(2, 20), request(3, 20)]);
        assert_eq!((ledger.batches(), ledger.resubmitted()), (1, 0));
        lose(
            &mut ledger,
            11,
            1,
            &expect![[r"
                0.0.2 failed: 7 was lost with the batch, and so was the one that ran the request before
                0.0.3 again to 3.0"]],
        );
        assert_eq!((ledger.batches(), ledger.resubmitted()), (0, 1));
        lose(&mut ledger, 20, 1, &expect![""]);
        assert_eq!(ledger.resubmitted(), 0, "it is due");
    }

    #[test]
    fn what_never_began_is_not_counted_as_lost() {
        let mut ledger = Ledger::default();
        send(&mut ledger, 0, &[request(1, 10), request(2, 20)]);
        let back = |ledger: &mut Ledger, now, batch| {
            verdicts(|each| ledger.handed_back(Time(now), BatchId(batch), each))
        };
        expect![[r"
            0.0.1 again to 3.0
            0.0.2 again to 3.0"]]
        .assert_eq(&back(&mut ledger, 5, 0));
        send(&mut ledger, 1, &[request(1, 10), request(2, 20)]);
        lose(
            &mut ledger,
            6,
            1,
            &expect![[r"
                0.0.1 again to 3.0
                0.0.2 again to 3.0"]],
        );
        send(&mut ledger, 2, &[request(1, 10), request(2, 20)]);
        expect![[r"
            0.0.1 failed: 7 was lost with the batch, and the request's deadline is over
            0.0.2 again to 3.0"]]
        .assert_eq(&back(&mut ledger, 10, 2));
        send(&mut ledger, 3, &[request(2, 20)]);
        lose(
            &mut ledger,
            11,
            3,
            &expect![
                "0.0.2 failed: 7 was lost with the batch, and so was the one that ran the request before"
            ],
        );
    }

    #[test]
    fn nothing_is_done_again_for_a_frontend_that_is_over() {
        let mut ledger = Ledger::default();
        send(&mut ledger, 0, &[request(1, 10), request(100, 10)]);
        send(&mut ledger, 1, &[request(2, 10), request(101, 10)]);
        lose(
            &mut ledger,
            1,
            0,
            &expect![[r"
                0.0.1 again to 3.0
                1.0.100 again to 3.0"]],
        );
        ledger.forget(Origin::new(1, 0));
        assert_eq!((ledger.batches(), ledger.resubmitted()), (1, 1));
        lose(&mut ledger, 1, 1, &expect!["0.0.2 again to 3.0"]);
        ledger.dropped(request(1, 10).id);
        ledger.dropped(request(2, 10).id);
        assert_eq!(ledger.resubmitted(), 0);
    }

    proptest! {
        /// Whatever happens to batches: of each request that a lost one had there is one verdict, and
        /// no request is submitted again for a lost batch a second time.
        #[test]
        fn each_request_of_a_lost_batch_has_one_verdict(
            fates in prop::collection::vec((0usize..4, 1u64..30), 1..60),
        ) {
            let mut ledger = Ledger::default();
            let (mut queued, mut again): (Vec<Request>, BTreeSet<RequestId>) = Default::default();
            for (at, (fate, deadline)) in (0u64..).zip(fates) {
                queued.push(request(at, at + deadline));
                let batch = std::mem::take(&mut queued);
                send(&mut ledger, at, &batch);
                let mut told = Vec::new();
                let mut decide = |verdict| {
                    let (Verdict::Resubmit { request, .. } | Verdict::GiveUp { request, .. }) = verdict;
                    told.push(request);
                    if let Verdict::Resubmit { model, request } = verdict {
                        assert_eq!((model, request.deadline > Time(at)), (MODEL, true));
                        queued.push(request);
                    }
                };
                match fate {
                    0 => assert!(ledger.ended(BatchId(at))),
                    1 => ledger.handed_back(Time(at), BatchId(at), &mut decide),
                    _ => ledger.lost(Time(at), BatchId(at), &mut decide),
                }
                prop_assert!(fate == 0 || told == batch);
                for request in queued.iter().filter(|_| fate > 1) {
                    prop_assert!(again.insert(request.id), "lost twice and submitted again");
                }
                prop_assert_eq!(ledger.batches(), 0);
                prop_assert!(ledger.resubmitted() <= queued.len());
            }
        }
    }
}
