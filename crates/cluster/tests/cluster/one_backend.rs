//! One backend, between a scheduler and a frontend that the test plays: whatever comes in an unlucky
//! order.

use crate::roles::{Backend, Folder, anywhere, backend, links, runtime};
use symphony_core::{AcceleratorId, BatchId, Class, ModelId, Origin, RequestId, Span};
use symphony_wire::carrier::link::{Hello, Link, LinkPurpose, Listener, Role};
use symphony_wire::codec::Frame;
use symphony_wire::message::link::{
    BackendToFrontend, BackendToScheduler, FrontendAddress, FrontendToBackend, HandedBack,
    SchedulerToBackend, SentPlan,
};
use symphony_wire::message::{
    BatchPlan, LoadedFacts, Order, OrderDone, Outcome, PlannedRequest, Source,
};
use symphony_wire::tensor::Inputs;
use tokio::runtime::Runtime;

const EPOCH: u64 = 5;
const LANE: ModelId = ModelId::first(3);
const ORIGIN: Origin = Origin::new(9, 9);

type ToBackend = Link<BackendToScheduler, SchedulerToBackend>;
type Data = Link<BackendToFrontend, FrontendToBackend>;

/// The test's side: the scheduler of the backend, and its one frontend.
struct Played {
    scheduler: ToBackend,
    frontend: Listener,
    folder: Folder,
    orders: u64,
    _backend: Backend,
    runtime: Runtime,
}

fn hello(role: Role, purpose: LinkPurpose) -> Hello {
    let (name, details) = ("played".to_owned(), bytes::Bytes::new());
    Hello { role, purpose, name, life: 77, capabilities: 0, details }
}

async fn accepted<In: Frame, Out: Frame>(listener: &Listener, own: &Hello) -> Link<In, Out> {
    listener.accept().await.welcome(own)
}

impl Played {
    /// The backend is in the pool, and knows the frontend.
    fn start(models: &[(&str, u64)]) -> Played {
        let (folder, runtime) = (Folder::of(models), runtime());
        let bind = || runtime.block_on(Listener::bind(&anywhere(), &links())).unwrap();
        let (listener, frontend) = (bind(), bind());
        let backend = backend("a", 1, &[listener.address()]);
        let own = hello(Role::Scheduler, LinkPurpose::Scheduling);
        let mut scheduler: ToBackend = runtime.block_on(accepted(&listener, &own));
        let welcome = |accelerators| SchedulerToBackend::Welcome { epoch: EPOCH, accelerators };
        scheduler.sender.send(&welcome(vec![])).unwrap();
        let registered = runtime.block_on(scheduler.receiver.next()).unwrap().message;
        assert!(matches!(registered, BackendToScheduler::Register(_)), "{registered:?}");
        scheduler.sender.send(&welcome(vec![AcceleratorId(4)])).unwrap();
        let addresses = vec![frontend.address().to_string()];
        let (name, life) = ("played".to_owned(), 77);
        let address = FrontendAddress { origin: ORIGIN, name, life, addresses };
        scheduler.sender.send(&SchedulerToBackend::Frontends(vec![address])).unwrap();
        Played { scheduler, frontend, folder, orders: 0, _backend: backend, runtime }
    }

    fn data(&self) -> Data {
        let own = hello(Role::Frontend, LinkPurpose::Data);
        self.runtime.block_on(accepted(&self.frontend, &own))
    }

    fn order(&mut self, order: Order) -> u64 {
        self.orders += 1;
        let (number, order) = (self.orders, Box::new(order));
        self.scheduler.sender.send(&SchedulerToBackend::Order { number, order }).unwrap();
        number
    }

    fn order_load(&mut self, name: &str) -> u64 {
        let source = Source::Shared { path: self.folder.models() };
        self.order(Order::Load { source, name: name.to_owned(), version: 1 })
    }

    /// The next thing that the backend says to its scheduler, but for measurements.
    fn said(&mut self) -> BackendToScheduler {
        loop {
            let said = self.runtime.block_on(self.scheduler.receiver.next()).unwrap().message;
            match said {
                BackendToScheduler::Gaps(_) | BackendToScheduler::Refined { .. } => {}
                said => return said,
            }
        }
    }

    #[track_caller]
    fn done(&mut self, order: u64) -> OrderDone {
        match self.said() {
            BackendToScheduler::Done { number, result: Ok(done) } if number == order => done,
            other => panic!("{other:?}"),
        }
    }

    /// Has a model loaded, and bound to the lane.
    fn serve(&mut self, name: &str) -> LoadedFacts {
        let order = self.order_load(name);
        let OrderDone::Loaded(facts) = self.done(order) else { panic!("it is loaded") };
        let order = self.order(Order::Bind { version: facts.key(), lanes: vec![LANE] });
        assert_eq!(self.done(order), OrderDone::Bound);
        *facts
    }

    fn plan(&self, batch: u64, model: ModelId, number: u64) -> SentPlan {
        let request = PlannedRequest {
            id: RequestId::new(ORIGIN, number),
            age: Span::ZERO,
            budget: Span::from_millis(600_000),
            rows: 1,
            class: Class::High,
        };
        let (batch, exec) = (BatchId(batch), Span::from_millis(1));
        let plan = BatchPlan { batch, model, requests: vec![request], rows: 1, exec };
        SentPlan { epoch: EPOCH, accelerator: AcceleratorId(4), plan }
    }

    fn send(&self, plan: SentPlan) {
        self.scheduler.sender.send(&SchedulerToBackend::Plan(plan)).unwrap();
    }

