//! How late a consumer returns from a deadline, and how long a parked one takes to wake:
//! `cargo bench -p symphony-exchange --bench overshoot`, on a machine that is otherwise idle.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use symphony_exchange::{Doorbell, Spin, ring};

const ROUNDS: usize = 1000;

fn main() {
    println!("microseconds                        p50      p99      max");
    for (name, due) in [("late, parked", 0), ("late, spins for the last 100 us", 100)] {
        let spin = Spin { due: Duration::from_micros(due), ..Spin::NEVER };
        print(name, (0..ROUNDS).map(|_| late(spin)).collect());
    }
    for (name, idle) in [("to a parked consumer", 0), ("to one that spins", 10_000)] {
        print(name, wakes(Spin { idle: Duration::from_micros(idle), ..Spin::NEVER }));
    }
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let [p50, p99, max] = [times.len() / 2, times.len() * 99 / 100, times.len() - 1]
        .map(|rank| times[rank].as_secs_f64() * 1e6);
    println!("{name:32} {p50:8.1} {p99:8.1} {max:8.1}");
}

/// How late a wait of a millisecond ends.
fn late(spin: Spin) -> Duration {
    let deadline = Instant::now() + Duration::from_millis(1);
    Doorbell::new().listen(spin).wait(Some(deadline), || false);
    deadline.elapsed()
}

/// From before a message is sent until its consumer has it, a millisecond apart.
fn wakes(spin: Spin) -> Vec<Duration> {
    let doorbell = Doorbell::new();
    let (mut sender, mut receiver) = ring::<Instant>(1, doorbell.ringer());
    let (took, taken) = mpsc::channel();
    let consumer = thread::spawn(move || {
        let mut listener = doorbell.listen(spin);
        for _ in 0..ROUNDS {
            while receiver.is_empty() {
                listener.wait(None, || !receiver.is_empty());
            }
            receiver.drain(1, |sent| took.send(sent.elapsed()).unwrap_or(()));
        }
    });
    let times = (0..ROUNDS).filter_map(|_| {
        thread::sleep(Duration::from_millis(1));
        sender.send(Instant::now()).ok()?;
        taken.recv().ok()
    });
    let times = times.collect();
    consumer.join().expect("it has all messages");
    times
}
