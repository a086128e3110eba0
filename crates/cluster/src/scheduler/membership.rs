//! Which backends are there, what each of them has loaded, and which of their accelerators serve.
//!
//! Every accelerator of a pool can run every model: a backend's accelerators serve once it has loaded
//! whatever plans may name, and stop when something is missing. What a backend still lacks is ordered
//! as soon as it is known: *wanted* versions have lanes that plans name, *sought* ones are being loaded
//! for the first time.
//!
//! A version that a backend cannot load though plans name it is ordered again after a pause, which
//! doubles with each failure. Once it is settled what plans name, backends forget whatever else they have
//! from earlier schedulers.
//!
//! A pure state machine: events and times go in by calls, [`Step`]s come out. It knows no link and no
//! clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use symphony_core::sched::ACCELERATORS_MAX;
use symphony_core::{AcceleratorId, ModelId, Span, Time};
use symphony_wire::message::VersionKey;

/// So many lives that are over are remembered: more than backends come and go within minutes.
const GONE_MAX: usize = 4096;

/// How long after a failure a version is ordered again, for the first time and at most.
const RETRY_MIN: Span = Span::from_millis(1_000);
const RETRY_MAX: Span = Span::from_millis(60_000);

/// A backend in one of its lives, as this scheduler numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackendKey(pub(crate) u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Have a backend load a version; the number comes back with its answer.
    Load { backend: BackendKey, number: u64, version: VersionKey },
    /// Have a backend run the plans for these lanes with a version it has loaded, by its own name of it.
    Bind { backend: BackendKey, number: u64, version: VersionKey, lanes: Vec<ModelId> },
    /// Have a backend give a model up; the number comes back with its answer.
    Unload { backend: BackendKey, number: u64, model: ModelId },
    /// Have a backend free a version, by its own name of it, that no plan names.
    Forget { backend: BackendKey, number: u64, version: VersionKey },
    /// Send batches to these accelerators.
    Serve(Vec<AcceleratorId>),
    /// Send no more batches to these accelerators until they serve again.
    Drain(Vec<AcceleratorId>),
    /// These accelerators are gone, and with them whatever they ran.
    Gone(Vec<AcceleratorId>),
}

/// Why a backend was not taken into the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A backend of this name is there.
    #[error("a backend named {0:?} is in the pool already: give each a --name of its own")]
    Name(String),
    /// This life was given up.
    #[error("this life of the backend is over: it was silent for too long")]
    LifeOver,
    /// It brings nothing.
    #[error("the backend has no accelerator")]
    Empty,
    /// There are too many.
    #[error("the pool has {ACCELERATORS_MAX} accelerators, the most there may be")]
    Full,
}

/// What a backend says of itself when it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) name: String,
    pub(crate) life: u64,
    /// How many accelerators it has.
    pub(crate) accelerators: usize,
    /// What it has loaded.
    pub(crate) loaded: BTreeSet<VersionKey>,
    /// The accelerators, by place, that still run a batch of an earlier scheduler.
    pub(crate) running: BTreeSet<usize>,
}

#[derive(Debug)]
struct Backend {
    name: String,
    life: u64,
    accelerators: Vec<AcceleratorId>,
    loaded: BTreeSet<VersionKey>,
    /// What it calls the versions for which that is something else: it may see files otherwise.
    own: BTreeMap<VersionKey, VersionKey>,
    /// Loads that were ordered and not answered.
    ordered: BTreeSet<VersionKey>,
    /// The loads that failed.
    failed: BTreeMap<VersionKey, Failure>,
    /// What it was told to bind to lanes and has not answered, by the number of the newest order.
    binding: BTreeMap<VersionKey, u64>,
    bound: BTreeSet<VersionKey>,
    running: BTreeSet<usize>,
    serves: bool,
    /// It is about to end.
    is_leaving: bool,
}

/// A load that failed.
#[derive(Clone, Debug)]
struct Failure {
    why: String,
    /// It is ordered again then; how long that was after the failure.
    due: Time,
    pause: Span,
}

impl Backend {
    /// What it calls a version.
    fn own(&self, version: &VersionKey) -> VersionKey {
        self.own.get(version).unwrap_or(version).clone()
    }

