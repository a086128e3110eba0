//! The thread that reads what a frontend's ports take, and sends it on: many messages with one write
//! when many have come.

use super::questions::Asker;
use super::shared::Shared;
use std::io;
use std::sync::Arc;
use std::thread::Builder;
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::{
    FrontendToShard, MatcherQuestion, Received, RepositoryQuestion, ShardQuestion, ThreadInbox,
};
use symphony_wire::message::link::{FrontendToScheduler, Question};
use tokio::sync::mpsc;

/// Messages of one sender that are sent together at most.
const BURST_MAX: usize = 1024;

/// Reads until every port is gone.
pub(crate) fn start(inbox: ThreadInbox, shared: Arc<Shared>) -> io::Result<()> {
    let thread = Builder::new().name("relay".to_owned());
    thread.spawn(move || run(inbox, &shared)).map(drop)
}

fn run(inbox: ThreadInbox, shared: &Shared) {
    let ThreadInbox { doorbell, mut shards, matcher, .. } = inbox;
    let (Some((_, mut shard)), Some(mut matcher)) = (shards.pop(), matcher) else { return };
    let mut listener = doorbell.listen(Spin::NEVER);
    let mut asked = Vec::new();
    loop {
        let mut scheduling = shared.scheduling();
        let now = shared.clock.now();
        shard.drain(BURST_MAX, |received| match received {
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
            Received::Question(question) => asked.push(Asked::Shard(question)),
        });
        let refused = scheduling.flush();
        drop(scheduling);
        shared.refuse(refused);
        matcher.drain(BURST_MAX, |received| {
            if let Received::Question(question) = received {
                asked.push(Asked::Matcher(question));
            }
        });
        asked.drain(..).for_each(|asked| ask(shared, asked));
        if shard.is_closed() && matcher.is_closed() {
            return;
        }
        listener.wait(None, || !shard.is_empty() || !matcher.is_empty());
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
