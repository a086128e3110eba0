//! The link to one frontend: its requests, its questions, and the end of its life.

use super::acting::{Acting, until_acting};
use super::members::Told;
use super::publish;
use super::routes::FrontendRoute;
use crate::frontend::QUESTIONS_MAX;
use std::sync::Arc;
use symphony_core::{DropReason, Origin, Span};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::SubmitError;
use symphony_wire::carrier::link::{Hello, Incoming, Link, LinkSender};
use symphony_wire::message::link::{
    Answered, FrontendAddress, FrontendToScheduler, Question, SchedulerToFrontend,
};
use symphony_wire::message::{RepositoryCommand, RepositoryError, Submit};
use tokio::sync::{Semaphore, watch};

pub(crate) async fn serve(
    incoming: Incoming,
    own: &Hello,
    mut standing_by: watch::Receiver<Option<Arc<Acting>>>,
) {
    let Ok(address) = postcard::from_bytes::<FrontendAddress>(&incoming.hello().details) else {
        return incoming.refuse("the frontend does not say where its inputs are fetched");
    };
    let link: Link<FrontendToScheduler, SchedulerToFrontend> = incoming.welcome(own);
    let Link { peer, sender, mut receiver } = link;
    let Some(acting) = until_acting(&mut receiver, &mut standing_by).await else { return };
    let (origin, life) = (address.origin, peer.life);
    let address = FrontendAddress { name: peer.name, life, ..address };
    // Before anything else is said to it.
    let welcome = SchedulerToFrontend::Welcome { epoch: acting.epoch };
    let route = FrontendRoute { address, sender: sender.clone() };
    if sender.send(&welcome).is_err() {
        return;
    }
    if !acting.routes.add_frontend(route) {
        return sender.close(
            "another frontend with the same origin is connected: restart this one if that lasts",
        );
    }
    let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let frontend = Frontend { acting, sender, origin, questions };
    frontend.welcome().await;
    let ended = loop {
        if let Err(error) = receiver.drain(|message| frontend.take(message)).await {
            break error;
        }
    };
    frontend.gone(&ended.to_string()).await;
}

struct Frontend {
    acting: Arc<Acting>,
    sender: LinkSender<SchedulerToFrontend>,
    origin: Origin,
    /// One for each question or command that may wait for its answer.
    questions: Arc<Semaphore>,
}

impl Frontend {
    fn send(&self, message: &SchedulerToFrontend) {
        if let Err(error) = self.sender.send(message) {
            self.sender.close(&error.to_string());
        }
    }

    async fn welcome(&self) {
        let Acting { catalog, port, .. } = &*self.acting;
        self.send(&SchedulerToFrontend::Catalog(Box::new(publish::image(&catalog.load()))));
        self.send(&SchedulerToFrontend::Serving(port.serving().unwrap_or(0)));
        self.acting.members.tell(Told::Frontends).await;
        tracing::info!(origin = %self.origin, "a frontend is connected");
    }

    async fn gone(&self, why: &str) {
        let Acting { routes, port, effects, members, .. } = &*self.acting;
        tracing::info!(origin = %self.origin, "a frontend is gone: {why}");
        // Its requests are let go of in one step. A scheduler that has stopped has none. A batch that
        // is lost or sent meanwhile brings none back.
        effects.forget(self.origin);
        let _ = port.forget(self.origin);
        effects.forget(self.origin);
        // It may come back from here on, and what it submits then is not let go of.
        routes.remove_frontend(self.origin);
        members.tell(Told::Frontends).await;
    }

    fn take(&self, Timed { at, message }: Timed<FrontendToScheduler>) {
        match message {
            FrontendToScheduler::Submit(submit) => self.submit(Timed::new(at, submit)),
            FrontendToScheduler::Cancel(cancel) if cancel.id.origin() != self.origin => {
                self.sender.close("the end of a request of another origin");
            }
            FrontendToScheduler::Cancel(cancel) => {
                self.acting.port.cancel(Timed::new(at, cancel));
            }
            FrontendToScheduler::LaneSize { lane, size } => self.lane_size(lane, size),
            FrontendToScheduler::SizeCounts { model, counts } => {
                let catalog = self.acting.catalog.load();
                if let Some(model) = catalog.served().find(|served| served.id == model) {
                    model.lanes.add_counts(&counts);
                }
            }
            FrontendToScheduler::Question { number, question } => self.question(number, question),
            FrontendToScheduler::Command { number, command } => self.command(number, command),
        }
    }

    fn submit(&self, submit: Timed<Submit>) {
        let id = submit.message.id;
        if id.origin() != self.origin {
            return self.sender.close("a request of another origin");
        }
        let refusal = match self.acting.port.submit(submit) {
            Ok(()) => return,
            Err(SubmitError::Full) => SchedulerToFrontend::Dropped {
                id,
                reason: DropReason::QueueFull,
                queued: Span::ZERO,
            },
            Err(error @ SubmitError::Stopped) => {
                SchedulerToFrontend::Failed { id, text: error.to_string() }
            }
        };
        self.send(&refusal);
    }

    /// A lane is given to requests of this size: its batches are planned by what such requests cost.
    fn lane_size(&self, lane: symphony_core::ModelId, size: u64) {
        let catalog = self.acting.catalog.load();
        let profile = catalog.served().find_map(|model| model.lanes.profile_at(lane, size));
        if let Some(profile) = profile {
            // Where there is no room to say so, the lane is planned as before.
            let _ = self.acting.port.set_profile(lane, Arc::new(profile));
        }
    }

    fn question(&self, number: u64, question: Question) {
        let port = &self.acting.port;
        match question {
            Question::Statistics => {
                self.answer(number, port.statistics(), |counters| {
                    Answered::Statistics(Box::new(counters))
                });
            }
            Question::SetMode(mode) => {
                self.answer(number, port.set_mode(mode), |()| Answered::Mode);
            }
            Question::Serve(serve) => {
                let asked = port.serve(serve.accelerator, serve.serves);
                self.answer(number, asked, Answered::Serves);
            }
        }
    }

    /// Sends the answer of a question once it is there.
    fn answer<T: Send + 'static>(
        &self,
        number: u64,
        asked: Result<tokio::sync::oneshot::Receiver<T>, SubmitError>,
        answered: impl FnOnce(T) -> Answered + Send + 'static,
    ) {
        self.answer_by(number, async move {
            let answer = match asked {
                Ok(asked) => asked.await.map_err(|_| SubmitError::Stopped),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => answered(answer),
                Err(error) => Answered::Failed(error.to_string()),
            }
        });
    }

    /// Has a task of its own find an answer and send it. A frontend asks no more at once than it may.
    fn answer_by(&self, number: u64, find: impl Future<Output = Answered> + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            return self.sender.close(&format!("more than {QUESTIONS_MAX} questions at once"));
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let answer = find.await;
            // Before the frontend can ask the next. A link that has ended needs no answer.
            drop(permit);
            let _ = sender.send(&SchedulerToFrontend::Answer { number, answer });
        });
    }

    fn command(&self, number: u64, command: RepositoryCommand) {
        let repository = self.acting.repository.clone();
        self.answer_by(number, async move {
            let result: Result<(), RepositoryError> = match command {
                RepositoryCommand::Load { model } => repository.load(model).await,
                RepositoryCommand::Unload { model } => repository.unload(model).await,
                RepositoryCommand::Reload => repository.reload().await,
            };
            Answered::Command(result)
        });
    }
}
