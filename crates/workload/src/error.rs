//! Why a workload cannot be generated.

use symphony_core::{ModelId, Span};

/// A description that makes no request stream.
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
        /// The given one.
        cv: f64,
    },
    /// Bursts without length.
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
        /// The given one.
        factor: f64,
    },
    /// A schedule's points that do not follow each other in time.
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
        /// Which number.
        what: &'static str,
        /// The given one.
        value: f64,
    },
    /// Weights for another number of models.
    #[error("{weights} weights for {models} models: give one weight per model")]
    Weights {
        /// How many weights were given.
        weights: usize,
        /// For how many models.
        models: usize,
    },
}
