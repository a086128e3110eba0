//! What the scheduler's threads hand to each other: a bounded [`ring()`] where every message counts
//! (requests in, completions in), a [`board()`] of latest-value slots where only the newest counts
//! (candidates), and the [`Doorbell`] that wakes their reader.
//!
//! Each has one writer and one reader, each end belongs to one thread at a time, and nothing
//! allocates after it was made. One doorbell serves everything that its consumer reads:
//!
//! ```
//! use std::time::Instant;
//! use symphony_exchange::{Doorbell, Spin, board, ring};
//!
//! let doorbell = Doorbell::new();
//! let (mut requests, mut inbox) = ring::<u64>(1024, doorbell.ringer());
//! let (mut candidates, mut table) = board::<[u64; 3]>(100, doorbell.ringer());
//!
//! let consumer = std::thread::spawn(move || {
//!     let mut listener = doorbell.listen(Spin::NEVER);
//!     let (mut sum, mut newest) = (0, None);
//!     while sum < 3 || newest.is_none() {
//!         listener.wait(None::<Instant>, || !inbox.is_empty() || !table.is_empty());
//!         inbox.drain(256, |request| sum += request);
//!         table.drain(|model, candidate| newest = Some((model, candidate)));
//!     }
//!     (sum, newest)
//! });
//! requests.send(1).expect("there is room");
//! candidates.publish(42, [7, 8, 9]);
//! requests.send(2).expect("there is room");
//! assert_eq!(consumer.join().expect("no panic"), (3, Some((42, [7, 8, 9]))));
//! ```
//!
//! It knows nothing of scheduling: what the messages mean is for the threads at both ends.
//! There is no `unsafe` here. The interleavings of the cases in `tests/loom.rs` are checked by
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p symphony-exchange --test loom --target-dir target/loom
//! ```
//!
//! or, the same, `cargo xtask test --only loom`.

mod bell;
mod board;
mod marks;
mod ring;
mod seqlock;
#[cfg(loom)]
mod stand_in;
mod sync;

pub use bell::{Doorbell, Listener, Ringer, Spin, TaskListener, Woken};
pub use board::{BoardBurst, BoardReader, BoardWriter, board};
pub use ring::{Burst, Full, Receiver, Sender, ring};
pub use seqlock::Value;
