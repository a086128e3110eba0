//! What the scheduler knows of a request: when it is due and how many rows it has, never its tensors.

use crate::ids::RequestId;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// One inference of one or more rows. It is never split over batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its identity, unique among the requests in flight.
    pub id: RequestId,
    /// When the frontend received it.
    pub arrival: Time,
    /// When its answer has to be with the client. Of a best-effort request it is the last moment at
    /// which an answer is of use, and no objective.
    pub deadline: Time,
    /// Rows along the batch dimension, at least one.
    pub rows: u32,
    /// Whether other requests go first.
    pub class: Class,
}

/// The latency that the answers of a model should have, and what it means when they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objective {
    /// Promised: a request is answered within it, or dropped.
    Slo(Span),
    /// Best effort: batches are planned for it and latencies are compared with it. No request is
    /// dropped for it.
    Soft(Span),
}

impl Objective {
    /// The longest that a request may take without an objective, where nobody sets another bound.
    pub const REQUEST_MAX_DEFAULT: Span = Span::from_secs(60);

    /// The objective of a model for which nobody stated one: room to wait for a batch and to run it,
    /// in whole milliseconds.
    #[must_use]
    pub fn soft(one_row: Span) -> Objective {
        let least = Span::from_millis(100);
        let span = least.max(one_row.times(4));
        Objective::Soft(Span::from_millis(span.0.div_ceil(1_000_000)))
    }

    /// The latency.
    #[must_use]
    pub const fn span(self) -> Span {
        match self {
            Objective::Slo(span) | Objective::Soft(span) => span,
        }
    }

    /// Whether nothing is promised.
    #[must_use]
    pub const fn is_soft(self) -> bool {
        matches!(self, Objective::Soft(_))
    }
}

/// The priority of a request among those of its pool.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Class {
    /// Served first.
    #[default]
    High,
    /// Served with what high requests leave, and with the share that the pool keeps for low ones.
    Low,
}

impl Class {
    /// Both classes, high first; figures by class have this order.
    pub const ALL: [Class; 2] = [Class::High, Class::Low];

    /// A short name for configuration, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::High => "high",
            Class::Low => "low",
        }
    }
}

/// Why a request is dropped: answered without running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// It would not meet its deadline even alone and started now.
    Hopeless,
    /// It would have forced a batch too small for the measured load, and more of the requests behind it
    /// would have been late (window drop).
    Overload,
    /// The model's queue was full.
    QueueFull,
    /// The model's queue was full, and a high request took the place of this low one.
    Evicted,
    /// The request has more rows than the model's largest batch.
    TooLarge,
    /// The model is not there, or takes no more requests.
    Unloaded,
}

impl DropReason {
    /// Every reason; counters by reason have this order.
    pub const ALL: [DropReason; 6] = [
        DropReason::Hopeless,
        DropReason::Overload,
        DropReason::QueueFull,
        DropReason::Evicted,
        DropReason::TooLarge,
        DropReason::Unloaded,
    ];

    /// A short name for metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Hopeless => "hopeless",
            DropReason::Overload => "overload",
            DropReason::QueueFull => "queue_full",
            DropReason::Evicted => "evicted",
            DropReason::TooLarge => "too_large",
            DropReason::Unloaded => "unloaded",
        }
    }
}

/// Delays between a decision and its effect, measured on the running system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// The control delay, scheduler to accelerator: from the decision until the backend acts on it,
    /// and what fetching the inputs of any batch takes, however small it is.
    pub control: Span,
    /// The data delay: what each row adds to fetching the inputs. A batch that runs meanwhile is not
    /// held up by it.
    pub data: Span,
    /// The response delay, backend to client: from the end of execution until the answer is sent.
    pub response: Span,
    /// How late timers fire. Whatever waits for a last moment is woken that much earlier.
    pub jitter: Span,
}

impl Delays {
    /// From the decision until a batch of `rows` rows can start on a free accelerator.
    #[must_use]
    pub fn lead(&self, rows: u32) -> Span {
        self.control + self.data.times(u64::from(rows))
    }

    /// The same delays, shrunk alike so that those around the execution of one row take at most `room`.
    pub(crate) fn within(&self, room: Span) -> Delays {
        let taken = self.lead(1) + self.response;
        if taken <= room {
            return *self;
        }
        let share = room.0 as f64 / taken.0 as f64;
        let shrunk = |span: Span| Span::from_millis_f64(span.as_millis_f64() * share);
        Delays {
            control: shrunk(self.control),
            data: shrunk(self.data),
            response: shrunk(self.response),
            jitter: self.jitter,
        }
    }
}
