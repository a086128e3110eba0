//! Which backends are there, what each of them has loaded, and which of their accelerators serve.
//!
//! Every accelerator of a pool can run every model: a backend's accelerators serve once it has loaded
//! whatever plans may name, and stop when something is missing. What a backend still lacks is ordered
//! as soon as it is known: *wanted* versions have lanes that plans name, *sought* ones are being loaded
//! for the first time.
//!
//! A pure state machine: events go in by calls, [`Step`]s come out. It knows no link and no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use symphony_core::sched::ACCELERATORS_MAX;
use symphony_core::{AcceleratorId, ModelId};

/// So many lives that are over are remembered: more than backends come and go within minutes.
const GONE_MAX: usize = 4096;

/// A version of a model in one state of its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// Name in the repository.
    pub(crate) name: String,
    /// Version in the repository.
    pub(crate) version: u64,
    /// Tells states of its files and settings apart.
    pub(crate) fingerprint: String,
}

/// A backend in one of its lives, as this scheduler numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackendKey(pub(crate) u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Have a backend load a version; the number comes back with its answer.
    Load { backend: BackendKey, number: u64, version: VersionKey },
    /// Have a backend run the plans for these lanes with a version it has loaded.
    Bind { backend: BackendKey, number: u64, version: VersionKey, lanes: Vec<ModelId> },
    /// Have a backend give a model up; the number comes back with its answer.
    Unload { backend: BackendKey, number: u64, model: ModelId },
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
    /// Loads that were ordered and not answered.
    ordered: BTreeSet<VersionKey>,
    /// Why loads failed.
    failed: BTreeMap<VersionKey, String>,
    /// What it was told to bind to lanes and has not answered.
    binding: BTreeSet<VersionKey>,
    bound: BTreeSet<VersionKey>,
    running: BTreeSet<usize>,
    serves: bool,
    /// It is about to end.
    is_leaving: bool,
}

/// What was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ordered {
    Load(VersionKey),
    Bind(VersionKey),
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
            ordered: BTreeSet::new(),
            failed: BTreeMap::new(),
            binding: BTreeSet::new(),
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

    /// A backend is about to end: its accelerators get no more batches.
    pub(crate) fn leaving(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        if let Some(backend) = self.backends.get_mut(&key) {
            backend.is_leaving = true;
            self.reconcile(key, steps);
        }
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
        let Some(backend) = self.backends.get_mut(&key) else { return };
        match (ordered, answer) {
            (Ordered::Load(version), answer) => {
                backend.ordered.remove(&version);
                match answer {
                    Ok(()) => drop(backend.loaded.insert(version)),
                    Err(why) => drop(backend.failed.insert(version, why)),
                }
            }
            (Ordered::Bind(version), answer) => {
                // A version that was bound anew meanwhile waits for the answer to that.
                if backend.binding.remove(&version) {
                    match answer {
                        Ok(()) => drop(backend.bound.insert(version)),
                        Err(why) => {
                            backend.loaded.remove(&version);
                            backend.failed.insert(version, why);
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
            let why = backend.failed.get(version)?;
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
        !self.backends.values().any(|backend| backend.serves && backend.binding.contains(version))
    }

    /// No plan names a model any more. Returns how many backends were told, each by an order.
    pub(crate) fn unbind(&mut self, model: ModelId, steps: &mut Vec<Step>) -> Vec<u64> {
        let of_model = |(_, lanes): &(&VersionKey, &Vec<ModelId>)| lanes.first() == Some(&model);
        if let Some(version) = self.wanted.iter().find(of_model).map(|(version, _)| version.clone())
        {
            self.wanted.remove(&version);
            for backend in self.backends.values_mut() {
                backend.bound.remove(&version);
                backend.binding.remove(&version);
                backend.loaded.remove(&version);
            }
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
            let is_binding = backend.serves && backend.binding.contains(version);
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
    }

    /// Has a backend bind what it has loaded and plans name.
    fn bind_missing(&mut self, key: BackendKey, steps: &mut Vec<Step>) {
        let Some(backend) = self.backends.get_mut(&key) else { return };
        let mut missing = Vec::new();
        for (version, lanes) in &self.wanted {
            let is_done = backend.bound.contains(version) || backend.binding.contains(version);
            if backend.loaded.contains(version) && !is_done {
                backend.binding.insert(version.clone());
                missing.push((version.clone(), lanes.clone()));
            }
        }
        for (version, lanes) in missing {
            let number = self.order(key, Ordered::Bind(version.clone()));
            steps.push(Step::Bind { backend: key, number, version, lanes });
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
