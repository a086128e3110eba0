//! What the scheduler knows of a request: never its tensors, only when it is due and how big it is.

use crate::ids::RequestId;
use crate::time::{Span, Time};

/// One inference of one or more rows; never split over batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identity, unique among the requests in flight.
    pub id: RequestId,
    /// When the frontend received it.
    pub arrival: Time,
    /// When its answer has to be with the client.
    pub deadline: Time,
    /// Rows along the batch dimension, at least one.
    pub rows: u32,
    /// Whether others go first.
    pub class: Class,
}

/// How requests of one pool take precedence over each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Served first.
    #[default]
    High,
    /// Served with what the high ones leave, and with the share that the pool keeps for it.
    Low,
}

impl Class {
    /// Both, in the order of precedence and of figures by class.
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

/// Why a request was taken out of its queue without running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Not even alone, started now, would it meet its deadline.
    Hopeless,
    /// Kept, it would have forced a batch too small for the measured load, and more of the
    /// requests behind it would have been late (window drop).
    Overload,
    /// The model's queue already held its bound.
    QueueFull,
    /// The model's queue held its bound, and a high request took the place of this low one.
    Evicted,
    /// The request has more rows than the model's largest batch.
    TooLarge,
    /// The model was removed while the request was queued.
    Unloaded,
}

impl DropReason {
    /// Every reason, in the order of the counters that count them.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// Scheduler to accelerator: from the decision until the backend acts on it.
    pub control: Span,
    /// Per row: the backend fetches and places the input.
    pub data: Span,
    /// Backend to client: from the end of execution until the answer is sent.
    pub response: Span,
    /// How late timers fire: a wait for the last moment ends that much earlier.
    pub jitter: Span,
}

impl Delays {
    /// From the decision until a batch of `rows` rows can start on a free accelerator.
    #[must_use]
    pub fn lead(&self, rows: u32) -> Span {
        self.control + self.data.times(u64::from(rows))
    }

    /// The same delays, those around the execution of one row shrunk alike to take at most `room`.
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
