//! How the scheduler's threads end together: a thread that has looked for the end, and is about to
//! sleep when the end comes, is woken for it.

mod support;

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use support::Rig;
use symphony_core::sched::Mode;
use symphony_dispatch::{InFlightEffects, Settings, Thread};
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::{Layout, SchedulerPort};
use symphony_wire::clock::Clock;

/// Far longer than any machine needs to wake a thread: only a wake-up that is lost takes it.
const LOST_AFTER: Duration = Duration::from_secs(30);

type Part = Thread<InFlightEffects<support::Send>>;

/// Ends the scheduler between the last look of its matcher, which has a thread of its own, and the
/// matcher's sleep.
#[track_caller]
fn check(end: impl FnOnce(SchedulerPort, Part)) {
    let settings = Settings::new(Mode::Eager, 1);
    let Rig { threads, port, .. } = Rig::new(&settings, Layout::on_threads(2), 9);
    let [mut matcher, shard] = <[Part; 2]>::try_from(threads).ok().expect("two threads");
    let clock = Clock::start();
    let (looked, has_looked) = channel();
    let (ended, has_ended) = channel();
    let (woke, has_woken) = channel();
    let sleeper = thread::spawn(move || {
        let mut listener = matcher.listen(Spin::NEVER).expect("nobody listened before");
        let turn = matcher.timed_turn(&clock);
        assert_eq!((matcher.is_over(), matcher.next_wake(turn.ended)), (false, None));
        looked.send(()).expect("the test waits");
        has_ended.recv().expect("the test says so");
        matcher.wait(turn, &clock, &mut listener);
        matcher.turn(clock.now());
        woke.send(matcher.is_over()).expect("the test waits");
    });
    has_looked.recv().expect("it looks");
    end(port, shard);
    ended.send(()).expect("it waits");
    assert_eq!(has_woken.recv_timeout(LOST_AFTER), Ok(true), "its wake-up is lost");
    sleeper.join().expect("no panic");
}

#[test]
fn the_last_shard_has_drained() {
    check(|port, mut shard| {
        let _drained = port.drain().expect("it runs");
        shard.turn(Clock::start().now());
        assert!(shard.is_over());
        // Nobody else may wake the matcher later.
        std::mem::forget(port);
    });
}

#[test]
fn every_port_is_gone() {
    check(|port, _shard| drop(port));
}
