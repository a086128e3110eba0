//! Work that gives way to everything else the machine does.

use std::io;
use std::panic::resume_unwind;
use std::thread;

/// How nice the threads are that load models: a tenth of a core is theirs where all are busy, so
/// that a load ends on a machine that never is idle.
const NICENESS: i32 = 10;

/// Has something done on a thread of its own that yields its core to others, and waits for it. The
/// threads that it starts do so as well.
///
/// # Errors
/// The system has no room for another thread.
pub(crate) fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, || {
            // On Linux this is about the calling thread alone. Without it the work is done as well.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            work()
        })?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_on_a_nicer_thread_and_a_panic_comes_back() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(in_background(nice).unwrap(), NICENESS.max(before));
        assert_eq!(nice(), before);
        let panic = std::panic::catch_unwind(|| in_background(|| panic!("asked to")));
        assert!(panic.is_err());
    }
}
