//! The links of backends to this frontend: they fetch the inputs of the requests that they are to run,
//! and bring the outcomes.

use super::shared::Shared;
use bytes::Bytes;
use std::sync::Arc;
use symphony_core::RequestId;
use symphony_wire::carrier::link::{
    Hello, Incoming, Link, LinkPurpose, LinkSender, Listener, NotAllSent, Role, SendError,
};
use symphony_wire::message::Outcome;
use symphony_wire::message::link::{BackendToFrontend, Fetch, FrontendToBackend};

/// Takes the links of backends from now on.
pub(crate) async fn accept(listener: Listener, name: String, shared: Arc<Shared>) {
    let own = Hello {
        role: Role::Frontend,
        purpose: LinkPurpose::Data,
        name,
        life: 0,
        capabilities: 0,
        details: Bytes::new(),
    };
    loop {
        let incoming = listener.accept().await;
        let (own, shared) = (own.clone(), Arc::clone(&shared));
        tokio::spawn(async move { serve(incoming, own, &shared).await });
    }
}

async fn serve(incoming: Incoming, own: Hello, shared: &Shared) {
    let hello = incoming.hello();
    if (hello.role, hello.purpose) != (Role::Backend, LinkPurpose::Data) {
        return incoming.refuse("only backends fetch inputs here");
    }
    let (life, name) = (hello.life, hello.name.clone());
    if shared.backends().is_gone(life) {
        return incoming.refuse("this life of the backend is over");
    }
    let link: Link<BackendToFrontend, FrontendToBackend> = incoming.welcome(&own);
    let Link { sender, mut receiver, .. } = link;
    if let Err(why) = shared.backends().arrived(life, sender.clone()) {
        return sender.close(&why);
    }
    tracing::debug!(backend = %name, "the backend is connected");
    let numbers = shared.scheduling().outstanding().mended(life);
    if !numbers.is_empty() {
        // The end of the link is noticed where it is read.
        let _ = sender.send(&FrontendToBackend::Awaited { numbers });
    }
    let ended = loop {
        let each = |message: symphony_wire::carrier::Timed<BackendToFrontend>| {
            shared.take_from(life, &sender, message.message);
        };
        if let Err(error) = receiver.drain(each).await {
            break error;
        }
    };
    tracing::debug!(backend = %name, "the backend's link has ended: {ended}");
    // Unless it has connected again already.
    let was_last = shared.backends().ended(life, &sender);
    if was_last {
        shared.left_behind(|outstanding| outstanding.cut(life));
    }
}

impl Shared {
    fn take_from(
        &self,
        life: u64,
        sender: &LinkSender<FrontendToBackend>,
        message: BackendToFrontend,
    ) {
        match message {
            BackendToFrontend::Fetch(fetch) => self.give_inputs(life, sender, &fetch),
            BackendToFrontend::Outcome { number, outcome } => {
                self.take_outcome(life, number, outcome);
            }
            BackendToFrontend::NotRun { number } => {
                let id = RequestId::new(self.origin, number);
                self.left_behind(|outstanding| outstanding.not_run(id, life));
            }
        }
    }

    /// Sends the inputs that a backend asks for. A plan of a former scheduler gets none: its requests
    /// were submitted to the next.
    fn give_inputs(&self, life: u64, sender: &LinkSender<FrontendToBackend>, fetch: &Fetch) {
        let ids = fetch.numbers.iter().map(|number| RequestId::new(self.origin, *number));
        let granted: Vec<_> = {
            let mut scheduling = self.scheduling();
            let outstanding = scheduling.outstanding();
            ids.map(|id| (id, outstanding.fetched(id, life, fetch.epoch))).collect()
        };
        let inputs = granted.into_iter().map(|(id, is_granted)| {
            let inputs = if is_granted { self.in_flight.fetch(id) } else { None };
            let number = id.number();
            match inputs {
                Some(inputs) => FrontendToBackend::Inputs { number, inputs },
                None => FrontendToBackend::NoInputs { number },
            }
        });
        let inputs: Vec<_> = inputs.collect();
        let mut rest = &inputs[..];
        while let Err(NotAllSent { sent, error }) = sender.send_all(rest) {
            let SendError::TooLarge { .. } = error else {
                // The backend does without the rest.
                return tracing::warn!("inputs are not sent: {error}");
            };
            if let Some(FrontendToBackend::Inputs { number, .. }) = rest.get(sent) {
                self.too_large(sender, *number, &error);
            }
            rest = rest.get(sent + 1..).unwrap_or_default();
        }
    }

    /// The inputs of a request are longer than backends take: it is answered, and its batch does
    /// without it.
    fn too_large(&self, sender: &LinkSender<FrontendToBackend>, number: u64, error: &SendError) {
        let id = RequestId::new(self.origin, number);
        self.scheduling().outstanding().ended(id);
        let text = format!("its inputs cannot be sent: {error} (cluster.frame_max_mib)");
        self.in_flight.settle(id, Outcome::Failed(text));
        let _ = sender.send(&FrontendToBackend::NoInputs { number });
    }

    /// Takes how a request ended from the backend that has it.
    fn take_outcome(&self, life: u64, number: u64, outcome: Outcome) {
        let id = RequestId::new(self.origin, number);
        {
            let mut scheduling = self.scheduling();
            let outstanding = scheduling.outstanding();
            if !outstanding.is_fetched_by(id, life) {
                tracing::debug!(%id, "an outcome came that nobody waits for");
                return;
            }
            outstanding.ended(id);
        }
        self.in_flight.settle(id, outcome);
    }
}