    fn has_failed(&mut self, version: VersionKey, why: String, now: Time) {
        let before = self.failed.get(&version).map(|failure| failure.pause + failure.pause);
        let pause = before.map_or(RETRY_MIN, |pause| pause.min(RETRY_MAX));
        self.failed.insert(version, Failure { why, due: now + pause, pause });
    }

    fn gives_up(&mut self, version: &VersionKey) {
        self.bound.remove(version);
        self.binding.remove(version);
        self.loaded.remove(version);
        self.own.remove(version);
    }
}

/// What was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ordered {
    Load(VersionKey),
    Bind(VersionKey),
    /// Or to forget.
    Unload,
}

/// Where the first load of a version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Not every backend that counts has answered.
    UnderWay,
    /// It is loaded.
    Loaded,
    /// No backend can load it.
    Failed(String),
}

/// The backends of a pool.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    backends: BTreeMap<BackendKey, Backend>,
    taken: BTreeSet<AcceleratorId>,
    wanted: BTreeMap<VersionKey, Vec<ModelId>>,
    sought: BTreeSet<VersionKey>,
    /// Whatever plans will name is wanted or sought.
    is_settled: bool,
    /// The newest time that this was told.
    now: Time,
    /// Orders that were not answered.
    orders: BTreeMap<u64, (BackendKey, Ordered)>,
    gone: VecDeque<u64>,
    next_backend: u64,
    next_order: u64,
}

impl Membership {
    /// Takes a backend into the pool. Returns its key and the numbers of its accelerators.
    pub(crate) fn arrived(
        &mut self,
        arrival: Arrival,
        steps: &mut Vec<Step>,
    ) -> Result<(BackendKey, Vec<AcceleratorId>), Refusal> {
        if self.gone.contains(&arrival.life) {
            return Err(Refusal::LifeOver);
        }
        if arrival.accelerators == 0 {
            return Err(Refusal::Empty);
        }
        if self.backends.values().any(|backend| backend.name == arrival.name) {
            return Err(Refusal::Name(arrival.name));
        }
        let accelerators = self.free_numbers(arrival.accelerators).ok_or(Refusal::Full)?;
        self.taken.extend(&accelerators);
        let key = BackendKey(self.next_backend);
        self.next_backend += 1;
        let backend = Backend {
            name: arrival.name,
            life: arrival.life,
            accelerators: accelerators.clone(),
            loaded: arrival.loaded,
            own: BTreeMap::new(),
            ordered: BTreeSet::new(),
            failed: BTreeMap::new(),
            binding: BTreeMap::new(),
            bound: BTreeSet::new(),
            running: arrival.running,
            serves: false,
            is_leaving: false,
        };
        self.backends.insert(key, backend);
        self.reconcile(key, steps);
        Ok((key, accelerators))
    }

    /// The lowest numbers that no backend has.
    fn free_numbers(&self, count: usize) -> Option<Vec<AcceleratorId>> {
        let free = (0..ACCELERATORS_MAX).map(AcceleratorId).filter(|id| !self.taken.contains(id));
        let numbers: Vec<_> = free.take(count).collect();
        (numbers.len() == count).then_some(numbers)
    }

    /// A backend's life is over.
    pub(crate) fn left(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        let Some(backend) = self.backends.remove(&key) else { return };
        self.orders.retain(|_, (of, _)| *of != key);
        for accelerator in &backend.accelerators {
            self.taken.remove(accelerator);
        }
        self.gone.push_back(backend.life);
        while self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
        steps.push(Step::Gone(backend.accelerators));
    }

    /// A backend is about to end: its accelerators get no more batches. Returns whether that is new.
    pub(crate) fn leaving(&mut self, key: BackendKey, steps: &mut Vec<Step>) -> bool {
        let Some(backend) = self.backends.get_mut(&key) else { return false };
        if std::mem::replace(&mut backend.is_leaving, true) {
            return false;
        }
        self.reconcile(key, steps);
        true
    }

    /// What the accelerators of a backend are called.
    pub(crate) fn accelerators_of(&self, key: BackendKey) -> Vec<AcceleratorId> {
        self.backends.get(&key).map(|backend| backend.accelerators.clone()).unwrap_or_default()
    }

    /// The version that a backend was ordered to load by this number.
    pub(crate) fn ordered(&self, key: BackendKey, number: u64) -> Option<VersionKey> {
        match self.orders.get(&number)? {
            (of, Ordered::Load(version)) if *of == key => Some(version.clone()),
            _ => None,
        }
    }

