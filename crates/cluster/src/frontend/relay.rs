//! The task that reads what a frontend's ports take, and sends it on: many messages with one write when
//! many have come. A request that was submitted by a task of the same runtime is sent on by the thread
//! that submitted it.

use super::questions::Asker;
use super::shared::Shared;
use std::future::poll_fn;
use std::sync::Arc;
use symphony_wire::carrier::in_process::{
    FrontendToShard, MatcherInbox, MatcherQuestion, Received, RepositoryQuestion, ShardInbox,
    ShardQuestion, ThreadInbox,
};
use symphony_wire::message::link::{FrontendToScheduler, Question};
use tokio::sync::mpsc;

/// Messages of one sender that are sent together at most.
const BURST_MAX: usize = 1024;

/// Reads until every port is gone.
pub(crate) async fn run(inbox: ThreadInbox, shared: Arc<Shared>) {
    let ThreadInbox { doorbell, mut shards, matcher, .. } = inbox;
    let (Some((_, shard)), Some(matcher)) = (shards.pop(), matcher) else { return };
    let mut relay = Relay { shard, matcher, asked: Vec::new(), shared };
    let mut listener = doorbell.listen_as_task();
    while relay.take() {
        // Where there is always something others have their turn now and then.
        tokio::task::coop::consume_budget().await;
        poll_fn(|context| listener.poll_wait(context, || relay.is_pending())).await;
    }
}

struct Relay {
    shard: ShardInbox,
    matcher: MatcherInbox,
    asked: Vec<Asked>,
    shared: Arc<Shared>,
}

impl Relay {
    /// Sends on what has come. Returns whether anybody can send more.
    fn take(&mut self) -> bool {
        self.submit();
        self.matcher.drain(BURST_MAX, |received| {
            if let Received::Question(question) = received {
                self.asked.push(Asked::Matcher(question));
            }
        });
        self.asked.drain(..).for_each(|asked| ask(&self.shared, asked));
        !(self.shard.is_closed() && self.matcher.is_closed())
    }

    /// Whether something has come.
    fn is_pending(&mut self) -> bool {
        !self.shard.is_empty() || !self.matcher.is_empty()
    }

    /// Sends on what is for the shards.
    fn submit(&mut self) {
        let mut scheduling = self.shared.scheduling();
        let now = self.shared.clock.now();
        self.shard.drain(BURST_MAX, |received| match received {
            Received::Message(FrontendToShard::Submit { model, request }) => {
                scheduling.submit(now, model, request);
            }
            Received::Message(FrontendToShard::Cancel { model, request, deadline }) => {
                scheduling.cancel(now, model, request, deadline);
            }
            // Before the requests that it was given for.
            Received::Question(ShardQuestion::SetProfile {
                model,
                size: Some(size),
                reply,
                ..
            }) => {
                scheduling.give_lane(model, size);
                reply.answer(());
            }
            Received::Question(question) => self.asked.push(Asked::Shard(question)),
        });
        let refused = scheduling.flush();
        drop(scheduling);
        self.shared.refuse(refused);
    }
}

enum Asked {
    Shard(ShardQuestion),
    Matcher(MatcherQuestion),
}

/// Sends a question on. What a port asks of every shard and of the matcher is asked once: the
/// scheduler asks its own.
fn ask(shared: &Shared, asked: Asked) {
    let question = |question| |number| FrontendToScheduler::Question { number, question };
    match asked {
        Asked::Shard(ShardQuestion::Statistics(share)) => {
            shared.ask(Asker::Statistics(share), question(Question::Statistics));
        }
        Asked::Shard(ShardQuestion::SetMode(mode, share)) => {
            shared.ask(Asker::Mode(share), question(Question::SetMode(mode)));
        }
        Asked::Matcher(MatcherQuestion::Serve(serve, reply)) => {
            shared.ask(Asker::Serve(reply), question(Question::Serve(serve)));
        }
        Asked::Matcher(MatcherQuestion::Statistics(_) | MatcherQuestion::SetMode(..)) => {}
        other => tracing::error!("a frontend asked what only the owner of models asks: {other}"),
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Asked::Shard(question) => write!(f, "{question:?}"),
            Asked::Matcher(question) => write!(f, "{question:?}"),
        }
    }
}

/// Sends the commands for the loader of models on.
pub(crate) async fn relay_commands(
    mut commands: mpsc::Receiver<RepositoryQuestion>,
    shared: Arc<Shared>,
) {
    while let Some(RepositoryQuestion { command, reply }) = commands.recv().await {
        let send = |number| FrontendToScheduler::Command { number, command };
        shared.ask(Asker::Command(reply), send);
    }
}
