//! A client in the same process: the same checks, deadlines, outcomes and counters as over a
//! socket, without the socket.

use crate::admission::AdmissionBounds;
use crate::context::ApiContext;
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse, InputTensor};
use crate::services::Services;
use std::sync::Arc;
use std::time::Duration;
use symphony_wire::clock::span;

/// Submits requests to the system it was made with; clones are the same client.
#[derive(Clone, Debug)]
pub struct InProcess {
    context: Arc<ApiContext>,
}

impl InProcess {
    /// A client of a system that serves no sockets. Where it does, ask the server for one
    /// ([`Bound::in_process`](crate::Bound::in_process)), so that all are counted together.
    #[must_use]
    pub fn new(services: &Services) -> InProcess {
        InProcess::of(Arc::new(ApiContext::new(services, AdmissionBounds::default())))
    }

    pub(crate) fn of(context: Arc<ApiContext>) -> InProcess {
        InProcess { context }
    }

    /// Runs one request on the served version of a model, within the model's objective or the
    /// given limit, whichever is earlier. Dropping the future cancels the request.
    ///
    /// # Errors
    /// The request was refused, dropped, late, or failed.
    pub async fn infer(
        &self,
        model: &str,
        inputs: Vec<InputTensor>,
        timeout: Option<Duration>,
    ) -> Result<InferResponse, InferError> {
        let arrival = self.context.clock.now();
        let handle = self.context.target(model, "")?;
        let request = InferRequest {
            id: String::new(),
            inputs,
            outputs: Vec::new(),
            arrival,
            limit: timeout.map(span),
            class: None,
        };
        self.context.infer(&handle, "", request, self.context.budget().account()).await
    }

    /// The metrics page as text.
    pub async fn metrics(&self) -> String {
        self.context.metrics_page().await
    }
}
