//! The load generator: sends requests at moments fixed beforehand, however long the answers to
//! earlier ones take, and counts every latency from the moment the request was due. So neither a
//! slow server nor a slow generator can hide: their delays are in the figures.

use super::client::Client;
use super::timer::Timer;
use anyhow::{Context, Result, ensure};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use symphony_client::tally::Tally;
use symphony_core::Time;
use symphony_wire::clock;
use symphony_workload::{Arrivals, Stream};
use tokio::task::JoinSet;

/// The moments at which requests are due, from the start of the run, and to which model.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    due: Vec<(Duration, usize)>,
    /// Requests due before this are sent and not counted.
    warmup: Duration,
}

/// Every moment of a plan is in memory: this many take 500 MB.
const REQUESTS_MAX: usize = 20_000_000;

impl Plan {
    /// The arrivals of `streams` during warm-up and measured time; the same for the same seed.
    ///
    /// # Errors
    /// A rate that is not a positive number, or more requests than fit in memory.
    pub(crate) fn new(
        streams: &[Stream],
        seed: u64,
        warmup: Duration,
        measured: Duration,
    ) -> Result<Plan> {
        let end = Time(clock::span(warmup + measured).0);
        let due: Vec<_> = Arrivals::new(streams, seed)?
            .take_while(|arrival| arrival.time < end)
            .map(|arrival| (Duration::from_nanos(arrival.time.0), arrival.model.index()))
            .take(REQUESTS_MAX + 1)
            .collect();
        ensure!(
            due.len() <= REQUESTS_MAX,
            "more than {REQUESTS_MAX} requests in one run: lower the rate or the seconds"
        );
        Ok(Plan { due, warmup })
    }
}

/// How the generator waits for the next moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// It sleeps; the system wakes it some tens of microseconds late.
    Sleep,
    /// It sleeps until just before, then watches the clock (and the sockets): a request goes out
    /// when it is due, at the cost of some of a core.
    Exact,
}

impl Pacing {
    /// How long before the moment it is awake.
    fn watch(self) -> Duration {
        match self {
            Pacing::Sleep => Duration::ZERO,
            // A core that sleeps deeply takes this long to wake.
            Pacing::Exact => Duration::from_micros(120),
        }
    }
}

/// Sends every request of the plan, each to the client of its model, and waits for all answers.
/// Answers later than `objective` count as late.
///
/// # Errors
/// The generator itself failed.
pub(crate) async fn open<C: Client>(
    clients: &[Arc<C>],
    plan: Plan,
    pacing: Pacing,
    objective: Duration,
) -> Result<Vec<Tally>> {
    let fresh = || Arc::new(Mutex::new(Tally::new(objective)));
    let tallies: Vec<_> = clients.iter().map(|_| fresh()).collect();
    let mut sender = Sender {
        targets: clients.iter().cloned().zip(tallies.iter().cloned()).collect(),
        under_way: JoinSet::new(),
    };
    sender.send_all(&plan, pacing).await?;
    while let Some(ended) = sender.under_way.join_next().await {
        ended.context(PANICKED)?;
    }
    Ok(tallies.iter().map(|tally| lock(tally).clone()).collect())
}

const PANICKED: &str = "the task of a request panicked";

struct Sender<C> {
    targets: Vec<(Arc<C>, Arc<Mutex<Tally>>)>,
    under_way: JoinSet<()>,
}

impl<C: Client> Sender<C> {
    async fn send_all(&mut self, plan: &Plan, pacing: Pacing) -> Result<()> {
        let mut timer = Timer::new().context("cannot have a timer")?;
        let start = Instant::now();
        for &(at, target) in &plan.due {
            let due = start + at;
            timer.until(due - pacing.watch()).await.context("the timer failed")?;
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            self.send(target, due, at >= plan.warmup)?;
        }
        Ok(())
    }

