//! Gaps: moments in which no batch runs on an accelerator, lent to a load for one run of its own.
//!
//! A model that is tried out or measured beside models that serve uses the cores that serve. Its
//! runs go where no batch is: the accelerator's thread lends a gap, stands still until it gets it
//! back, and so no run and no batch share the cores. A batch that comes meanwhile waits for one run
//! at most.

use super::port::Unreachable;
use crossbeam_channel::{Receiver, Sender, bounded, never, select_biased};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use symphony_core::AcceleratorId;

/// Bound on the runs that wait for one accelerator: the loads that are under way together.
const ASKS_MAX: usize = 64;

/// How long a run waits while batches follow each other without a gap. Then one is made, so that a
/// load ends on an accelerator that is always busy.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long to wait for an accelerator that lends nothing: longer than batches run, if they end.
const LEND_WITHIN: Duration = Duration::from_secs(10);

/// How often to look whether the accelerator has ended meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An accelerator that has run a batch within this time is serving.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// What a load asks an accelerator for.
#[derive(Debug)]
struct Ask {
    /// Told when the gap begins, and whether the accelerator serves.
    lent: Sender<bool>,
    /// Closed when the gap is over.
    over: Receiver<Infallible>,
}

/// The way to the gaps of one accelerator; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct GapPort {
    accelerator: AcceleratorId,
    asks: Sender<Ask>,
    has_ended: Arc<AtomicBool>,
}

/// A gap that lasts until this is dropped.
#[derive(Debug)]
#[must_use = "the gap is over when this is dropped"]
pub struct Gap<'a> {
    /// Whether batches run on the accelerator at other times.
    pub serves: bool,
    _until: Until<'a>,
}

#[derive(Debug)]
enum Until<'a> {
    Closed { _over: Sender<Infallible> },
    Unlocked { _alone: MutexGuard<'a, ()> },
    Nothing,
}

/// The gaps of all accelerators, by number.
#[derive(Debug, Default)]
pub struct Gaps {
    ports: Vec<GapPort>,
    /// Held while a model runs on an accelerator that has no thread.
    alone: Mutex<()>,
}

impl Gaps {
    /// The gaps of these accelerators. Without any, models still run one at a time.
    #[must_use]
    pub fn of(ports: Vec<GapPort>) -> Gaps {
        Gaps { ports, alone: Mutex::default() }
    }

    /// Waits for a gap.
    ///
    /// # Errors
    /// The accelerator does not end its batch.
    pub fn wait(&self, accelerator: usize) -> Result<Gap<'_>, Unreachable> {
        let Some(port) = self.ports.get(accelerator) else {
            let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(Gap { serves: false, _until: Until::Unlocked { _alone: alone } });
        };
        let (until_over, over) = bounded(0);
        let (lent, begins) = bounded(1);
        // Nothing runs on an accelerator that has ended, so there is nothing to keep out of.
        let ended = Ok(Gap { serves: false, _until: Until::Nothing });
        if port.asks.send_timeout(Ask { lent, over }, LEND_WITHIN).is_err() {
            return ended;
        }
        let latest = Instant::now() + LEND_WITHIN;
        loop {
            match begins.recv_timeout(LOOK_AGAIN) {
                Ok(serves) => {
                    return Ok(Gap { serves, _until: Until::Closed { _over: until_over } });
                }
                Err(error) if error.is_disconnected() => return ended,
                // What it was asked in the moment of its end is never answered.
                Err(_) if port.has_ended.load(Ordering::Acquire) => return ended,
                Err(_) if Instant::now() >= latest => {
                    return Err(Unreachable::Stuck(port.accelerator));
                }
                Err(_) => {}
            }
        }
    }
}

/// The end of an accelerator's thread.
#[derive(Debug)]
pub(super) struct Lender {
    asks: Receiver<Ask>,
    has_ended: Arc<AtomicBool>,
    /// Since when it has been seen between batches that a run waits.
    waits_since: Option<Instant>,
    last_batch: Option<Instant>,
}

