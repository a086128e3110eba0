//! The threads on which sessions compute.
//!
//! A thread inherits the priority of the one that starts it, and models are loaded on threads that
//! give way to others. So one thread of usual priority starts all that compute.

use crossbeam_channel::{Sender, bounded};
use ort::environment::ThreadManager;
use std::io;
use std::thread::{Builder, JoinHandle};

/// Bound on the starts that wait.
const STARTS_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

struct Start {
    work: Work,
    started: Sender<io::Result<JoinHandle<()>>>,
}

/// Starts threads; clones have the same one do it.
#[derive(Clone, Debug)]
pub(super) struct ThreadStarter {
    starts: Sender<Start>,
}

impl ThreadStarter {
    /// Starts the thread that starts threads, with the priority of this one.
    ///
    /// # Errors
    /// The system has no room for it.
    pub(super) fn new() -> io::Result<ThreadStarter> {
        let (starts, asked) = bounded::<Start>(STARTS_MAX);
        Builder::new().name("engine-threads".to_owned()).spawn(move || {
            for Start { work, started } in asked {
                // Whoever asked waits for the answer.
                let _ = started.send(Builder::new().name("engine".to_owned()).spawn(work));
            }
        })?;
        Ok(ThreadStarter { starts })
    }
}

impl ThreadManager for ThreadStarter {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<JoinHandle<()>> {
        let (started, thread) = bounded(1);
        let start = Start { work: Box::new(work), started };
        let failed = |why: String| ort::Error::new(format!("cannot start a thread: {why}"));
        self.starts.send(start).map_err(|_| failed("the starting thread has ended".to_owned()))?;
        let thread =
            thread.recv().map_err(|_| failed("the starting thread has ended".to_owned()))?;
        thread.map_err(|error| failed(error.to_string()))
    }

    fn join(thread: JoinHandle<()>) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of the engine panicked"))
    }
}
