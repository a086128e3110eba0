//! Why a workload cannot be generated.

use symphony_core::{ModelId, Span};

/// A description from which no requests can be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// A rate that is zero, negative or not a number.
    #[error(
        "the rate of model {} is {rate}: it must be a positive number of requests per second",
        .model.slot()
    )]
    Rate {
        /// The stream's model.
        model: ModelId,
        /// Its rate.
        rate: f64,
    },
    /// Requests without rows.
    #[error("the requests of model {} have no rows: give each at least one", .model.slot())]
    Rows {
        /// The stream's model.
        model: ModelId,
    },
    /// A coefficient of variation that the gamma process does not have.
    #[error("the coefficient of variation is {cv}: it must lie between 0.01 and 100")]
    Variation {
        /// The value that was given.
        cv: f64,
    },
    /// Bursts of no length.
    #[error("bursts of {on} with pauses of {off}: bursts must be longer than zero")]
    Bursts {
        /// Mean length of a burst.
        on: Span,
        /// Mean length of a pause.
        off: Span,
    },
    /// A schedule's factor that is negative or not a number.
    #[error("the schedule has the factor {factor}: factors must be numbers from 0 to 1000000")]
    Factor {
        /// The value that was given.
        factor: f64,
    },
    /// Points of a schedule that are not in order of time.
    #[error("the schedule has {at} after {before}: its times must grow")]
    Order {
        /// The earlier entry.
        before: Span,
        /// The later entry, which is not later in time.
        at: Span,
    },
    /// A schedule without any requests.
    #[error("the schedule has no time with a positive factor: no request would ever arrive")]
    Silent,
    /// A popularity that is not a set of weights.
    #[error("{what} is {value}: popularity needs numbers of at least zero, not all of them zero")]
    Popularity {
        /// The name of the number.
        what: &'static str,
        /// The value that was given.
        value: f64,
    },
    /// Weights for a different number of models.
    #[error("{weights} weights for {models} models: give one weight per model")]
    Weights {
        /// The number of weights.
        weights: usize,
        /// The number of models.
        models: usize,
    },
}
