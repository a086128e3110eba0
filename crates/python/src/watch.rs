//! The threads that watch over one Python process. One holds it to its memory, and waits for nothing
//! else; the other has it started again, with its models, when it was lost.

use crate::state::{Recovery, State};
use crate::watched::{News, Watched};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often memory is looked at. A script can take a few hundred MiB in this time.
const PERIOD: Duration = Duration::from_millis(50);

/// Holds the process to its memory until the worker is dropped.
pub(crate) fn hold(watched: &Weak<Watched>, max: u64) {
    while let Some(watched) = watched.upgrade() {
        watched.hold(max);
        drop(watched);
        thread::sleep(PERIOD);
    }
}

/// Has lost models loaded again until the worker is dropped.
pub(crate) fn restore(state: &Weak<Mutex<State>>, news: &Receiver<News>) {
    let mut retry: Option<Instant> = None;
    loop {
        let heard = match retry {
            Some(retry) => news.recv_timeout(retry.saturating_duration_since(Instant::now())),
            None => news.recv().map_err(RecvTimeoutError::from),
        };
        match heard {
            Ok(News::Ended(life)) => {
                let Some(state) = state.upgrade() else { return };
                state.lock().unwrap_or_else(PoisonError::into_inner).ended(life);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(next) = recover(state) else { return };
        retry = next;
    }
}

/// Has everything loaded again that is due. When something else is; `None` if nobody needs it.
fn recover(state: &Weak<Mutex<State>>) -> Option<Option<Instant>> {
    loop {
        // Others have their turn in between.
        let state = state.upgrade()?;
        let step = state.lock().unwrap_or_else(PoisonError::into_inner).recover();
        if let Recovery::Done(next) = step {
            return Some(next);
        }
    }
}
