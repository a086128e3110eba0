//! Loads models ahead of the thread that puts them into service: several at a time, as many as
//! cores and memory allow. Their trial runs and measurements still come one at a time, because each
//! waits for a gap of its accelerator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, available_parallelism};
use std::time::Duration;
use symphony_backend::loader::{
    LoadError, LoadedModel, Loader, Stage, memory_available, memory_needed,
};
use symphony_backend::repository::ModelSource;

/// The most loads at a time: each has threads of its own.
const LOADS_MAX: usize = 16;

/// The part of the free memory that loads under way may take.
const MEMORY_PART: u64 = 2;

/// How often to look whether the threads are still there: one that panics cannot tell.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A version of a model, by name and number.
type Version = (String, u64);

/// The loads of some models.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    loader: Arc<Loader>,
    /// Bound on what the loads under way need together, unless there is only one.
    memory: u64,
    loads: Mutex<Loads>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Loads {
    waiting: VecDeque<ModelSource>,
    states: BTreeMap<Version, State>,
    /// What the loads under way need.
    memory: u64,
}

#[derive(Debug)]
enum State {
    /// Waits, or is under way.
    Expected,
    Ended(Box<Result<LoadedModel, LoadError>>),
}

impl Ahead {
    /// Begins to load, in this order.
    pub(super) fn start(loader: &Arc<Loader>, sources: Vec<ModelSource>) -> Ahead {
        let expected =
            |source: &ModelSource| ((source.name.clone(), source.version), State::Expected);
        let threads = available_parallelism().map_or(1, usize::from) + 1;
        let threads = threads.min(LOADS_MAX).min(sources.len());
        for source in &sources {
            loader.tell(&source.name, Stage::Waiting);
        }
        let states = sources.iter().map(expected).collect();
        let shared = Arc::new(Shared {
            loader: Arc::clone(loader),
            memory: memory_available() / MEMORY_PART,
            loads: Mutex::new(Loads { waiting: sources.into(), states, memory: 0 }),
            changed: Condvar::new(),
        });
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            let thread = Builder::new().name(format!("loads-{number}"));
            if let Err(error) = thread.spawn(move || shared.work()) {
                tracing::warn!("fewer models are loaded at a time: no thread: {error}");
            }
        }
        Ahead { shared }
    }

    /// What became of a load, once it has ended. None where it is not, or no longer, among the
    /// loads.
    pub(super) fn take(&self, name: &str, version: u64) -> Option<Result<LoadedModel, LoadError>> {
        let version = (name.to_owned(), version);
        let mut loads = self.shared.lock();
        loop {
            match loads.states.remove(&version)? {
                State::Ended(ended) => return Some(*ended),
                State::Expected if self.is_idle() => return None,
                State::Expected => {
                    loads.states.insert(version.clone(), State::Expected);
                    loads = self.shared.wait(loads);
                }
            }
        }
    }

    /// Whether no thread is there to load what is expected.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl Drop for Ahead {
    /// Loads that have not begun are given up.
    fn drop(&mut self) {
        self.shared.lock().waiting.clear();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, loads: MutexGuard<'a, Loads>) -> MutexGuard<'a, Loads> {
        let waited = self.changed.wait_timeout(loads, LOOK_AGAIN);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(self: Arc<Shared>) {
        while let Some((source, memory)) = self.next() {
            let version = (source.name.clone(), source.version);
            // Gives up what is expected of this load should it panic.
            let under_way = UnderWay { shared: &self, memory, version: &version };
            let ended = self.loader.load_version(source);
            let ended = State::Ended(Box::new(ended));
            self.lock().states.insert(version.clone(), ended);
            drop(under_way);
        }
    }

    /// The next to load and what it needs, once there is memory for it.
    fn next(&self) -> Option<(ModelSource, u64)> {
        let mut loads = self.lock();
        loop {
            let needed = memory_needed(loads.waiting.front()?);
            if loads.memory == 0 || loads.memory.saturating_add(needed) <= self.memory {
                loads.memory = loads.memory.saturating_add(needed);
                return Some((loads.waiting.pop_front()?, needed));
            }
            loads = self.wait(loads);
        }
    }
}

/// A load that has begun.
struct UnderWay<'a> {
    shared: &'a Shared,
    memory: u64,
    version: &'a Version,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut loads = self.shared.lock();
        loads.memory = loads.memory.saturating_sub(self.memory);
        if matches!(loads.states.get(self.version), Some(State::Expected)) {
            loads.states.remove(self.version);
        }
        drop(loads);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use symphony_backend::repository::Repository;

    #[test]
    fn each_load_is_given_out_once_and_a_failure_leaves_the_others() {
        let folder = Folder::new();
        for number in 0..40 {
            folder.write(&format!("m{number:02}"), 1);
        }
        folder.write_within("hasty", 100, 1);
        let scan = Repository::open(&folder.models()).unwrap().scan().unwrap();
        let sources: Vec<_> = scan.models.iter().map(|model| model.read().unwrap()).collect();
        let loader = Arc::new(Loader::new(folder.config(1).loader));
        let ahead = Ahead::start(&loader, sources.clone());
        for source in sources.iter().rev() {
            let ended = ahead.take(&source.name, source.version).unwrap();
            assert_eq!(ended.is_err(), source.name == "hasty");
            assert!(ahead.take(&source.name, source.version).is_none(), "it is gone");
        }
        assert!(ahead.take("unknown", 1).is_none());
    }
}
