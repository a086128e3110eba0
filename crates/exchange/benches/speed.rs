//! What an exchange costs: `cargo bench -p symphony-exchange --bench speed`.
//!
//! Times are for one message or value. Of two threads each has a core of its own, if the machine
//! has two free; the reader polls, so nobody pays for waking.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, fence};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use symphony_exchange::{Doorbell, board, ring};

/// What a request or a candidate takes.
type Words = [u64; 6];

const BURST: u64 = 64;

/// Does nothing with a value, unseen by the compiler.
fn consume<T>(value: T) {
    let _ = black_box(value);
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one thread");
    let bell = Doorbell::new();
    group.bench_function("ring: send, pop", |bencher| {
        let (mut sender, mut receiver) = ring::<Words>(1024, bell.ringer());
        bencher.iter(|| {
            let _ = sender.send(black_box([1; 6]));
            receiver.pop()
        });
    });
    group.bench_function("board of 10000: publish anywhere, drain", |bencher| {
        let (mut writer, mut reader) = board::<Words>(10_000, bell.ringer());
        let mut next = 0;
        bencher.iter(|| {
            next = (next + 7919) % 10_000;
            writer.publish(next, black_box([1; 6]));
            reader.drain(|_, words| consume(words))
        });
    });
    group.bench_function("board of 10000: drain nothing", |bencher| {
        let (_writer, mut reader) = board::<Words>(10_000, bell.ringer());
        bencher.iter(|| reader.drain(|_, words| consume(words)));
    });
    group.bench_function("fence of a ring", |bencher| bencher.iter(|| fence(SeqCst)));
    group.bench_function("an exchange instead of the fence", |bencher| {
        let state = AtomicU32::new(0);
        bencher.iter(|| state.fetch_or(0, AcqRel));
    });
    group.throughput(Throughput::Elements(BURST));
    group.bench_function("ring: burst of 64, drain", |bencher| {
        let (mut sender, mut receiver) = ring::<Words>(1024, bell.ringer());
        bencher.iter(|| {
            let mut burst = sender.burst();
            for number in 0..BURST {
                let _ = burst.send([black_box(number); 6]);
            }
            drop(burst);
            receiver.drain(1024, consume)
        });
    });
    group.bench_function("board of 10000: burst of 64 anywhere, drain", |bencher| {
        let (mut writer, mut reader) = board::<Words>(10_000, bell.ringer());
        let mut next = 0;
        bencher.iter(|| {
            let mut burst = writer.burst();
            for number in 0..BURST {
                next = (next + 7919) % 10_000;
                burst.publish(next, [number; 6]);
            }
            drop(burst);
            reader.drain(|_, words| consume(words))
        });
    });
    group.finish();
}

/// The time `write` takes for as many writes as it is told, beside a thread that calls `read`
/// until it is over.
fn beside(read: impl FnMut() + Send, write: impl FnOnce()) -> Duration {
    let (ready, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (ready, over, mut read) = (&ready, &over, read);
        scope.spawn(move || {
            ready.store(true, Release);
            while !over.load(Relaxed) {
                read();
            }
        });
        while !ready.load(Acquire) {
            spin_loop();
        }
        let start = Instant::now();
        write();
        let took = start.elapsed();
        over.store(true, Relaxed);
        took
    })
}

fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two threads");
    let bell = Doorbell::new();
    for (name, burst) in [("ring: send", 1), ("ring: bursts of 64", BURST)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let (mut sender, mut receiver) = ring::<Words>(4096, bell.ringer());
                let read = || consume(receiver.drain(4096, consume));
                beside(read, || {
                    for _ in 0..count.div_ceil(burst) {
                        let mut together = sender.burst();
                        for number in 0..burst {
                            while together.send([number; 6]).is_err() {
                                spin_loop();
                            }
                        }
                    }
                })
            });
        });
    }
    for (name, burst) in [("board: publish", 1), ("board: bursts of 64", BURST)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let (mut writer, mut reader) = board::<Words>(10_000, bell.ringer());
                let read = || consume(reader.drain(|_, words| consume(words)));
                beside(read, || {
                    let mut next = 0;
                    for _ in 0..count.div_ceil(burst) {
                        let mut together = writer.burst();
                        for number in 0..burst {
                            next = (next + 7919) % 10_000;
                            together.publish(next, [number; 6]);
                        }
                    }
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = one_thread, two_threads
}
criterion_main!(benches);
