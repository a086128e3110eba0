//! A frontend and a scheduler, with a backend that the test plays: its outcomes are lost.

use crate::roles::{
    Folder, Frontend, SchedulerProcess, frontend, links, loaded, runtime, standby, until,
};
use symphony_core::{AcceleratorId, Profile, Span};
use symphony_wire::carrier::link::{Endpoint, Hello, Link, LinkPurpose, Role, connect};
use symphony_wire::codec::Frame;
use symphony_wire::message::link::{
    BackendToFrontend, BackendToScheduler, Fetch, FrontendToBackend, HandedBack,
    SchedulerToBackend, SentPlan,
};
use symphony_wire::message::{
    AcceleratorFacts, Answer, Completion, Execution, LoadedFacts, Order, OrderDone, Outcome,
    Registration,
};
use tokio::runtime::Runtime;

const LIFE: u64 = 78;

type ToScheduler = Link<SchedulerToBackend, BackendToScheduler>;
type Data = Link<FrontendToBackend, BackendToFrontend>;

/// The test's side: a backend with one accelerator.
struct Played {
    scheduler: SchedulerProcess,
    frontend: Frontend,
    link: ToScheduler,
    _folder: Folder,
    runtime: Runtime,
}

fn facts(name: &str) -> LoadedFacts {
    loaded(name, Profile::linear(Span(1), Span(1000), 4).unwrap())
}

fn hello(purpose: LinkPurpose) -> Hello {
    let (name, details) = ("played".to_owned(), bytes::Bytes::new());
    Hello { role: Role::Backend, purpose, name, life: LIFE, capabilities: 0, details }
}

fn connected<In: Frame, Out: Frame>(
    runtime: &Runtime,
    to: &Endpoint,
    purpose: LinkPurpose,
) -> Link<In, Out> {
    runtime.block_on(connect(to, hello(purpose), &links())).unwrap()
}

impl Played {
    /// The model `m` is served, by the played backend alone.
    fn start() -> Played {
        let (folder, runtime) = (Folder::of(&[("m", 1)]), runtime());
        let mut scheduler = standby("s");
        scheduler.take_over(3, &folder);
        let frontend = frontend("f", &[scheduler.address()]);
        let link: ToScheduler = connected(&runtime, scheduler.address(), LinkPurpose::Scheduling);
        let registration = Registration {
            name: "played".to_owned(),
            life: LIFE,
            accelerators: vec![AcceleratorFacts { kind: "cpu".to_owned(), memory: 0 }],
            engines: Vec::new(),
            loaded: Vec::new(),
            running: Vec::new(),
        };
        let mut played = Played { scheduler, frontend, link, _folder: folder, runtime };
        let asked = played.said();
        assert!(matches!(asked, SchedulerToBackend::Welcome { .. }), "{asked:?}");
        played.say(&BackendToScheduler::Register(Box::new(registration)));
        for _ in 0..2 {
            let (number, order) = played.ordered();
            let done = match order {
                Order::Load { name, .. } => OrderDone::Loaded(Box::new(facts(&name))),
                Order::Bind { version, .. } => {
                    assert_eq!(version, facts("m").key(), "by the backend's own name");
                    OrderDone::Bound
                }
                other => panic!("{other:?}"),
            };
            played.say(&BackendToScheduler::Done { number, result: Ok(done) });
        }
        played.frontend.serves("m");
        played
    }

    fn say(&self, message: &BackendToScheduler) {
        self.link.sender.send(message).unwrap();
    }

    fn said(&mut self) -> SchedulerToBackend {
        self.runtime.block_on(self.link.receiver.next()).unwrap().message
    }

    fn ordered(&mut self) -> (u64, Order) {
        loop {
            if let SchedulerToBackend::Order { number, order } = self.said() {
                return (number, *order);
            }
        }
    }

    fn plan(&mut self) -> SentPlan {
        loop {
            if let SchedulerToBackend::Plan(plan) = self.said() {
                return plan;
            }
        }
    }

    fn data(&self) -> Data {
        connected(&self.runtime, &self.frontend.end().data[0], LinkPurpose::Data)
    }

