//! A scheduler dies, and a standby takes over.

use crate::roles::{
    Folder, accelerators, anywhere, backend, frontend, links, runtime, standby, until,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use symphony_cluster::scheduler::Tenure;
use symphony_wire::carrier::link::{Hello, Link, LinkPurpose, Listener, Role};
use symphony_wire::message::link::{BackendToScheduler, SchedulerToBackend};

#[test]
fn what_waits_and_what_runs_is_answered_once_when_a_standby_takes_over() {
    let folder = Folder::of(&[("m", 1_000), ("n", 1)]);
    let (mut first, mut second) = (standby("first"), standby("second"));
    let both = [&first.address().clone(), &second.address().clone()];
    first.take_over(1, &folder);
    let frontends = ["f", "g"].map(|name| frontend(name, &both));
    let backends = ["a", "b"].map(|name| backend(name, 1, &both));
    until("all serve", || first.serving() == 2);
    frontends.iter().for_each(|frontend| frontend.serves("m"));
    let mut asked: Vec<_> = frontends.iter().map(|frontend| frontend.ask("m")).collect();
    frontends.iter().for_each(|frontend| frontend.all_run(1));
    // These wait, or have just been sent.
    for frontend in &frontends {
        asked.extend((0..20).map(|at| frontend.ask(if at % 2 == 0 { "m" } else { "n" })));
    }
    drop(first);
    until("nobody is active", || backends.iter().all(|backend| backend.get().epoch().is_none()));
    // And this comes while there is no scheduler.
    asked.push(frontends[0].ask("n"));
    second.take_over(2, &folder);
    assert_eq!(accelerators(asked).len(), 43);
    assert!(backends.iter().all(|backend| backend.get().epoch() == Some(2)));
    assert!(frontends.iter().all(|frontend| frontend.end().epoch() == Some(2)));
    until("all serve", || second.serving() == 2);
    assert!(frontends.iter().all(|frontend| frontend.end().outstanding() == 0));
}

#[test]
fn a_former_scheduler_that_is_still_there_is_not_obeyed() {
    let folder = Folder::of(&[("m", 1)]);
    let (mut first, mut second) = (standby("first"), standby("second"));
    let both = [&first.address().clone(), &second.address().clone()];
    first.take_over(1, &folder);
    let frontend = frontend("f", &both);
    let backend = backend("a", 1, &both);
    frontend.serves("m");
    second.take_over(2, &folder);
    until("all obey the second", || {
        frontend.end().epoch() == Some(2) && backend.get().epoch() == Some(2)
    });
    until("the second serves", || second.serving() == 1);
    accelerators((0..10).map(|_| frontend.ask("m")).collect());
    assert_eq!(frontend.end().epoch(), Some(2));
}

#[test]
fn a_scheduler_that_has_lost_its_lease_sends_nothing_more() {
    let folder = Folder::of(&[("m", 1)]);
    let (mut first, mut second) = (standby("first"), standby("second"));
    let both = [&first.address().clone(), &second.address().clone()];
    let held = Arc::new(AtomicBool::new(true));
    let is_held = Arc::clone(&held);
    first.take_over_in(Tenure::new(1, move || is_held.load(Ordering::Relaxed)), &folder);
    let frontend = frontend("f", &both);
    let _backend = backend("a", 1, &both);
    frontend.serves("m");
    frontend.ask("m").answer();
    held.store(false, Ordering::Relaxed);
    let mut waits = frontend.ask("m");
    // The scheduler has taken the request, and decided more than once.
    for _ in 0..20 {
        first.batches();
    }
    assert!(waits.is_answered().is_none());
    second.take_over(2, &folder);
    waits.answer();
}

#[test]
fn backends_forget_what_the_next_scheduler_does_not_serve() {
    let folder = Folder::of(&[("m", 1), ("gone", 1)]);
    let (mut first, mut second) = (standby("first"), standby("second"));
    let runtime = runtime();
    // Plays a third scheduler, which asks the backend what it has.
    let asks = runtime.block_on(Listener::bind(&anywhere(), &links())).unwrap();
    let all = [&first.address().clone(), &second.address().clone(), &asks.address().clone()];
    first.take_over(1, &folder);
    let frontend = frontend("f", &all[..2]);
    let _backend = backend("a", 1, &all);
    frontend.serves("m");
    frontend.serves("gone");
    let hello = Hello {
        role: Role::Scheduler,
        purpose: LinkPurpose::Scheduling,
        name: "asks".to_owned(),
        life: 1,
        capabilities: 0,
        details: bytes::Bytes::new(),
    };
    let mut link: Link<BackendToScheduler, SchedulerToBackend> =
        runtime.block_on(async { asks.accept().await.welcome(&hello) });
    let mut has = || {
        let asked = SchedulerToBackend::Welcome { epoch: 9, accelerators: Vec::new() };
        link.sender.send(&asked).unwrap();
        let said = runtime.block_on(link.receiver.next()).unwrap().message;
        let BackendToScheduler::Register(registration) = said else { panic!("{said:?}") };
        let names = registration.loaded.into_iter().map(|facts| facts.name);
        names.collect::<BTreeSet<_>>()
    };
    drop(first);
    folder.remove("gone");
    second.take_over(2, &folder);
    until("the second serves", || second.serving() == 1);
    until("the other is forgotten", || has() == BTreeSet::from(["m".to_owned()]));
}
