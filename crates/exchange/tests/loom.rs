//! Small cases in the interleavings that matter, with every value that the memory model allows a load
//! to see. A wake-up that is lost shows as a deadlock. How to run it is in the crate's documentation.

#![cfg(loom)]

use std::task::{Context, Wake, Waker};
use std::time::Instant;

use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use symphony_exchange::{Doorbell, Full, Spin, TaskListener, board, ring};

/// All interleavings with up to three preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
fn explore(case: impl Fn() + Send + Sync + 'static) {
    explore_to(3, case);
}

/// The same for a case that goes wrong by a longer way.
fn explore_to(preemptions: usize, case: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(case);
}

#[test]
fn every_message_arrives_once_and_in_order() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut sender, mut receiver) = ring(2, doorbell.ringer());
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut messages = Vec::new();
            while messages.len() < 3 {
                listener.wait(None, || !receiver.is_empty());
                receiver.drain_into(2, &mut messages);
            }
            messages
        });
        sender.send(0).expect("there is room");
        let mut burst = sender.burst();
        burst.send(1).expect("there is room");
        let mut last = burst.send(2);
        while let Err(Full(message)) = last {
            thread::yield_now();
            last = burst.send(message);
        }
        drop(burst);
        assert_eq!(consumer.join().expect("no panic"), [0, 1, 2]);
    });
}

#[test]
fn one_bell_serves_two_writers() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut first, mut from_first) = ring(1, doorbell.ringer());
        let (mut second, mut from_second) = board::<[u64; 1]>(1, doorbell.ringer());
        let senders = [
            thread::spawn(move || first.send(1).expect("there is room")),
            thread::spawn(move || second.publish(0, [2])),
        ];
        let mut listener = doorbell.listen(Spin::NEVER);
        let (mut message, mut value) = (None, None);
        while message.is_none() || value.is_none() {
            listener.wait(None, || !from_first.is_empty() || !from_second.is_empty());
            message = message.or(from_first.pop());
            from_second.drain(|_, news| value = Some(news));
        }
        assert_eq!((message, value), (Some(1), Some([2])));
        for sender in senders {
            sender.join().expect("no panic");
        }
    });
}

#[test]
fn a_deadline_does_not_spoil_the_next_wait() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut sender, mut receiver) = ring(2, doorbell.ringer());
        let past = Instant::now();
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut messages = Vec::new();
            listener.wait(Some(past), || !receiver.is_empty());
            receiver.drain_into(2, &mut messages);
            while messages.len() < 2 {
                listener.wait(None, || !receiver.is_empty());
                receiver.drain_into(2, &mut messages);
            }
            messages
        });
        for message in [1, 2] {
            sender.send(message).expect("there is room");
        }
        assert_eq!(consumer.join().expect("no panic"), [1, 2]);
    });
}

#[test]
fn what_is_left_wakes_who_sleeps_lightly() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut sender, mut receiver) = ring(2, doorbell.ringer());
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut messages = Vec::new();
            while messages.len() < 2 {
                listener.wait(None, || !receiver.is_empty());
                receiver.drain_into(2, &mut messages);
            }
            messages
        });
        for message in [1, 2] {
            sender.leave(message).expect("there is room");
        }
        assert_eq!(consumer.join().expect("no panic"), [1, 2]);
    });
}

/// What is left beside a sound sleeper is there when a ring has woken it, and once it sleeps lightly
/// again nothing needs to be rung for.
#[test]
fn what_is_left_waits_for_a_ring_and_is_not_lost() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut ends, mut ended) = ring(2, doorbell.ringer());
        let (mut asks, mut asked) = ring(1, doorbell.ringer());
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut count = 0;
            while asked.pop().is_none() {
                listener.wait_soundly(None, || !asked.is_empty() || !ended.is_empty());
                count += ended.drain(2, |()| ());
            }
            while count < 2 {
                listener.wait(None, || !ended.is_empty());
                count += ended.drain(2, |()| ());
            }
        });
        ends.leave(()).expect("there is room");
        asks.send(()).expect("there is room");
        ends.leave(()).expect("there is room");
        consumer.join().expect("no panic");
    });
}

/// The end of a party is not among what `pending` looks at.
#[test]
fn a_summons_ends_a_wait_that_looks_at_nothing() {
    explore(|| {
        let doorbell = Doorbell::new();
        let ringer = doorbell.ringer();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            while !is_over.load(Relaxed) {
                listener.wait(None, || false);
            }
        });
        over.store(true, Relaxed);
        ringer.summon();
        consumer.join().expect("no panic");
    });
}

