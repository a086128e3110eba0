//! Room for the requests of batch plans. The scheduler fills it, the accelerator that ran the batch
//! gives it back: in the steady state a plan allocates nothing.

use crate::message::PlannedRequest;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Bound on buffers kept; more than batches are under way at a time on a large pool. What is given
/// back beyond it is freed.
const BUFFERS_MAX: usize = 1024;

/// Buffers that are free to use; clones share them.
#[derive(Clone, Debug)]
pub struct PlanBuffers {
    give: Sender<Vec<PlannedRequest>>,
    take: Receiver<Vec<PlannedRequest>>,
}

impl Default for PlanBuffers {
    fn default() -> PlanBuffers {
        let (give, take) = bounded(BUFFERS_MAX);
        PlanBuffers { give, take }
    }
}

impl PlanBuffers {
    /// An empty buffer, one that was used before if there is any.
    #[must_use]
    pub fn take(&self) -> Vec<PlannedRequest> {
        self.take.try_recv().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give_back(&self, mut buffer: Vec<PlannedRequest>) {
        buffer.clear();
        // One too many is freed.
        let _ = self.give.try_send(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{Class, RequestId, Span};

    #[test]
    fn a_buffer_is_used_again_and_empty() {
        let buffers = PlanBuffers::default();
        let mut buffer = buffers.take();
        buffer.reserve(100);
        let (id, age, budget) = (RequestId::only(1), Span::ZERO, Span::ZERO);
        buffer.push(PlannedRequest { id, age, budget, rows: 1, class: Class::High });
        buffers.clone().give_back(buffer);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 100);
        assert_eq!(buffers.take().capacity(), 0, "there was one");
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let buffers = PlanBuffers::default();
        (0..2 * BUFFERS_MAX).for_each(|_| buffers.give_back(Vec::with_capacity(1)));
        let kept = (0..2 * BUFFERS_MAX).filter(|_| buffers.take().capacity() > 0).count();
        assert_eq!(kept, BUFFERS_MAX);
    }
}