    /// Name and life of a backend.
    pub(crate) fn identity(&self, key: BackendKey) -> Option<(&str, u64)> {
        self.backends.get(&key).map(|backend| (backend.name.as_str(), backend.life))
    }

    /// A backend has loaded a version, and calls it by another name. Said before it is answered.
    pub(crate) fn is_called(&mut self, key: BackendKey, version: &VersionKey, own: VersionKey) {
        if let Some(backend) = self.backends.get_mut(&key) {
            backend.own.remove(version);
            if own != *version {
                backend.own.insert(version.clone(), own);
            }
        }
    }

    /// Whether what was ordered by this number has failed before, for this reason.
    pub(crate) fn has_failed_so(&self, key: BackendKey, number: u64, why: &str) -> bool {
        let ordered = self.orders.get(&number).filter(|(of, _)| *of == key);
        let Some((_, Ordered::Load(version) | Ordered::Bind(version))) = ordered else {
            return false;
        };
        let failed = self.backends.get(&key).and_then(|backend| backend.failed.get(version));
        failed.is_some_and(|failure| failure.why == why)
    }

    /// It is this time. Orders again what failed and is due.
    pub(crate) fn at(&mut self, now: Time, steps: &mut Vec<Step>) {
        self.now = now;
        let mut due = Vec::new();
        for (key, backend) in &mut self.backends {
            let failed = backend.failed.iter().filter(|(_, failure)| failure.due <= now);
            let again = failed.map(|(version, _)| version);
            let again = again.filter(|version| self.wanted.contains_key(*version));
            let again: Vec<_> =
                again.filter(|version| !backend.ordered.contains(*version)).cloned().collect();
            backend.ordered.extend(again.iter().cloned());
            due.extend(again.into_iter().map(|version| (*key, version)));
        }
        for (backend, version) in due {
            let number = self.order(backend, Ordered::Load(version.clone()));
            steps.push(Step::Load { backend, number, version });
        }
    }

    /// When the next load is ordered again.
    pub(crate) fn next_retry(&self) -> Option<Time> {
        let due = self.backends.values().flat_map(|backend| {
            let failed = backend.failed.iter().filter(|(version, _)| {
                self.wanted.contains_key(*version) && !backend.ordered.contains(*version)
            });
            failed.map(|(_, failure)| failure.due)
        });
        due.min()
    }

    /// What plans will name is wanted by now, or sought for somebody. Whatever else backends have is
    /// forgotten.
    pub(crate) fn settle(
        &mut self,
        is_awaited: impl Fn(&VersionKey) -> bool,
        steps: &mut Vec<Step>,
    ) {
        self.is_settled = true;
        self.sought.retain(is_awaited);
        self.reconcile_all(steps);
    }

    /// A backend has answered an order: a load, with why it failed if it did, or an unload.
    pub(crate) fn answered(
        &mut self,
        key: BackendKey,
        number: u64,
        answer: Result<(), String>,
        steps: &mut Vec<Step>,
    ) {
        if self.orders.get(&number).is_none_or(|(of, _)| *of != key) {
            return;
        }
        let Some((_, ordered)) = self.orders.remove(&number) else { return };
        let now = self.now;
        let Some(backend) = self.backends.get_mut(&key) else { return };
        match (ordered, answer) {
            (Ordered::Load(version), answer) => {
                backend.ordered.remove(&version);
                match answer {
                    Ok(()) => {
                        backend.failed.remove(&version);
                        backend.loaded.insert(version);
                    }
                    Err(why) => backend.has_failed(version, why, now),
                }
            }
            (Ordered::Bind(version), answer) => {
                // A version that was bound anew meanwhile waits for the answer to that.
                if backend.binding.get(&version) == Some(&number) {
                    backend.binding.remove(&version);
                    match answer {
                        Ok(()) => drop(backend.bound.insert(version)),
                        Err(why) => {
                            backend.gives_up(&version);
                            backend.has_failed(version, why, now);
                        }
                    }
                }
            }
            (Ordered::Unload, _) => {}
        }
        self.reconcile(key, steps);
    }

