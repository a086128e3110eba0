//! What waking a thread costs on this machine, whatever the program: the floor of every figure of a
//! server whose threads sleep most of the time.

use super::process::{Used, threads, used_since};
use anyhow::{Context, Result};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};
use symphony_exchange::{Doorbell, Spin, ring};

/// The name of both threads.
const NAME: &str = "bare";

/// What one thread says to the other.
enum Call {
    Answer,
    End,
}

/// Two threads wake each other `rate` times a second, for so long, and do nothing else; what they
/// used.
///
/// # Errors
/// There is no thread to be had, or no `/proc`.
pub(crate) fn wake_ups(rate: f64, time: Duration) -> Result<Used> {
    let stop = Arc::new(AtomicBool::new(false));
    let (here, there) = (Doorbell::new(), Doorbell::new());
    let (mut calls, mut called) = ring(1, there.ringer());
    let (mut answers, mut answered) = ring(1, here.ringer());
    let callee = move || {
        let mut listener = there.listen(Spin::NEVER);
        loop {
            listener.wait(None, || !called.is_empty());
            match called.pop() {
                Some(Call::Answer) => drop(answers.send(())),
                Some(Call::End) => return,
                None => {}
            }
        }
    };
    let is_over = Arc::clone(&stop);
    let every = Duration::from_secs_f64(1.0 / rate);
    let caller = move || {
        let mut listener = here.listen(Spin::NEVER);
        let mut due = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            due += every;
            listener.wait(Some(due), || false);
            // The ring is empty: the last call was answered.
            let _ = calls.send(Call::Answer);
            while answered.pop().is_none() {
                listener.wait(None, || !answered.is_empty());
            }
        }
        let _ = calls.send(Call::End);
    };
    let start = |work: Box<dyn FnOnce() + Send>| {
        Builder::new().name(NAME.to_owned()).spawn(work).context("cannot start a thread")
    };
    let both = [start(Box::new(caller))?, start(Box::new(callee))?];
    let before = threads(process::id())?;
    sleep(time);
    let used = used_since(&before, &threads(process::id())?);
    stop.store(true, Ordering::Relaxed);
    both.into_iter().for_each(|thread| drop(thread.join()));
    used.into_iter().find(|used| used.name == NAME).context("two threads never slept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_threads_sleep_and_end() {
        let used = wake_ups(1000.0, Duration::from_millis(500)).unwrap();
        assert!(used.sleeps > 0, "{used:?}");
    }
}