/// A shard leaves and summons the matcher while another one rings for what the matcher has just
/// taken: that ring must not use the summons up.
#[test]
fn no_ring_takes_a_summons_away() {
    explore_to(5, || {
        let doorbell = Doorbell::new();
        let (mut sender, mut receiver) = ring(1, doorbell.ringer());
        let leaver = doorbell.ringer();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let writer = thread::spawn(move || sender.send(()).expect("there is room"));
        let leaving = thread::spawn(move || {
            over.store(true, Relaxed);
            leaver.summon();
        });
        let mut listener = doorbell.listen(Spin::NEVER);
        let mut count = 0;
        loop {
            count += receiver.drain(1, |()| ());
            if is_over.load(Relaxed) && count > 0 {
                break;
            }
            listener.wait(None, || !receiver.is_empty());
        }
        writer.join().expect("no panic");
        leaving.join().expect("no panic");
    });
}

/// A timer may fire at the moment of a summons.
#[test]
fn no_timer_takes_a_summons_away() {
    explore(|| {
        let doorbell = Doorbell::new();
        let leaver = doorbell.ringer();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let past = Instant::now();
        let leaving = thread::spawn(move || {
            over.store(true, Relaxed);
            leaver.summon();
        });
        let mut listener = doorbell.listen(Spin::NEVER);
        listener.wait(Some(past), || false);
        while !is_over.load(Relaxed) {
            listener.wait(None, || false);
        }
        leaving.join().expect("no panic");
    });
}

/// An executor of one task.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as a task does, on a thread that parks while it has nothing to poll.
fn wait_as_task(listener: &mut TaskListener, pending: impl Fn() -> bool) {
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if listener.poll_wait(&mut context, &pending).is_ready() {
            return;
        }
        thread::park();
    }
}

#[test]
fn a_task_misses_no_message_and_no_summons() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut sender, mut receiver) = ring(1, doorbell.ringer());
        let leaver = doorbell.ringer();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let writer = thread::spawn(move || {
            sender.send(()).expect("there is room");
            over.store(true, Relaxed);
            leaver.summon();
        });
        let mut listener = doorbell.listen_as_task();
        let mut count = 0;
        while !is_over.load(Relaxed) || count == 0 {
            wait_as_task(&mut listener, || !receiver.is_empty());
            count += receiver.drain(1, |()| ());
        }
        writer.join().expect("no panic");
    });
}

/// Publishes `news` and takes until the newest of each slot has been seen.
fn check_board<const SLOTS: usize>(news: &'static [(usize, u64)]) {
    explore(move || {
        let doorbell = Doorbell::new();
        let (mut writer, mut reader) = board::<[u64; 2]>(SLOTS, doorbell.ringer());
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut last = [0; SLOTS];
            while news.iter().any(|&(index, value)| last[index] < value) {
                listener.wait(None, || !reader.is_empty());
                reader.drain(|index, [left, right]| {
                    assert_eq!(left, right, "words of two values");
                    assert!(left > last[index], "taken twice, or an older one");
                    last[index] = left;
                });
            }
            assert_eq!(reader.drain(|_, _| ()), 0, "nothing is newer than the newest");
        });
        for &(index, value) in news {
            writer.publish(index, [value, value]);
        }
        consumer.join().expect("no panic");
    });
}

#[test]
fn a_board_of_one_slot_ends_with_the_newest() {
    check_board::<1>(&[(0, 1), (0, 2)]);
}

#[test]
fn a_board_loses_no_news_of_one_slot() {
    check_board::<65>(&[(0, 1), (0, 2)]);
}

#[test]
fn a_board_loses_no_news_of_slots_in_one_word() {
    check_board::<65>(&[(0, 1), (1, 1)]);
}

#[test]
fn a_board_loses_no_news_of_slots_in_two_words() {
    check_board::<65>(&[(0, 1), (64, 1)]);
}

#[test]
fn a_burst_of_news_rings_once_for_all() {
    explore(|| {
        let doorbell = Doorbell::new();
        let (mut writer, mut reader) = board::<[u64; 1]>(2, doorbell.ringer());
        let consumer = thread::spawn(move || {
            let mut listener = doorbell.listen(Spin::NEVER);
            let mut sum = 0;
            while sum < 3 {
                listener.wait(None, || !reader.is_empty());
                reader.drain(|_, [value]| sum += value);
            }
        });
        let mut burst = writer.burst();
        burst.publish(0, [1]);
        burst.publish(1, [2]);
        drop(burst);
        consumer.join().expect("no panic");
    });
}
