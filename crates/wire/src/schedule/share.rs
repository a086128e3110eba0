//! One answer from several: each of those who were asked holds a share, adds its part and lets go
//! of it; the last one to let go sends the answer.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// A share in an answer; clones are further shares in the same one.
#[derive(Clone, Debug)]
pub struct Share<T: Default>(Arc<Gathered<T>>);

#[derive(Debug)]
struct Gathered<T: Default> {
    answer: Mutex<T>,
    reply: Option<oneshot::Sender<T>>,
}

impl<T: Default> Share<T> {
    /// The first share, and where the answer arrives when the last is gone.
    #[must_use]
    pub fn new() -> (Share<T>, oneshot::Receiver<T>) {
        let (reply, answer) = oneshot::channel();
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
            // The caller may have given up.
            let _ = reply.send(std::mem::take(answer));
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