    /// An accelerator has ended the batch of an earlier scheduler that it ran when it came.
    pub(crate) fn idle(&mut self, key: BackendKey, place: usize, steps: &mut Vec<Step>) {
        if let Some(backend) = self.backends.get_mut(&key) {
            backend.running.remove(&place);
            self.reconcile(key, steps);
        }
    }

    /// Has every backend load a version, now or when it comes.
    pub(crate) fn seek(&mut self, version: VersionKey, steps: &mut Vec<Step>) {
        for backend in self.backends.values_mut() {
            backend.failed.remove(&version);
        }
        self.sought.insert(version);
        self.reconcile_all(steps);
    }

    /// A version is not looked for any more, and not served.
    pub(crate) fn give_up(&mut self, version: &VersionKey) {
        self.sought.remove(version);
    }

    /// Where a load stands that was sought. It ends when each backend that serves has answered, and
    /// one has it.
    pub(crate) fn load(&self, version: &VersionKey) -> Load {
        let mut all = self.backends.values();
        let is_loaded = all.any(|backend| backend.loaded.contains(version));
        let mut waiting = self.backends.values().filter(|b| b.ordered.contains(version));
        if is_loaded && !waiting.any(|backend| backend.serves) {
            return Load::Loaded;
        }
        let all_failed = self.backends.values().all(|b| b.failed.contains_key(version));
        let why = self.backends.values().find_map(|backend| {
            let Failure { why, .. } = backend.failed.get(version)?;
            Some(format!("backend {:?}: {why}", backend.name))
        });
        match why {
            Some(why) if all_failed => Load::Failed(why),
            _ => Load::UnderWay,
        }
    }

    /// Plans name these lanes from now on: each accelerator that serves runs them with this version.
    pub(crate) fn bind(&mut self, version: VersionKey, lanes: Vec<ModelId>, steps: &mut Vec<Step>) {
        self.sought.remove(&version);
        for backend in self.backends.values_mut() {
            backend.bound.remove(&version);
            backend.binding.remove(&version);
        }
        self.wanted.insert(version, lanes);
        self.reconcile_all(steps);
    }

    /// Whether every backend that serves runs plans for this version, or has been seen not to.
    pub(crate) fn is_bound(&self, version: &VersionKey) -> bool {
        !self
            .backends
            .values()
            .any(|backend| backend.serves && backend.binding.contains_key(version))
    }

    /// No plan names a model any more. Returns how many backends were told, each by an order.
    pub(crate) fn unbind(&mut self, model: ModelId, steps: &mut Vec<Step>) -> Vec<u64> {
        let of_model = |(_, lanes): &(&VersionKey, &Vec<ModelId>)| lanes.first() == Some(&model);
        if let Some(version) = self.wanted.iter().find(of_model).map(|(version, _)| version.clone())
        {
            self.wanted.remove(&version);
            self.backends.values_mut().for_each(|backend| backend.gives_up(&version));
        }
        let keys: Vec<_> = self.backends.keys().copied().collect();
        let mut numbers = Vec::new();
        for backend in keys {
            let number = self.order(backend, Ordered::Unload);
            numbers.push(number);
            steps.push(Step::Unload { backend, number, model });
        }
        self.reconcile_all(steps);
        numbers
    }