    fn send(&mut self, target: usize, due: Instant, counted: bool) -> Result<()> {
        let (client, tally) = &self.targets[target];
        let (client, tally) = (Arc::clone(client), Arc::clone(tally));
        let request = async move {
            let lag = due.elapsed();
            let outcome = client.infer().await;
            let latency = due.elapsed();
            if counted {
                lock(&tally).record(outcome, lag, latency);
            }
        };
        self.under_way.spawn(request);
        // Ended tasks take room until they are seen.
        while let Some(ended) = self.under_way.try_join_next() {
            ended.context(PANICKED)?;
        }
        Ok(())
    }
}

/// Keeps `concurrency` requests under way for `duration`: the highest rate there is at that
/// concurrency. Latencies count from sending.
///
/// # Errors
/// A task of the generator failed.
pub(crate) async fn closed<C: Client>(
    client: &Arc<C>,
    concurrency: usize,
    duration: Duration,
) -> Result<Tally> {
    let end = Instant::now() + duration;
    let tally = Arc::new(Mutex::new(Tally::new(Duration::MAX)));
    let mut running = JoinSet::new();
    for _ in 0..concurrency {
        let (client, tally) = (Arc::clone(client), Arc::clone(&tally));
        running.spawn(async move {
            while Instant::now() < end {
                let sent = Instant::now();
                let outcome = client.infer().await;
                lock(&tally).record(outcome, Duration::ZERO, sent.elapsed());
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.context(PANICKED)?;
    }
    Ok(lock(&tally).clone())
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use symphony_client::tally::{Counts, Outcome};
    use symphony_core::ModelId;
    use symphony_workload::Process;

    /// Answers every second request.
    #[derive(Default)]
    struct EverySecond(AtomicU64);

    impl Client for EverySecond {
        async fn infer(&self) -> Outcome {
            tokio::task::yield_now().await;
            match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Outcome::Answered,
                _ => Outcome::Dropped,
            }
        }
    }

    fn plan(rates: &[f64], warmup_ms: u64, measured_ms: u64) -> Plan {
        let stream = |(model, &rate): (u32, &f64)| {
            Stream::steady(ModelId::first(model), Process::Constant, rate)
        };
        let streams: Vec<_> = (0..).zip(rates).map(stream).collect();
        let ms = Duration::from_millis;
        Plan::new(&streams, 1, ms(warmup_ms), ms(measured_ms)).unwrap()
    }

    #[tokio::test]
    async fn each_request_of_the_plan_is_sent_once_to_its_own_client() {
        for pacing in [Pacing::Sleep, Pacing::Exact] {
            let clients: Vec<_> = (0..2).map(|_| Arc::new(EverySecond::default())).collect();
            // Due at 1, 2, … 29 ms and at 0.5, 1, … 29.5 ms; counted from 10 ms on.
            let plan = plan(&[1000.0, 2000.0], 10, 20);
            let tallies = open(&clients, plan, pacing, Duration::MAX).await.unwrap();
            let sent: Vec<_> =
                clients.iter().map(|client| client.0.load(Ordering::Relaxed)).collect();
            assert_eq!(sent, [29, 59], "{pacing:?}");
            let counted: Vec<_> = tallies.iter().map(|tally| tally.counts.offered()).collect();
            assert_eq!(counted, [20, 40], "{pacing:?}");
        }
    }

    #[tokio::test]
    async fn latency_counts_from_the_due_time() {
        let clients = [Arc::new(EverySecond::default())];
        let all_late = open(&clients, plan(&[1000.0], 0, 9), Pacing::Sleep, Duration::ZERO);
        let tally = all_late.await.unwrap().remove(0);
        let Counts { good, late, dropped, .. } = tally.counts;
        assert_eq!((good, late, dropped), (0, 4, 4));
    }

    #[tokio::test]
    async fn a_closed_loop_counts_what_it_sent() {
        let client = Arc::new(EverySecond::default());
        let tally = closed(&client, 3, Duration::from_millis(5)).await.unwrap();
        assert_eq!(tally.counts.offered(), client.0.load(Ordering::Relaxed));
    }
}
