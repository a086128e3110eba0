//! The end of threads, which never holds up the end of the server.

use std::any::Any;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// How often to look whether a thread has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits for a thread to end, no longer than said. Returns whether it has. The log names a thread
/// that has not ended, or that panicked.
pub(crate) fn join_within(thread: JoinHandle<()>, wait: Duration) -> bool {
    let name = thread.thread().name().unwrap_or("without a name").to_owned();
    let until = Instant::now() + wait;
    while !thread.is_finished() {
        if Instant::now() >= until {
            tracing::error!(thread = name, "the thread has not ended: the server ends without it");
            return false;
        }
        sleep(LOOK_EVERY);
    }
    if let Err(panic) = thread.join() {
        tracing::error!(thread = name, "the thread panicked: {}", message(panic.as_ref()));
    }
    true
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::spawn;

    #[test]
    fn a_thread_that_does_not_end_is_left() {
        let (hold, held) = channel::<()>();
        let thread = spawn(move || while held.recv().is_ok() {});
        assert!(!join_within(thread, Duration::ZERO));
        drop(hold);
        let long = Duration::from_secs(3600);
        assert!(join_within(spawn(|| {}), long));
        assert!(join_within(spawn(|| panic!("asked to")), long));
    }
}