    /// Whether an order has no answer yet.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.orders.contains_key(&number)
    }

    fn order(&mut self, backend: BackendKey, ordered: Ordered) -> u64 {
        self.next_order += 1;
        self.orders.insert(self.next_order, (backend, ordered));
        self.next_order
    }

    fn reconcile_all(&mut self, steps: &mut Vec<Step>) {
        let keys: Vec<_> = self.backends.keys().copied().collect();
        keys.into_iter().for_each(|key| self.reconcile(key, steps));
    }

    /// Orders what a backend lacks, and lets its accelerators serve when it lacks nothing.
    fn reconcile(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        self.bind_missing(key, steps);
        let Some(backend) = self.backends.get_mut(&key) else { return };
        // One that serves goes on while it is told of another model: nothing is planned for that
        // before it has answered.
        let runs = |version: &VersionKey| {
            let is_binding = backend.serves && backend.binding.contains_key(version);
            is_binding || backend.bound.contains(version)
        };
        let complete = self.wanted.keys().all(runs);
        let serves = complete && backend.running.is_empty() && !backend.is_leaving;
        if serves != backend.serves {
            backend.serves = serves;
            let accelerators = backend.accelerators.clone();
            steps.push(if serves { Step::Serve(accelerators) } else { Step::Drain(accelerators) });
        }
        self.load_missing(key, steps);
        self.forget_unwanted(key, steps);
    }

    /// Has a backend bind what it has loaded and plans name.
    fn bind_missing(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        let Some(backend) = self.backends.get_mut(&key) else { return };
        let mut missing = Vec::new();
        for (version, lanes) in &self.wanted {
            let is_done = backend.bound.contains(version) || backend.binding.contains_key(version);
            if backend.loaded.contains(version) && !is_done {
                missing.push((version.clone(), backend.own(version), lanes.clone()));
            }
        }
        for (version, own, lanes) in missing {
            let number = self.order(key, Ordered::Bind(version.clone()));
            if let Some(backend) = self.backends.get_mut(&key) {
                backend.binding.insert(version, number);
            }
            steps.push(Step::Bind { backend: key, number, version: own, lanes });
        }
    }

    /// Has a backend forget what it has and nobody wants. What it is to load may be that by another
    /// name: its answers say so.
    fn forget_unwanted(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        let Some(backend) = self.backends.get_mut(&key) else { return };
        if !self.is_settled || !backend.ordered.is_empty() {
            return;
        }
        let is_needed = |version: &VersionKey| {
            self.wanted.contains_key(version) || self.sought.contains(version)
        };
        let (needed, unwanted): (Vec<_>, Vec<_>) =
            backend.loaded.iter().cloned().partition(is_needed);
        // It may have one version by two names.
        let needed: BTreeSet<_> = needed.iter().map(|version| backend.own(version)).collect();
        let gone: BTreeSet<_> = unwanted.iter().map(|version| backend.own(version)).collect();
        unwanted.iter().for_each(|version| backend.gives_up(version));
        for version in gone.difference(&needed).cloned() {
            let number = self.order(key, Ordered::Unload);
            steps.push(Step::Forget { backend: key, number, version });
        }
    }

    /// Has a backend load what it lacks.
    fn load_missing(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        let Some(backend) = self.backends.get_mut(&key) else { return };
        let lacks = |version: &&VersionKey| {
            !(backend.loaded.contains(*version)
                || backend.ordered.contains(*version)
                || backend.failed.contains_key(*version))
        };
        let versions = self.wanted.keys().chain(&self.sought);
        let missing: Vec<_> = versions.filter(lacks).cloned().collect();
        backend.ordered.extend(missing.iter().cloned());
        for version in missing {
            let number = self.order(key, Ordered::Load(version.clone()));
            steps.push(Step::Load { backend: key, number, version });
        }
    }

    /// Whether anybody has a version, or wants it.
    pub(crate) fn knows(&self, version: &VersionKey) -> bool {
        let has = |backend: &Backend| {
            backend.loaded.contains(version) || backend.ordered.contains(version)
        };
        self.wanted.contains_key(version)
            || self.sought.contains(version)
            || self.backends.values().any(has)
    }

    /// How many accelerators there are, whether they serve or not.
    pub(crate) fn accelerators(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: BackendKey = BackendKey(0);

    fn version(name: &str) -> VersionKey {
        VersionKey { name: name.to_owned(), version: 1, fingerprint: "a".to_owned() }
    }

    fn arrival(name: &str, life: u64, accelerators: usize) -> Arrival {
        Arrival { name: name.to_owned(), life, accelerators, ..Arrival::default() }
    }

    fn numbers(ids: std::ops::Range<u32>) -> Vec<AcceleratorId> {
        ids.map(AcceleratorId).collect()
    }

    /// What one call asks for.
    fn steps(work: impl FnOnce(&mut Vec<Step>)) -> Vec<Step> {
        let mut steps = Vec::new();
        work(&mut steps);
        steps
    }

    fn load_numbers(steps: &[Step]) -> Vec<u64> {
        let number = |step: &Step| match step {
            Step::Load { number, .. } => Some(*number),
            _ => None,
        };
        steps.iter().filter_map(number).collect()
    }

    #[test]
    fn accelerators_serve_once_their_backend_has_every_model() {
        let mut pool = Membership::default();
        let (m, lanes) = (version("m"), vec![ModelId::first(0)]);
        let first = steps(|steps| drop(pool.arrived(arrival("a", 1, 2), steps).unwrap()));
        assert_eq!(first, [Step::Serve(numbers(0..2))], "there is nothing to lack");

        let sought = steps(|steps| pool.seek(m.clone(), steps));
        let [number] = load_numbers(&sought)[..] else { panic!("{sought:?}") };
        assert_eq!(pool.load(&m), Load::UnderWay);
        assert!(steps(|steps| pool.answered(KEY, number, Ok(()), steps)).is_empty());
        assert_eq!(pool.load(&m), Load::Loaded);
        let bound = steps(|steps| pool.bind(m.clone(), lanes.clone(), steps));
        let [Step::Bind { number, .. }] = bound[..] else { panic!("{bound:?}") };
        assert!(!pool.is_bound(&m));
        assert!(steps(|steps| pool.answered(KEY, number, Ok(()), steps)).is_empty());
        assert!(pool.is_bound(&m));

        let second = steps(|steps| drop(pool.arrived(arrival("b", 2, 1), steps).unwrap()));
        let [number] = load_numbers(&second)[..] else { panic!("{second:?}") };
        let loaded = steps(|steps| pool.answered(BackendKey(1), number, Ok(()), steps));
        let [Step::Bind { number, .. }] = loaded[..] else { panic!("{loaded:?}") };
        let served = steps(|steps| pool.answered(BackendKey(1), number, Ok(()), steps));
        assert_eq!(served, [Step::Serve(vec![AcceleratorId(2)])]);
    }

    #[test]
    fn a_load_waits_for_backends_that_serve_and_not_for_one_that_comes() {
        let mut pool = Membership::default();
        let (m, other) = (version("m"), version("other"));
        let found = steps(|steps| {
            drop(pool.arrived(arrival("a", 1, 1), steps).unwrap());
            pool.seek(other.clone(), steps);
        });
        pool.answered(KEY, load_numbers(&found)[0], Ok(()), &mut Vec::new());
        pool.bind(other, vec![ModelId::first(0)], &mut Vec::new());
        // The second does not serve yet: it lacks the other model.
        let joined = steps(|steps| drop(pool.arrived(arrival("b", 2, 1), steps).unwrap()));
        let sought = steps(|steps| pool.seek(m.clone(), steps));
        let [of_first, of_second] = load_numbers(&sought)[..] else { panic!("{sought:?}") };
        pool.answered(KEY, of_first, Ok(()), &mut Vec::new());
        assert_eq!(pool.load(&m), Load::Loaded);
        pool.answered(BackendKey(1), of_second, Err("no memory".to_owned()), &mut Vec::new());
        assert_eq!(pool.load(&m), Load::Loaded);
        let loaded =
            steps(|steps| pool.answered(BackendKey(1), load_numbers(&joined)[0], Ok(()), steps));
        let [Step::Bind { number, .. }] = loaded[..] else { panic!("{loaded:?}") };
        let served = steps(|steps| pool.answered(BackendKey(1), number, Ok(()), steps));
        assert_eq!(served, [Step::Serve(vec![AcceleratorId(1)])]);
        let bound = steps(|steps| pool.bind(m, vec![ModelId::first(1)], steps));
        assert!(bound.contains(&Step::Drain(vec![AcceleratorId(1)])), "{bound:?}");
    }

    #[test]
    fn a_load_fails_when_every_backend_fails_and_names_one() {
        let mut pool = Membership::default();
        let m = version("m");
        pool.seek(m.clone(), &mut Vec::new());
        assert_eq!(pool.load(&m), Load::UnderWay, "a backend may come");
        let asked = steps(|steps| drop(pool.arrived(arrival("a", 1, 1), steps).unwrap()));
        pool.answered(KEY, load_numbers(&asked)[0], Err("no memory".to_owned()), &mut Vec::new());
        assert_eq!(pool.load(&m), Load::Failed("backend \"a\": no memory".to_owned()));
        let again = steps(|steps| pool.seek(m.clone(), steps));
        assert_eq!(load_numbers(&again).len(), 1, "a second attempt asks again");
    }

    #[test]
    fn a_life_that_is_over_does_not_come_back_and_its_numbers_are_used_again() {
        let mut pool = Membership::default();
        let mut ignored = Vec::new();
        let (key, _) = pool.arrived(arrival("a", 1, 2), &mut ignored).unwrap();
        let (_, second) = pool.arrived(arrival("b", 2, 1), &mut ignored).unwrap();
        assert_eq!(second, numbers(2..3));
        let twice = pool.arrived(arrival("a", 3, 1), &mut ignored);
        assert_eq!(twice.unwrap_err(), Refusal::Name("a".to_owned()));
        let left = steps(|steps| pool.left(key, steps));
        assert_eq!(left, [Step::Gone(numbers(0..2))]);
        let over = pool.arrived(arrival("a", 1, 2), &mut ignored);
        assert_eq!(over.unwrap_err(), Refusal::LifeOver);
        let (_, again) = pool.arrived(arrival("a", 4, 3), &mut ignored).unwrap();
        assert_eq!(again, [0, 1, 3].map(AcceleratorId));
    }

    #[test]
    fn an_accelerator_that_runs_a_batch_of_an_earlier_scheduler_serves_when_that_has_ended() {
        let mut pool = Membership::default();
        let m = version("m");
        pool.seek(m.clone(), &mut Vec::new());
        let arrival = Arrival {
            loaded: BTreeSet::from([m.clone()]),
            running: BTreeSet::from([0]),
            ..arrival("a", 1, 1)
        };
        let mut asked = Vec::new();
        let (key, _) = pool.arrived(arrival, &mut asked).unwrap();
        assert_eq!(pool.load(&m), Load::Loaded, "it has it from before");
        assert!(asked.is_empty());
        let bound = steps(|steps| pool.bind(m, vec![ModelId::first(0)], steps));
        let [Step::Bind { number, .. }] = bound[..] else { panic!("{bound:?}") };
        assert!(steps(|steps| pool.answered(KEY, number, Ok(()), steps)).is_empty(), "it runs");
        let idle = steps(|steps| pool.idle(key, 0, steps));
        assert_eq!(idle, [Step::Serve(vec![AcceleratorId(0)])]);
    }

    /// A version that one backend has, and another cannot load.
    fn served_by_one(pool: &mut Membership) -> (VersionKey, Vec<Step>) {
        let m = version("m");
        let found = steps(|steps| {
            drop(pool.arrived(arrival("a", 1, 1), steps).unwrap());
            pool.seek(m.clone(), steps);
        });
        pool.answered(KEY, load_numbers(&found)[0], Ok(()), &mut Vec::new());
        pool.bind(m.clone(), vec![ModelId::first(0)], &mut Vec::new());
        let second = steps(|steps| drop(pool.arrived(arrival("b", 2, 1), steps).unwrap()));
        (m, second)
    }

    #[test]
    fn what_a_backend_could_not_load_is_ordered_again_less_and_less_often() {
        let mut pool = Membership::default();
        let (m, mut ordered) = served_by_one(&mut pool);
        let second = BackendKey(1);
        let mut now = Time::ZERO;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let [number] = load_numbers(&ordered)[..] else { panic!("{ordered:?}") };
            assert_eq!(pool.next_retry(), None, "it is under way");
            assert_eq!(pool.has_failed_so(second, number, "no memory"), seconds > 1);
            let why = || "no memory".to_owned();
            pool.answered(second, number, Err(why()), &mut Vec::new());
            let due = now + Span::from_millis(seconds * 1000);
            assert_eq!(pool.next_retry(), Some(due));
            let before = Time(due.0 - 1);
            assert!(steps(|steps| pool.at(before, steps)).is_empty());
            ordered = steps(|steps| pool.at(due, steps));
            now = due;
        }
        let [number] = load_numbers(&ordered)[..] else { panic!("{ordered:?}") };
        let loaded = steps(|steps| pool.answered(second, number, Ok(()), steps));
        let [Step::Bind { number, .. }] = loaded[..] else { panic!("{loaded:?}") };
        let served = steps(|steps| pool.answered(second, number, Ok(()), steps));
        assert_eq!(served, [Step::Serve(vec![AcceleratorId(1)])]);
        assert_eq!(pool.next_retry(), None);
        assert!(pool.knows(&m));
    }

    #[test]
    fn only_the_answer_to_the_newest_bind_counts() {
        let mut pool = Membership::default();
        let (m, second) = served_by_one(&mut pool);
        let loaded =
            steps(|steps| pool.answered(BackendKey(1), load_numbers(&second)[0], Ok(()), steps));
        let [Step::Bind { number: before, .. }] = loaded[..] else { panic!("{loaded:?}") };
        let bound = steps(|steps| pool.bind(m, vec![ModelId::first(7)], steps));
        let bind = |step: &Step| match step {
            Step::Bind { backend: BackendKey(1), number, .. } => Some(*number),
            _ => None,
        };
        let number = bound.iter().find_map(bind).unwrap();
        let early = steps(|steps| pool.answered(BackendKey(1), before, Ok(()), steps));
        assert!(early.is_empty(), "plans name other lanes: {early:?}");
        let served = steps(|steps| pool.answered(BackendKey(1), number, Ok(()), steps));
        assert_eq!(served, [Step::Serve(vec![AcceleratorId(1)])]);
    }

    #[test]
    fn backends_forget_what_nobody_wants_once_that_is_settled() {
        let mut pool = Membership::default();
        let (m, old, awaited) = (version("m"), version("old"), version("awaited"));
        let seen_otherwise = VersionKey { fingerprint: "its own".to_owned(), ..m.clone() };
        let loaded = [old.clone(), seen_otherwise.clone(), awaited.clone()];
        let arrival = Arrival { loaded: loaded.into(), ..arrival("a", 1, 1) };
        pool.arrived(arrival.clone(), &mut Vec::new()).unwrap();
        let sought = steps(|steps| {
            pool.seek(m.clone(), steps);
            pool.seek(awaited.clone(), steps);
            pool.seek(old.clone(), steps);
        });
        let [number] = load_numbers(&sought)[..] else { panic!("{sought:?}") };
        // It has it already, and calls it by another name.
        pool.is_called(KEY, &m, seen_otherwise.clone());
        pool.answered(KEY, number, Ok(()), &mut Vec::new());
        let bound = steps(|steps| pool.bind(m.clone(), vec![ModelId::first(0)], steps));
        let is_own =
            |step: &Step| matches!(step, Step::Bind { version, .. } if *version == seen_otherwise);
        assert!(bound.iter().any(is_own), "{bound:?}");
        let forgotten = |steps: Vec<Step>| {
            let forgotten = steps.into_iter().filter_map(|step| match step {
                Step::Forget { version, .. } => Some(version),
                _ => None,
            });
            forgotten.collect::<Vec<_>>()
        };
        let settled = steps(|steps| pool.settle(|version| *version == awaited, steps));
        assert_eq!(forgotten(settled), std::slice::from_ref(&old));
        pool.give_up(&awaited);
        // One that comes later is told so, too.
        let late = Arrival { name: "b".to_owned(), life: 2, ..arrival };
        let late = steps(|steps| drop(pool.arrived(late, steps).unwrap()));
        let [number] = load_numbers(&late)[..] else { panic!("{late:?}") };
        assert_eq!(forgotten(late), [], "it may be what is to be loaded");
        pool.is_called(BackendKey(1), &m, seen_otherwise);
        let loaded = steps(|steps| pool.answered(BackendKey(1), number, Ok(()), steps));
        assert_eq!(forgotten(loaded), [awaited, old]);
    }

    #[test]
    fn a_model_is_given_up_by_all_and_loaded_again_when_wanted_again() {
        let mut pool = Membership::default();
        let (m, lanes) = (version("m"), vec![ModelId::first(0)]);
        let mut ignored = Vec::new();
        pool.arrived(arrival("a", 1, 1), &mut ignored).unwrap();
        let sought = steps(|steps| pool.seek(m.clone(), steps));
        pool.answered(KEY, load_numbers(&sought)[0], Ok(()), &mut ignored);
        pool.bind(m.clone(), lanes.clone(), &mut ignored);
        let mut orders = Vec::new();
        let told = steps(|steps| orders = pool.unbind(lanes[0], steps));
        let unload = Step::Unload { backend: BackendKey(0), number: orders[0], model: lanes[0] };
        assert_eq!(told, [unload]);
        assert!(pool.is_open(orders[0]));
        pool.answered(KEY, orders[0], Ok(()), &mut ignored);
        assert!(!pool.is_open(orders[0]));
        assert_eq!(load_numbers(&steps(|steps| pool.seek(m, steps))).len(), 1);
    }
}
