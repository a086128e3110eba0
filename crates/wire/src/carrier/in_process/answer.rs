//! The ways of answers. A [`Reply`] comes from one receiver of a question. Where several are asked at
//! once each holds a [`Share`], adds its part and drops it; dropping the last share sends the answer.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// The way back for one answer. Dropped without one it tells the asker that there will be none.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// A way back, and where the answer arrives.
    #[must_use]
    pub fn new() -> (Reply<T>, oneshot::Receiver<T>) {
        let (reply, answer) = oneshot::channel();
        (Reply(reply), answer)
    }

    /// Answers. The asker may have given up, which is no error.
    pub fn answer(self, answer: T) {
        let _ = self.0.send(answer);
    }
}

/// A share in an answer; clones are further shares in the same one.
#[derive(Clone, Debug)]
pub struct Share<T: Default>(Arc<Gathered<T>>);

#[derive(Debug)]
struct Gathered<T: Default> {
    answer: Mutex<T>,
    reply: Option<Reply<T>>,
}

impl<T: Default> Share<T> {
    /// The first share, and where the answer arrives when the last is gone.
    #[must_use]
    pub fn new() -> (Share<T>, oneshot::Receiver<T>) {
        let (reply, answer) = Reply::new();
        let gathered = Gathered { answer: Mutex::default(), reply: Some(reply) };
        (Share(Arc::new(gathered)), answer)
    }

    /// Adds to the answer.
    pub fn add(&self, add: impl FnOnce(&mut T)) {
        add(&mut self.0.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<T: Default> Drop for Gathered<T> {
    fn drop(&mut self) {
        let answer = self.answer.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = self.reply.take() {
            reply.answer(std::mem::take(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_let_go_sends_what_all_added() {
        let (first, mut answer) = Share::<Vec<u32>>::new();
        let second = first.clone();
        second.add(|numbers| numbers.push(2));
        drop(second);
        assert!(answer.try_recv().is_err(), "one is missing");
        first.add(|numbers| numbers.push(1));
        drop(first);
        assert_eq!(answer.try_recv(), Ok(vec![2, 1]));
    }
}
