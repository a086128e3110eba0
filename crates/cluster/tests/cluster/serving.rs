//! Clusters in which nothing fails.

use crate::roles::{
    Backend, Folder, accelerators, anywhere, backend, backend_with, frontend, frontend_with, links,
    standby, until,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use symphony_cluster::frontend::{FrontendConfig, own_socket};
use symphony_wire::carrier::link::LinkSettings;
use symphony_wire::carrier::shared_memory::Arena;
use symphony_wire::message::Outcome;

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn requests_of_every_frontend_are_answered_by_every_backend() {
    let folder = Folder::of(&[("m", 300)]);
    let mut scheduler = standby("s");
    let first = frontend("first", &[scheduler.address()]);
    let _backends = ["a", "b"].map(|name| backend(name, 1, &[scheduler.address()]));
    scheduler.take_over(1, &folder);
    let second = frontend("second", &[scheduler.address()]);
    until("all are there", || scheduler.members() == (2, 2) && scheduler.serving() == 2);
    first.serves("m");
    second.serves("m");
    // More than one accelerator takes while a batch runs.
    let mut asked = Vec::new();
    for frontend in [&first, &second, &first, &second] {
        asked.extend((0..4).map(|_| frontend.ask("m")));
    }
    let ran: BTreeSet<_> = accelerators(asked).into_iter().collect();
    assert_eq!(ran, BTreeSet::from([0, 1]), "each backend has its part");
    assert_eq!((first.end().outstanding(), second.end().outstanding()), (0, 0));
}

#[test]
fn models_are_loaded_and_unloaded_and_loaded_again_through_any_frontend() {
    let folder = Folder::of(&[("m", 1)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let (first, second) =
        (frontend("first", &[scheduler.address()]), frontend("second", &[scheduler.address()]));
    let _backends = ["a", "b"].map(|name| backend(name, 2, &[scheduler.address()]));
    first.serves("m");
    second.serves("m");
    folder.write("late", 1, 4);
    let load = |name: &str| {
        let asked = first.end().repository.load(name.to_owned());
        first.runtime().block_on(asked)
    };
    load("late").unwrap();
    second.serves("late");
    accelerators((0..8).map(|_| second.ask("late")).collect());
    let missing = load("missing").unwrap_err().to_string();
    assert!(missing.contains("is not in the repository"), "{missing}");

    // Its files have changed.
    folder.write("late", 2, 2);
    let before = second.end().catalog.load().models["late"].highest().id;
    load("late").unwrap();
    let end = second.end();
    until("the second frontend knows", || end.catalog.load().models["late"].highest().id != before);
    until("all serve", || scheduler.serving() == 4);
    accelerators((0..8).map(|_| second.ask("late")).collect());

    let unload = second.end().repository.unload("late".to_owned());
    second.runtime().block_on(unload).unwrap();
    until("it is gone", || !first.end().catalog.load().models.contains_key("late"));
    load("late").unwrap();
    first.serves("late");
    first.ask("late").answer();
    folder.remove("late");
    second.runtime().block_on(second.end().repository.reload()).unwrap();
    until("it is gone", || !first.end().catalog.load().models.contains_key("late"));
    accelerators(vec![first.ask("m"), second.ask("m")]);
    assert_eq!(scheduler.serving(), 4);
}

#[test]
fn a_backend_that_comes_later_loads_what_is_served_and_then_serves() {
    let folder = Folder::of(&[("m", 200), ("n", 1)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let frontend = frontend("f", &[scheduler.address()]);
    let first = backend("a", 1, &[scheduler.address()]);
    frontend.serves("m");
    frontend.serves("n");
    let _second = backend("b", 2, &[scheduler.address()]);
    until("the second serves", || scheduler.serving() == 3);
    drop(first);
    until("the first is gone", || scheduler.serving() == 2);
    let asked = ["m", "n", "m", "n"].map(|model| frontend.ask(model));
    let ran = accelerators(asked.into());
    assert!(ran.iter().all(|accelerator| [1, 2].contains(accelerator)), "{ran:?}");
}

#[test]
fn backends_that_leave_one_after_another_lose_nothing() {
    let folder = Folder::of(&[("m", 5)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let frontend = frontend("f", &[scheduler.address()]);
    let start = |name: &str| backend(name, 1, &[scheduler.address()]);
    let mut backends: Vec<Backend> = ["a", "b", "c"].map(start).into();
    until("all serve", || scheduler.serving() == 3);
    frontend.serves("m");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However this ends, so does the load.
        let end = SetAtEnd(&stop);
        let load = scope.spawn(|| {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let asked = (0..10).map(|_| frontend.ask("m")).collect();
                answered += accelerators(asked).len();
            }
            answered
        });
        for name in ["a", "b", "c"] {
            assert!(backends.remove(0).leave(), "{name} leaves in order");
            until("two are left", || scheduler.members().1 == 2);
            backends.push(start(name));
            until("it serves again", || scheduler.serving() == 3);
        }
        drop(end);
        assert!(load.join().unwrap() > 0);
    });
}

#[test]
fn a_backend_of_the_same_host_reads_inputs_where_they_wait() {
    const MEMORY: usize = 1 << 20;
    const ROW: usize = 100_000;
    let folder = Folder::of(&[]);
    folder.write_of("m", 1, 4, ROW);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let arena = Arena::new(MEMORY).unwrap();
    let frontend = |name: &str, arena| {
        frontend_with(FrontendConfig {
            name: name.to_owned(),
            schedulers: vec![scheduler.address().clone()],
            listen: vec![own_socket(), anywhere()],
            advertised: Vec::new(),
            links: LinkSettings { arena, ..links() },
            in_flight_max: 100,
        })
    };
    let (with, without) = (frontend("with", Some(arena.clone())), frontend("without", None));
    // No link takes a row to it.
    let small = LinkSettings { frame_max: ROW / 2, ..links() };
    let _backend = backend_with("a", 1, &[scheduler.address()], small);
    with.serves("m");
    without.serves("m");
    // More than there is memory for at once.
    for _ in 0..3 {
        let asked: Vec<_> = (0..8).map(|_| with.ask_of("m", vec![7; ROW])).collect();
        assert_eq!(accelerators(asked), [0; 8]);
    }
    until("the memory is free again", || arena.buffer(MEMORY).is_some());
    let Outcome::Failed(problem) = without.ask_of("m", vec![7; ROW]).outcome() else {
        panic!("a row has come by a link");
    };
    assert!(problem.contains("cluster.frame_max_mib"), "{problem}");
}

#[test]
fn a_backend_that_could_not_load_a_model_tries_again() {
    let folder = Folder::of(&[("m", 1)]);
    let mut scheduler = standby("s");
    scheduler.take_over(1, &folder);
    let frontend = frontend("f", &[scheduler.address()]);
    let _first = backend("a", 1, &[scheduler.address()]);
    frontend.serves("m");
    // As on a machine where the directory is not mounted yet.
    folder.hide("m");
    let _second = backend("b", 1, &[scheduler.address()]);
    until("both are there", || scheduler.members().1 == 2);
    frontend.ask("m").answer();
    assert_eq!(scheduler.serving(), 1);
    folder.show("m");
    until("the second serves", || scheduler.serving() == 2);
}
