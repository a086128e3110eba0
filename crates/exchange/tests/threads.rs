//! The exchanges between real threads, whose consumer sleeps whenever it can: a wake-up that is
//! lost hangs the test.

#![cfg(not(loom))]

use std::thread;
use std::time::{Duration, Instant};

use symphony_exchange::{Doorbell, Full, Listener, Spin, Woken, board, ring};

/// Fewer where each step is interpreted.
const COUNT: u64 = if cfg!(miri) { 200 } else { 100_000 };
const CASES: [Spin; 3] = [
    Spin::NEVER,
    Spin { idle: Duration::from_micros(5), due: Duration::ZERO },
    Spin { idle: Duration::ZERO, due: Duration::from_micros(100) },
];

/// Runs a consumer beside a writer, for each way of waiting.
fn check<W: Send, R: Send>(
    ends: impl Fn(&Doorbell) -> (W, R),
    write: impl Fn(&mut W) + Sync,
    read: impl Fn(&mut R, &mut Listener) + Sync,
) {
    for spin in CASES {
        let doorbell = Doorbell::new();
        let (mut writer, mut reader) = ends(&doorbell);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut listener = doorbell.listen(spin);
                read(&mut reader, &mut listener);
            });
            write(&mut writer);
        });
    }
}

#[test]
fn messages_arrive_once_and_in_order() {
    check(
        |doorbell| ring::<u64>(16, doorbell.ringer()),
        |sender| {
            for number in 0..COUNT {
                let mut sent = sender.send(number);
                while let Err(Full(number)) = sent {
                    thread::yield_now();
                    sent = sender.send(number);
                }
            }
        },
        |receiver, listener| {
            let mut next = 0;
            while next < COUNT {
                listener.wait(None, || !receiver.is_empty());
                receiver.drain(8, |number| {
                    assert_eq!(number, next);
                    next += 1;
                });
            }
        },
    );
}

#[test]
fn a_burst_longer_than_the_ring_gets_through() {
    check(
        |doorbell| ring::<u64>(4, doorbell.ringer()),
        |sender| {
            let mut burst = sender.burst();
            for number in 0..COUNT / 10 {
                while burst.send(number).is_err() {
                    thread::yield_now();
                }
            }
        },
        |receiver, listener| {
            let mut next = 0;
            while next < COUNT / 10 {
                listener.wait(None, || !receiver.is_empty());
                next += receiver.drain(8, |_| ()) as u64;
            }
        },
    );
}

#[test]
fn a_board_ends_with_the_newest_of_each_slot() {
    check_board::<200>();
}

#[test]
fn a_board_of_one_slot_ends_with_the_newest() {
    check_board::<1>();
}

/// Publishes to one slot after the other and takes until the newest of each has been seen.
fn check_board<const SLOTS: usize>() {
    let slot_of =
        |value: u64| usize::try_from(value * 7 % SLOTS as u64).expect("it is below SLOTS");
    check(
        |doorbell| board::<[u64; 6]>(SLOTS, doorbell.ringer()),
        |writer| (1..=COUNT).for_each(|value| writer.publish(slot_of(value), [value; 6])),
        |reader, listener| {
            let mut last = [0; SLOTS];
            let newest = COUNT.saturating_sub(SLOTS as u64) + 1..=COUNT;
            while newest.clone().any(|value| last[slot_of(value)] < value) {
                listener.wait(None, || !reader.is_empty());
                reader.drain(|index, words| {
                    assert_eq!(words, [words[0]; 6]);
                    assert!(words[0] > last[index]);
                    last[index] = words[0];
                });
            }
        },
    );
}

#[test]
fn a_deadline_ends_the_wait_and_not_before() {
    for spin in CASES {
        let mut listener = Doorbell::new().listen(spin);
        let deadline = Instant::now() + Duration::from_millis(2);
        assert_eq!(listener.wait(Some(deadline), || false), Woken::Due);
        assert!(Instant::now() >= deadline);
        assert_eq!(listener.wait(Some(deadline), || false), Woken::Due, "it is past");
        assert_eq!(listener.wait(Some(deadline), || true), Woken::Work);
    }
}

#[test]
fn a_ring_from_elsewhere_ends_the_wait() {
    let doorbell = Doorbell::new();
    let ringer = doorbell.ringer();
    let mut listener = doorbell.listen(Spin::NEVER);
    // Nobody knows when the wait begins: the bell rings until it has ended.
    let (ended, is_ended) = std::sync::mpsc::channel();
    let ringing = thread::spawn(move || {
        while is_ended.try_recv().is_err() {
            ringer.ring();
            thread::yield_now();
        }
    });
    assert_eq!(listener.wait(None, || false), Woken::Work);
    ended.send(()).expect("it is still ringing");
    ringing.join().expect("no panic");
}

#[test]
fn a_nudge_does_not_end_a_sound_wait() {
    let doorbell = Doorbell::new();
    let ringer = doorbell.ringer();
    let mut listener = doorbell.listen(Spin::NEVER);
    let (ended, is_ended) = std::sync::mpsc::channel();
    let nudging = thread::spawn(move || {
        while is_ended.try_recv().is_err() {
            ringer.nudge();
            thread::yield_now();
        }
    });
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(listener.wait_soundly(Some(deadline), || false), Woken::Due);
    assert_eq!(listener.wait(None, || false), Woken::Work);
    ended.send(()).expect("it is still nudging");
    nudging.join().expect("no panic");
}
