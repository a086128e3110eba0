//! Backends, frontends and links that fail.

use crate::proxy::Proxy;
use crate::roles::{
    Asked, Folder, Frontend, accelerators, backend, frontend, frontend_at, standby, until,
};

use symphony_core::Span;

/// Longer than the test needs to see that something runs.
const SLOW_MS: u64 = 2_000;

/// Has two accelerators run a request each.
fn two_batches(frontend: &Frontend) -> Vec<Asked> {
    let mut asked = Vec::new();
    for count in 1..=2 {
        asked.push(frontend.ask("m"));
        frontend.all_run(count);
    }
    asked
}

#[test]
fn the_requests_of_a_backend_that_dies_run_elsewhere() {
    let folder = Folder::of(&[("m", SLOW_MS)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let frontend = frontend("f", &[scheduler.address()]);
    let first = backend("a", 1, &[scheduler.address()]);
    frontend.serves("m");
    let _second = backend("b", 1, &[scheduler.address()]);
    until("the second serves", || scheduler.serving() == 2);
    let asked = two_batches(&frontend);
    drop(first);
    assert_eq!(accelerators(asked), [1, 1]);
    assert_eq!(frontend.end().outstanding(), 0);
}

#[test]
fn a_life_that_was_given_up_counts_no_more_and_the_backend_comes_back() {
    let folder = Folder::of(&[("m", SLOW_MS)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let frontend = frontend("f", &[scheduler.address()]);
    let way = Proxy::to(scheduler.address());
    let _first = backend("a", 1, &[&way.address]);
    frontend.serves("m");
    let _second = backend("b", 1, &[scheduler.address()]);
    until("the second serves", || scheduler.serving() == 2);
    let asked = two_batches(&frontend);
    way.cut();
    until("the first is given up", || scheduler.members().1 == 1);
    way.mend();
    // While it still runs the batch that was given up.
    until("the first is back", || scheduler.members().1 == 2);
    let queued = asked.into_iter().map(|asked| asked.answer().execution.queued);
    let queued: Vec<_> = queued.collect();
    // Both accelerators were busy that long: the result of the life before was refused.
    assert!(queued.iter().any(|queued| *queued > Span::from_millis(SLOW_MS / 2)), "{queued:?}");
    until("the first serves again", || scheduler.serving() == 2);
    let again = (0..8).map(|_| frontend.ask("m")).collect();
    assert!(accelerators(again).contains(&0), "it has its part");
}

#[test]
fn a_frontend_that_dies_leaves_no_trace() {
    let folder = Folder::of(&[("m", 300)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let dying = frontend("dying", &[scheduler.address()]);
    let staying = frontend("staying", &[scheduler.address()]);
    let _backend = backend("a", 1, &[scheduler.address()]);
    dying.serves("m");
    staying.serves("m");
    // Many batches: without the frontend they would take longer than the test may.
    let _never: Vec<_> = (0..4_000).map(|_| dying.ask("m")).collect();
    let asked = staying.ask("m");
    until("one runs", || dying.end().in_flight.len() < 4_000);
    drop(dying);
    until("it is gone", || scheduler.members().0 == 1);
    asked.answer();
    staying.ask("m").answer();
    assert_eq!(scheduler.serving(), 1);
}

#[test]
fn answers_wait_while_the_link_to_their_frontend_is_cut() {
    let folder = Folder::of(&[("m", SLOW_MS)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let way = Proxy::start();
    let frontend = frontend_at("f", &[scheduler.address()], &[&way.address]);
    way.leads_to(&frontend.end().data[0]);
    let _backend = backend("a", 1, &[scheduler.address()]);
    frontend.serves("m");
    let asked = vec![frontend.ask("m")];
    frontend.all_run(1);
    let passed = way.passed();
    way.cut();
    // The batch ends meanwhile: its accelerator takes the next, whose inputs cannot be fetched.
    let next = frontend.ask("m");
    until("the batch has ended", || scheduler.batches() == 1);
    way.mend();
    until("the backend has connected again", || way.passed() > passed);
    accelerators(asked);
    next.answer();
    assert_eq!((scheduler.serving(), frontend.end().outstanding()), (1, 0));
}