    /// Answers the fetch of a request.
    #[track_caller]
    fn give(&self, data: &mut Data, number: u64) {
        let said = self.runtime.block_on(data.receiver.next()).unwrap().message;
        let BackendToFrontend::Fetch(fetch) = said else { panic!("{said:?}") };
        assert_eq!(fetch.numbers, [number]);
        let inputs = Inputs::fixed(1, vec![vec![7].into()]);
        data.sender.send(&FrontendToBackend::Inputs { number, inputs }).unwrap();
    }

    fn told(&self, data: &mut Data) -> BackendToFrontend {
        self.runtime.block_on(data.receiver.next()).unwrap().message
    }

    #[track_caller]
    fn completed(&mut self) {
        let said = self.said();
        assert!(matches!(said, BackendToScheduler::Completed { .. }), "{said:?}");
    }

    /// Why the backend ends the link to its scheduler.
    fn why_ended(&mut self) -> String {
        loop {
            if let Err(error) = self.runtime.block_on(self.scheduler.receiver.next()) {
                return error.to_string();
            }
        }
    }
}

#[track_caller]
fn assert_ran(told: &BackendToFrontend, expected: u64) {
    let is_it = matches!(
        told,
        BackendToFrontend::Outcome { number, outcome: Outcome::Done(_) } if *number == expected
    );
    assert!(is_it, "{told:?}");
}

#[test]
fn a_model_is_given_up_behind_the_batches_that_wait_for_their_inputs() {
    let mut played = Played::start(&[("m", 1)]);
    let mut data = played.data();
    let facts = played.serve("m");
    let forget = Order::Forget { version: facts.key() };
    for (batch, order) in [(1, Order::Unload { model: LANE }), (2, forget)] {
        played.send(played.plan(batch, LANE, batch));
        let given_up = played.order(order);
        // It was looked at: what was ordered after it is done.
        let fence = played.order_load("m");
        assert!(matches!(played.done(fence), OrderDone::Loaded(_)));
        played.give(&mut data, batch);
        assert_ran(&played.told(&mut data), batch);
        played.completed();
        assert_eq!(played.done(given_up), OrderDone::Unloaded);
        // For the other order.
        played.serve("m");
    }
}

#[test]
fn batches_of_the_scheduler_before_run_after_the_next_has_given_their_model_another_name() {
    let mut played = Played::start(&[("m", 1)]);
    let mut data = played.data();
    let facts = played.serve("m");
    played.send(played.plan(1, LANE, 1));
    let next = ModelId::first(8);
    let renamed = played.order(Order::Bind { version: facts.key(), lanes: vec![next] });
    assert_eq!(played.done(renamed), OrderDone::Bound);
    let given_up = played.order(Order::Unload { model: next });
    let fence = played.order_load("m");
    assert!(matches!(played.done(fence), OrderDone::Loaded(_)));
    played.give(&mut data, 1);
    assert_ran(&played.told(&mut data), 1);
    played.completed();
    assert_eq!(played.done(given_up), OrderDone::Unloaded);
}

#[test]
fn a_batch_of_a_model_that_is_not_there_comes_back() {
    let mut played = Played::start(&[("m", 1)]);
    let mut data = played.data();
    played.send(played.plan(1, ModelId::first(77), 1));
    played.give(&mut data, 1);
    let said = played.said();
    let BackendToScheduler::HandedBack(back) = said else { panic!("{said:?}") };
    let HandedBack { epoch, accelerator, batch, is_refused, why } = back;
    assert_eq!((epoch, accelerator, batch), (EPOCH, AcceleratorId(4), BatchId(1)));
    assert!(is_refused && why.contains("the model is not loaded on accelerator"), "{why}");
    // The backend goes on.
    played.serve("m");
    played.send(played.plan(2, LANE, 2));
    played.give(&mut data, 2);
    assert_ran(&played.told(&mut data), 2);
}

#[test]
fn a_plan_that_is_not_for_this_backend_now_ends_the_link() {
    for (change, expected) in [
        ((|plan| plan.epoch = EPOCH - 1) as fn(&mut SentPlan), "a plan of epoch 4 came"),
        (|plan| plan.accelerator = AcceleratorId(0), "a plan came for accelerator 0"),
    ] {
        let mut played = Played::start(&[("m", 1)]);
        let mut plan = played.plan(1, LANE, 1);
        change(&mut plan);
        played.send(plan);
        let why = played.why_ended();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn outcomes_that_were_lost_with_a_link_are_told_of_by_the_next() {
    let mut played = Played::start(&[("m", 1), ("slow", 1_500)]);
    let mut data = played.data();
    played.serve("m");
    played.send(played.plan(1, LANE, 1));
    played.give(&mut data, 1);
    // Its outcome is on its way, and is not read.
    played.completed();
    let order = played.order_load("slow");
    let OrderDone::Loaded(facts) = played.done(order) else { panic!("it is loaded") };
    let slow = ModelId::first(8);
    let order = played.order(Order::Bind { version: facts.key(), lanes: vec![slow] });
    assert_eq!(played.done(order), OrderDone::Bound);
    assert_ran(&played.told(&mut data), 1);
    played.send(played.plan(2, slow, 2));
    played.give(&mut data, 2);
    drop(data);
    let mut data = played.data();
    data.sender.send(&FrontendToBackend::Awaited { numbers: vec![1, 2, 99] }).unwrap();
    let mut not_run = Vec::new();
    loop {
        match played.told(&mut data) {
            BackendToFrontend::NotRun { number } => not_run.push(number),
            // The second waited for its inputs still.
            BackendToFrontend::Fetch(_) => {
                let inputs = Inputs::fixed(1, vec![vec![7].into()]);
                data.sender.send(&FrontendToBackend::Inputs { number: 2, inputs }).unwrap();
            }
            outcome @ BackendToFrontend::Outcome { .. } => {
                assert_ran(&outcome, 2);
                break;
            }
        }
    }
    assert_eq!(not_run, [1, 99]);
    played.completed();
}
