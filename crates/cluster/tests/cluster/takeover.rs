//! A scheduler dies, and a standby takes over.

use crate::roles::{Folder, accelerators, backend, frontend, standby, until};

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