/// The way to an accelerator's gaps, and what its thread reads.
pub(super) fn gaps(accelerator: AcceleratorId) -> (GapPort, Lender) {
    let (asks, asked) = bounded(ASKS_MAX);
    let has_ended = Arc::new(AtomicBool::new(false));
    let port = GapPort { accelerator, asks, has_ended: Arc::clone(&has_ended) };
    (port, Lender { asks: asked, has_ended, waits_since: None, last_batch: None })
}

impl Lender {
    /// The next message to the accelerator. While there is none, gaps are lent. None when nobody
    /// can send one any more.
    pub(super) fn next<T>(&mut self, messages: &Receiver<T>) -> Option<T> {
        loop {
            let ask = select_biased! {
                recv(messages) -> message => return message.ok(),
                recv(self.asks) -> ask => ask,
            };
            match ask {
                Ok(ask) => self.lend(&ask),
                Err(_) => self.asks = never(),
            }
        }
    }

    /// A batch has ended. A run that has waited for long gets its gap although batches wait.
    pub(super) fn batch_ended(&mut self) {
        self.last_batch = Some(Instant::now());
        if self.asks.is_empty() {
            self.waits_since = None;
            return;
        }
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE
            && let Ok(ask) = self.asks.try_recv()
        {
            self.lend(&ask);
        }
    }

    /// Lends nothing any more: whoever waits or asks is told that there is nothing to wait for.
    pub(super) fn end(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        self.asks = never();
    }

    fn lend(&mut self, ask: &Ask) {
        self.waits_since = None;
        let serves = self.last_batch.is_some_and(|last| last.elapsed() < SERVED_WITHIN);
        if ask.lent.send(serves).is_ok() {
            // Nothing is ever sent: this returns when the gap is dropped.
            let _ = ask.over.recv();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn accelerator() -> (Gaps, Sender<u32>, Lender, Receiver<u32>) {
        let (port, lender) = gaps(AcceleratorId(0));
        let (inbox, messages) = bounded(9);
        (Gaps::of(vec![port]), inbox, lender, messages)
    }

    #[test]
    fn a_message_goes_before_a_gap_and_waits_while_one_is_lent() {
        let (gaps, inbox, mut lender, messages) = accelerator();
        inbox.send(1).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let gap = gaps.wait(0).unwrap();
                assert!(gap.serves);
                inbox.send(2).unwrap();
                is_over.store(true, Ordering::SeqCst);
                drop(gap);
            });
            assert_eq!(lender.next(&messages), Some(1));
            lender.batch_ended();
            assert_eq!(lender.next(&messages), Some(2));
            assert!(is_over.load(Ordering::SeqCst), "the message went before the end of the gap");
        });
    }

    #[test]
    fn a_gap_is_made_on_an_accelerator_that_never_has_one() {
        let (gaps, inbox, mut lender, messages) = accelerator();
        thread::scope(|scope| {
            let load = scope.spawn(|| drop(gaps.wait(0).unwrap()));
            while !load.is_finished() {
                inbox.send(1).unwrap();
                assert_eq!(lender.next(&messages), Some(1));
                lender.batch_ended();
            }
        });
    }

    #[test]
    fn an_accelerator_that_has_ended_is_not_waited_for() {
        let (gaps, _inbox, mut lender, _messages) = accelerator();
        thread::scope(|scope| {
            let load = scope.spawn(|| gaps.wait(0).unwrap().serves);
            while lender.asks.is_empty() {
                thread::yield_now();
            }
            lender.end();
            assert!(!load.join().unwrap());
        });
        assert!(!gaps.wait(0).unwrap().serves);
        // Without accelerators one run follows the other.
        let none = Gaps::default();
        let gap = none.wait(0).unwrap();
        assert!(none.alone.try_lock().is_err());
        drop(gap);
        assert!(none.alone.try_lock().is_ok());
    }
}
