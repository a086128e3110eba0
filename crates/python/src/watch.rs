//! The thread that watches over one Python process: it holds it to its memory, and has it started
//! again, with its models, when it was lost.

use crate::state::{Recovery, State};
use crate::watched::{News, Watched};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often memory is looked at. A script can take a few hundred MiB in this time.
const PERIOD: Duration = Duration::from_millis(50);

/// Watches until the worker is dropped.
pub(crate) fn watch(
    state: &Weak<Mutex<State>>,
    watched: &Watched,
    news: &Receiver<News>,
    memory_max: Option<u64>,
) {
    let mut retry: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let until = retry.map(|retry| retry.saturating_duration_since(now));
        let patience = [until, memory_max.map(|_| PERIOD)].into_iter().flatten().min();
        let heard = match patience {
            Some(patience) => news.recv_timeout(patience),
            None => news.recv().map_err(RecvTimeoutError::from),
        };
        let is_due = match heard {
            Ok(News::Ended(life)) => {
                let Some(state) = state.upgrade() else { return };
                state.lock().unwrap_or_else(PoisonError::into_inner).ended(life);
                true
            }
            Err(RecvTimeoutError::Timeout) => retry.is_some_and(|retry| retry <= Instant::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Some(max) = memory_max {
            watched.hold(max);
        }
        if is_due {
            let Some(next) = recover(state) else { return };
            retry = next;
        }
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
