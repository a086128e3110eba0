//! Nothing allocates once the ends were made: neither with a consumer that is awake nor with one
//! that parks.

#![cfg(not(loom))]

use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use symphony_exchange::{Doorbell, Spin, board, ring};

const ROUNDS: u64 = 1000;

#[test]
fn nothing_allocates_on_either_side() {
    let doorbell = Doorbell::new();
    let (mut sender, mut receiver) = ring(64, doorbell.ringer());
    let (mut writer, mut reader) = board::<[u64; 6]>(10_000, doorbell.ringer());
    let consumer = thread::spawn(move || {
        let mut listener = doorbell.listen(Spin::NEVER);
        let mut messages = Vec::with_capacity(64);
        let mut left = ROUNDS;
        measure(|| {
            while left > 0 {
                let soon = Instant::now() + Duration::from_micros(100);
                listener.wait(Some(soon), || !receiver.is_empty() || !reader.is_empty());
                messages.clear();
                left -= receiver.drain_into(64, &mut messages) as u64;
                reader.drain(|_, _| ());
            }
        })
    });
    let writing = measure(|| {
        for (index, round) in (0..ROUNDS).enumerate() {
            writer.publish(index * 97 % 10_000, [round; 6]);
            while sender.send(round).is_err() {
                thread::yield_now();
            }
        }
    });
    let reading = consumer.join().expect("no panic");
    assert_eq!((writing.count_total, reading.count_total), (0, 0));
}
