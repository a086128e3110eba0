//! Peers that speak the wire's messages and mean no good: refused, and nothing else is disturbed.

use crate::roles::{
    Backend, Folder, Frontend, SchedulerProcess, accelerators, backend, frontend, links, loaded,
    runtime, standby, until,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use symphony_core::{
    AcceleratorId, BatchId, Class, ModelId, Origin, Profile, RequestId, SizedProfile, Span,
};
use symphony_wire::carrier::link::{Endpoint, Hello, Link, LinkPurpose, Role, connect};
use symphony_wire::codec::Frame;
use symphony_wire::message::link::{
    BackendToFrontend, BackendToScheduler, Fetch, FrontendAddress, FrontendToBackend,
    FrontendToScheduler, SchedulerToBackend, SchedulerToFrontend,
};
use symphony_wire::message::{
    AcceleratorFacts, Cancel, Completion, LoadedFacts, Outcome, Registration, RepositoryCommand,
    Submit,
};
use tokio::runtime::Runtime;

/// A cluster that serves, and has to go on.
struct Served {
    _folder: Folder,
    scheduler: SchedulerProcess,
    frontend: Frontend,
    _backend: Backend,
    /// The hostile peers'.
    runtime: Runtime,
}

impl Served {
    fn start() -> Served {
        let folder = Folder::of(&[("m", 1)]);
        let mut scheduler = standby("s");
        scheduler.take_over(1, &folder);
        let frontend = frontend("f", &[scheduler.address()]);
        let backend = backend("a", 1, &[scheduler.address()]);
        frontend.serves("m");
        Served { _folder: folder, scheduler, frontend, _backend: backend, runtime: runtime() }
    }

    /// Makes a link to an address of the cluster.
    fn connect<In: Frame, Out: Frame>(&self, to: &Endpoint, hello: Hello) -> Link<In, Out> {
        self.runtime.block_on(connect(to, hello, &links())).unwrap()
    }

    /// Why the other end refuses a link, or ends it.
    fn why_ended<In: Frame + std::fmt::Debug, Out: Frame>(&self, link: Link<In, Out>) -> String {
        let Link { mut receiver, sender, .. } = link;
        let why = self.runtime.block_on(async {
            loop {
                if let Err(error) = receiver.next().await {
                    return error.to_string();
                }
            }
        });
        drop(sender);
        why
    }

    /// Registers as a backend does.
    fn register(&self, registration: Registration) -> Link<SchedulerToBackend, BackendToScheduler> {
        let hello = hello(Role::Backend, LinkPurpose::Scheduling, &registration.name);
        let mut link = self.connect(self.scheduler.address(), hello);
        let asked = self.runtime.block_on(link.receiver.next()).unwrap().message;
        assert!(matches!(asked, SchedulerToBackend::Welcome { epoch: 1, .. }), "{asked:?}");
        link.sender.send(&BackendToScheduler::Register(Box::new(registration))).unwrap();
        link
    }

    /// The first thing that is said to a backend that has registered.
    fn said(&self, link: &mut Link<SchedulerToBackend, BackendToScheduler>) -> SchedulerToBackend {
        self.runtime.block_on(link.receiver.next()).unwrap().message
    }

    fn goes_on(&self) {
        accelerators((0..8).map(|_| self.frontend.ask("m")).collect());
        until("one backend and one frontend are left", || self.scheduler.members() == (1, 1));
        assert_eq!((self.scheduler.serving(), self.frontend.end().outstanding()), (1, 0));
    }
}

fn hello(role: Role, purpose: LinkPurpose, name: &str) -> Hello {
    let (name, details) = (name.to_owned(), bytes::Bytes::new());
    Hello { role, purpose, name, life: 77, capabilities: 0, details }
}

fn registration(name: &str) -> Registration {
    Registration {
        name: name.to_owned(),
        life: 77,
        accelerators: vec![AcceleratorFacts { kind: "cpu".to_owned(), memory: 0 }],
        engines: Vec::new(),
        loaded: Vec::new(),
        running: Vec::new(),
    }
}

/// A model whose profile says less than its batches take.
fn nonsense() -> LoadedFacts {
    let profile = Profile::linear(Span(1), Span(1), 2).unwrap();
    LoadedFacts { rows_max: 64, ..loaded("m", profile) }
}

#[test]
fn registrations_that_cannot_be_are_refused_with_a_reason() {
    let served = Served::start();
    let none = Registration { accelerators: Vec::new(), ..registration("none") };
    let odd = Registration { loaded: vec![nonsense()], ..registration("odd") };
    for (registration, expected) in [
        (registration("a"), "give each a --name of its own"),
        (none, "has no accelerator"),
        (odd, "measure it anew"),
    ] {
        let mut link = served.register(registration);
        let said = served.said(&mut link);
        let SchedulerToBackend::Refused { text } = said else { panic!("{said:?}") };
        assert!(text.contains(expected), "{text}");
        served.why_ended(link);
    }
    served.goes_on();
}

#[test]
fn a_backend_that_speaks_of_what_is_not_its_own_is_cut_off() {
    let served = Served::start();
    let completion = |accelerator| Completion::not_run(accelerator, BatchId(3), ModelId::first(0));
    let of_another =
        BackendToScheduler::Completed { epoch: 1, completion: completion(AcceleratorId(0)) };
    let mut link = served.register(registration("b"));
    let said = served.said(&mut link);
    assert!(
        matches!(&said, SchedulerToBackend::Welcome { accelerators, .. }
        if *accelerators == [AcceleratorId(1)]),
        "{said:?}"
    );
    // Of a batch that it was never sent, of a former scheduler, an answer that nobody asked for.
    let costs = SizedProfile::fixed(1, Profile::linear(Span(1), Span(1), 2).unwrap());
    for ignored in [
        BackendToScheduler::Completed { epoch: 1, completion: completion(AcceleratorId(1)) },
        BackendToScheduler::Completed { epoch: 0, completion: completion(AcceleratorId(1)) },
        BackendToScheduler::Done { number: 999, result: Err("no".to_owned()) },
        BackendToScheduler::Refined { model: ModelId::first(900), costs: Box::new(costs) },
        BackendToScheduler::Lost { accelerator: AcceleratorId(0) },
        BackendToScheduler::Gaps(Vec::new()),
    ] {
        link.sender.send(&ignored).unwrap();
    }
    link.sender.send(&of_another).unwrap();
    let why = served.why_ended(link);
    assert!(why.contains("another backend's accelerator"), "{why}");
    let unregistered = hello(Role::Backend, LinkPurpose::Scheduling, "c");
    let link: Link<SchedulerToBackend, BackendToScheduler> =
        served.connect(served.scheduler.address(), unregistered);
    link.sender.send(&of_another).unwrap();
    let why = served.why_ended(link);
    assert!(why.contains("registers before"), "{why}");
    served.goes_on();
}

#[test]
fn a_frontend_that_speaks_of_other_frontends_requests_is_cut_off() {
    let served = Served::start();
    let origin = Origin::new(9, 9);
    let address = FrontendAddress {
        origin,
        name: "x".to_owned(),
        life: 77,
        addresses: vec!["127.0.0.1:1".to_owned()],
    };
    let details = postcard::to_allocvec(&address).unwrap();
    let frontend_hello = || Hello {
        details: details.clone().into(),
        ..hello(Role::Frontend, LinkPurpose::Scheduling, "x")
    };
    let id = RequestId::new(Origin::new(1, 1), 4);
    let model = ModelId::first(0);
    let submit = Submit { model, id, age: Span(0), budget: Span(9), rows: 1, class: Class::High };
    for hostile in [
        FrontendToScheduler::Submit(submit),
        FrontendToScheduler::Cancel(Cancel { model, id, budget: Span(9) }),
    ] {
        let link: Link<SchedulerToFrontend, FrontendToScheduler> =
            served.connect(served.scheduler.address(), frontend_hello());
        // Its own requests for models that there are not, of any size, are answered.
        let own = RequestId::new(origin, 5);
        let odd = Submit { model: ModelId::first(900), id: own, rows: u32::MAX, ..submit };
        link.sender.send(&FrontendToScheduler::Submit(odd)).unwrap();
        link.sender.send(&hostile).unwrap();
        let why = served.why_ended(link);
        assert!(why.contains("of another origin"), "{why}");
        until("it is gone", || served.scheduler.members().0 == 1);
    }
    served.goes_on();
}

#[test]
fn a_frontend_that_asks_without_end_is_cut_off() {
    let served = Served::start();
    let address = FrontendAddress {
        origin: Origin::new(9, 9),
        name: "x".to_owned(),
        life: 77,
        addresses: vec!["127.0.0.1:1".to_owned()],
    };
    let hello = Hello {
        details: postcard::to_allocvec(&address).unwrap().into(),
        ..hello(Role::Frontend, LinkPurpose::Scheduling, "x")
    };
    let link: Link<SchedulerToFrontend, FrontendToScheduler> =
        served.connect(served.scheduler.address(), hello);
    let command = RepositoryCommand::Load { model: "m".to_owned() };
    for number in 0..200_000 {
        let asked = FrontendToScheduler::Command { number, command: command.clone() };
        if link.sender.send(&asked).is_err() {
            break;
        }
    }
    let why = served.why_ended(link);
    assert!(why.contains("questions at once"), "{why}");
    served.goes_on();
}

#[test]
fn results_of_requests_that_were_never_sent_change_nothing() {
    let served = Served::start();
    let data = served.frontend.end().data[0].clone();
    let link: Link<FrontendToBackend, BackendToFrontend> =
        served.connect(&data, hello(Role::Backend, LinkPurpose::Data, "x"));
    let Link { sender, mut receiver, .. } = link;
    for number in [0, 1, u64::MAX >> 20] {
        let outcome = Outcome::Failed("no".to_owned());
        sender.send(&BackendToFrontend::Outcome { number, outcome }).unwrap();
    }
    let fetch = Fetch { epoch: 1, batch: BatchId(1), numbers: vec![0, 16] };
    sender.send(&BackendToFrontend::Fetch(fetch)).unwrap();
    for number in [0, 16] {
        let said = served.runtime.block_on(receiver.next()).unwrap().message;
        assert_eq!(said, FrontendToBackend::NoInputs { number });
    }
    drop((sender, receiver));
    served.goes_on();
}

#[test]
fn a_role_on_the_wrong_port_is_refused() {
    let served = Served::start();
    let data = served.frontend.end().data[0].clone();
    let scheduling = served.scheduler.address().clone();
    let settings = links();
    for (to, role, purpose, expected) in [
        (&data, Role::Frontend, LinkPurpose::Data, "only backends fetch inputs here"),
        (&data, Role::Backend, LinkPurpose::Scheduling, "only backends fetch inputs here"),
        (&scheduling, Role::Scheduler, LinkPurpose::Scheduling, "only frontends and backends"),
        (&scheduling, Role::Backend, LinkPurpose::Data, "only frontends and backends"),
        (&scheduling, Role::Frontend, LinkPurpose::Scheduling, "does not say where its inputs"),
    ] {
        let made = connect::<SchedulerToFrontend, FrontendToScheduler>(
            to,
            hello(role, purpose, "x"),
            &settings,
        );
        let why = match served.runtime.block_on(made) {
            Err(error) => error.to_string(),
            Ok(link) => served.why_ended(link),
        };
        assert!(why.contains(expected), "{why}");
    }
    served.goes_on();
}

#[test]
fn garbage_and_hellos_without_an_end_leave_the_cluster_alone() {
    let served = Served::start();
    let mut held = Vec::new();
    for endpoint in [served.scheduler.address(), &served.frontend.end().data[0]] {
        let Endpoint::Tcp(address) = endpoint else { panic!("{endpoint}") };
        let connect = || TcpStream::connect(address).unwrap();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 4096],
            &[0; 64],
            &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
        ] {
            let mut peer = connect();
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = peer.write_all(bytes);
            let mut words = Vec::new();
            // A stream that is reset has ended, too.
            let ended = peer.read_to_end(&mut words);
            let is_timeout =
                ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!is_timeout, "{bytes:?} is refused");
        }
        // These say nothing whole, and stay.
        for _ in 0..64 {
            let mut peer = connect();
            peer.write_all(&[100, 0, 0]).unwrap();
            held.push(peer);
        }
    }
    served.goes_on();
    let _late = backend("late", 1, &[served.scheduler.address()]);
    until("a backend joins all the same", || served.scheduler.serving() == 2);
}