    fn told(&self, data: &mut Data) -> FrontendToBackend {
        self.runtime.block_on(data.receiver.next()).unwrap().message
    }

    /// Fetches the one request of a plan. Returns its number, and what came.
    fn fetch(&self, data: &mut Data, epoch: u64, plan: &SentPlan) -> (u64, FrontendToBackend) {
        let number = plan.plan.requests[0].id.number();
        let fetch = Fetch { epoch, batch: plan.plan.batch, numbers: vec![number] };
        data.sender.send(&BackendToFrontend::Fetch(fetch)).unwrap();
        (number, self.told(data))
    }

    /// Tells the scheduler that a batch has ended.
    fn complete(&self, sent: &SentPlan) {
        let (accelerator, batch, model) = (sent.accelerator, sent.plan.batch, sent.plan.model);
        let completion = Completion::not_run(accelerator, batch, model);
        self.say(&BackendToScheduler::Completed { epoch: sent.epoch, completion });
    }

    fn answer(&self, data: &Data, number: u64) {
        let span = Span(1);
        let execution = Execution {
            accelerator: AcceleratorId(0),
            batch_rows: 1,
            queued: span,
            assembly: span,
            compute: span,
            split: span,
            slack: span,
        };
        let outcome = Outcome::Done(Answer { outputs: Vec::new(), execution });
        data.sender.send(&BackendToFrontend::Outcome { number, outcome }).unwrap();
    }
}

#[test]
fn requests_whose_outcomes_were_lost_with_a_link_run_again() {
    let mut played = Played::start();
    let mut data = played.data();
    let asked = played.frontend.ask("m");
    let plan = played.plan();
    // A plan of a former scheduler gets nothing.
    let (number, none) = played.fetch(&mut data, plan.epoch - 1, &plan);
    assert_eq!(none, FrontendToBackend::NoInputs { number });
    let (_, inputs) = played.fetch(&mut data, plan.epoch, &plan);
    assert!(matches!(inputs, FrontendToBackend::Inputs { .. }), "{inputs:?}");
    drop(data);
    played.complete(&plan);

    let mut data = played.data();
    let awaited = FrontendToBackend::Awaited { numbers: vec![number] };
    assert_eq!(played.told(&mut data), awaited);
    data.sender.send(&BackendToFrontend::NotRun { number }).unwrap();
    let again = played.plan();
    assert_ne!(again.plan.batch, plan.plan.batch);
    let (number, inputs) = played.fetch(&mut data, again.epoch, &again);
    assert!(matches!(inputs, FrontendToBackend::Inputs { .. }), "{inputs:?}");
    // It is said twice, and counts once.
    played.answer(&data, number);
    played.answer(&data, number);
    asked.answer();
    assert_eq!(played.frontend.end().outstanding(), 0);
}

#[test]
fn requests_of_a_backend_that_does_not_connect_again_run_again() {
    let mut played = Played::start();
    let mut data = played.data();
    let asked = played.frontend.ask("m");
    let plan = played.plan();
    played.fetch(&mut data, plan.epoch, &plan);
    drop(data);
    played.complete(&plan);
    let again = played.plan();
    let mut data = played.data();
    let (number, _) = played.fetch(&mut data, again.epoch, &again);
    played.answer(&data, number);
    asked.answer();
    until("nothing is left", || played.frontend.end().outstanding() == 0);
    assert_eq!(played.scheduler.members(), (1, 1));
}

/// What refuses a batch once may do so again: its requests run once more, and then fail.
#[test]
fn a_batch_that_is_refused_is_planned_once_more() {
    let mut played = Played::start();
    let asked = played.frontend.ask("m");
    for _ in 0..2 {
        let plan = played.plan();
        let SentPlan { epoch, accelerator, plan } = plan;
        let why = "the model is not loaded".to_owned();
        let back = HandedBack { epoch, accelerator, batch: plan.batch, is_refused: true, why };
        played.say(&BackendToScheduler::HandedBack(back));
    }
    let outcome = asked.outcome();
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}
