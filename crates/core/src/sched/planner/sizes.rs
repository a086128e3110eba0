//! The three numbers that say how large the batches of all models have to be.

/// What the load asks of the batches of all models alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSizes {
    /// Between batches of one row (0) and full ones (1): the smallest with which the accelerators,
    /// and half of the batches that the scheduler sustains, suffice for the load.
    pub(super) stretch: f64,
    /// How many nanoseconds of waiting a nanosecond of an accelerator is worth, so that the accelerators
    /// are not used too much to start batches without waiting; `None` where even full batches use more.
    pub(super) price: Option<f64>,
    /// One where full batches can serve the load, zero in overload.
    pub(super) calm: f64,
    /// How many times larger than needed a batch may grow at the cost of heads that are dropped: one,
    /// but where what a batch leaves behind has no other accelerator to go to.
    pub(super) backlog: f64,
}
