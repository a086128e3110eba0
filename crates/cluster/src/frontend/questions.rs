//! What a frontend has asked of the scheduler, and who waits for the answer.

use crate::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use symphony_wire::carrier::in_process::{Reply, Share};
use symphony_wire::message::link::Answered;
use symphony_wire::message::{AcceleratorState, RepositoryError, Statistics};

/// Bound on questions that wait for their answers. A scheduler cuts off who asks more.
pub(crate) const QUESTIONS_MAX: usize = 4096;

/// Who waits for an answer. Let go without one it says that there is none.
#[derive(Debug)]
pub(crate) enum Asker {
    Statistics(Share<Statistics>),
    Mode(Share<()>),
    Serve(Reply<Option<AcceleratorState>>),
    Command(Reply<Result<(), RepositoryError>>),
}

impl Asker {
    fn answer(self, answer: Answered) {
        match (self, answer) {
            (Asker::Statistics(share), Answered::Statistics(statistics)) => {
                share.add(|all| *all = *statistics);
            }
            (Asker::Mode(_share), Answered::Mode) => {}
            (Asker::Serve(reply), Answered::Serves(state)) => reply.answer(state),
            (Asker::Command(reply), Answered::Command(result)) => reply.answer(result),
            (_, Answered::Failed(why)) => tracing::warn!("the scheduler does not answer: {why}"),
            (asker, answer) => tracing::warn!("{asker:?} was answered with {answer:?}"),
        }
    }
}

/// Whoever waits, by the number of the question.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    askers: HashMap<u64, Asker>,
}

impl Questions {
    /// Keeps whoever asks. Returns the number of the question; `None` when too many wait.
    pub(crate) fn keep(&self, asker: Asker) -> Option<u64> {
        let mut waiting = lock(&self.0);
        if waiting.askers.len() >= QUESTIONS_MAX {
            return None;
        }
        waiting.next += 1;
        let number = waiting.next;
        waiting.askers.insert(number, asker);
        Some(number)
    }

    /// Answers a question. One that was given up is no error.
    pub(crate) fn answered(&self, number: u64, answer: Answered) {
        let asker = self.take(number);
        if let Some(asker) = asker {
            asker.answer(answer);
        }
    }

    pub(crate) fn take(&self, number: u64) -> Option<Asker> {
        lock(&self.0).askers.remove(&number)
    }

    /// The scheduler that was asked is gone: nobody answers.
    pub(crate) fn give_up(&self) {
        let mut waiting = lock(&self.0);
        let askers = std::mem::take(&mut waiting.askers);
        drop(waiting);
        drop(askers);
    }
}
