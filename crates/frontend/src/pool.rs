//! What the protocols ask of the pool behind the scheduler: its counters, its mode, and which
//! accelerators serve.
//!
//! Requests do not pass here (`admission` submits them); a question waits for its answer, up to a
//! bound.

use crate::error::InferError;
use crate::quote::brief;
use std::time::Duration;
use symphony_core::AcceleratorId;
use symphony_wire::carrier::in_process::{SchedulerPort, SubmitError};
use symphony_wire::message::{AcceleratorState, Mode, Statistics};
use tokio::sync::oneshot;

/// How long the scheduler may take to answer a question.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Asks the scheduler about its pool, and has it changed.
#[derive(Debug)]
pub(crate) struct PoolClient {
    scheduler: SchedulerPort,
}

impl PoolClient {
    pub(crate) fn new(scheduler: SchedulerPort) -> PoolClient {
        PoolClient { scheduler }
    }

    /// How many accelerators serve. Reads a published number and waits for nobody.
    ///
    /// # Errors
    /// The scheduler has stopped.
    pub(crate) fn serving(&self) -> Result<u32, InferError> {
        Ok(self.scheduler.serving()?)
    }

    /// The scheduler's counters.
    ///
    /// # Errors
    /// The scheduler does not answer.
    pub(crate) async fn statistics(&self) -> Result<Statistics, InferError> {
        answered(self.scheduler.statistics()).await
    }

    /// The mode that the pool is scheduled by.
    ///
    /// # Errors
    /// The scheduler does not answer.
    pub(crate) async fn mode(&self) -> Result<Mode, InferError> {
        Ok(self.statistics().await?.mode)
    }

    /// Schedules the pool by another mode, and returns once it is in force.
    ///
    /// # Errors
    /// The scheduler has no room for the message, or does not answer.
    pub(crate) async fn set_mode(&self, mode: Mode) -> Result<(), InferError> {
        answered(self.scheduler.set_mode(mode)).await
    }

    /// The state of each accelerator, by number.
    ///
    /// # Errors
    /// The scheduler does not answer.
    pub(crate) async fn accelerators(&self) -> Result<Vec<AcceleratorState>, InferError> {
        let statistics = self.statistics().await?;
        Ok(statistics.accelerators.iter().map(|accelerator| accelerator.state).collect())
    }

    /// Has an accelerator serve, or drains it; returns its identity and its state from then on.
    ///
    /// # Errors
    /// The pool has no such accelerator, or the scheduler has no room for the message, or does not
    /// answer.
    pub(crate) async fn serve(
        &self,
        name: &str,
        serves: bool,
    ) -> Result<(AcceleratorId, AcceleratorState), InferError> {
        let unknown = || {
            InferError::NotFound(format!(
                "there is no accelerator {:?}: /v2/scheduler/accelerators lists them by number",
                brief(name)
            ))
        };
        let accelerator = AcceleratorId(name.parse().map_err(|_| unknown())?);
        let state = answered(self.scheduler.serve(accelerator, serves)).await?;
        Ok((accelerator, state.ok_or_else(unknown)?))
    }
}

/// What the scheduler answers, if it took the question and answers soon.
async fn answered<T>(asked: Result<oneshot::Receiver<T>, SubmitError>) -> Result<T, InferError> {
    let answer = tokio::time::timeout(ANSWER_WAIT, asked?).await;
    answer.ok().and_then(Result::ok).ok_or_else(|| {
        InferError::Unavailable("the scheduler does not answer: try again".to_owned())
    })
}
