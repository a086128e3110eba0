//! What the scheduler keeps of an idle model and of a queued request; shown with `--nocapture`.

#![expect(clippy::disallowed_macros, reason = "figures that are printed")]

use allocation_counter::measure;
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, Mode, ModelTerms, Policy, Scheduler};
use symphony_core::{Class, Delays, ModelId, Objective, Profile, Request, RequestId, Span, Time};

const MODELS: u32 = 10_000;
const IDLE_MODEL_MAX: i64 = 4 << 10;
const QUEUED_REQUEST_MAX: i64 = 64;
const SLO: Span = Span::from_millis(20);

struct Pool {
    scheduler: Scheduler,
    todo: Actions,
    now: Time,
    requests: u64,
}

impl Pool {
    fn new(mode: Mode) -> Pool {
        let scheduler = Scheduler::new(mode, 1);
        Pool { scheduler, todo: Actions::default(), now: Time::ZERO, requests: 0 }
    }

    /// The profile's table belongs to the loader of the model; the scheduler shares it.
    fn add(&mut self, model: u32, profile: &Arc<Profile>) {
        let profile = Arc::clone(profile);
        let terms = ModelTerms {
            profile,
            objective: Objective::Slo(SLO),
            queue_max: 1 << 20,
            loss_weight: 1.0,
            lane_of: None,
        };
        self.event(Event::AddModel { model: ModelId::first(model), terms: Box::new(terms) });
    }

    fn arrive(&mut self, model: u32, class: Class) {
        let (id, arrival) = (RequestId::only(self.requests), self.now);
        let request = Request { id, arrival, deadline: arrival + SLO, rows: 1, class };
        self.requests += 1;
        self.event(Event::Arrive { model: ModelId::first(model), request });
    }

    fn event(&mut self, event: Event) {
        self.scheduler.on_event(self.now, event, &mut self.todo);
    }

    fn settle(&mut self) {
        self.scheduler.settle(self.now, &mut self.todo);
        for action in std::mem::take(&mut self.todo).list {
            if let Action::Start(start) = action {
                let (accelerator, batch, exec) = (start.accelerator, start.batch, start.exec);
                self.now = start.begin + exec;
                self.event(Event::Complete { accelerator, batch, exec });
            }
        }
    }
}

fn profile() -> Arc<Profile> {
    let profile = Profile::linear(Span::from_micros(50), Span::from_millis(1), 256);
    Arc::new(profile.expect("valid profile"))
}

/// What is kept of each model once all are loaded, and once each has served its share of requests.
fn per_idle_model(mode: Mode, requests: u32) -> [i64; 2] {
    let profile = profile();
    let mut pool = Pool::new(mode);
    let loaded = measure(|| (0..MODELS).for_each(|model| pool.add(model, &profile))).bytes_current;
    let served = measure(|| {
        for model in 0..MODELS {
            for request in 0..requests {
                pool.arrive(model, Class::ALL[request as usize % 2]);
            }
            pool.settle();
        }
        pool.event(Event::SetDelays(Delays::default()));
        pool.now = pool.now + Span::from_secs(60);
        for _ in 0..=MODELS {
            pool.now = pool.now + Span::from_millis(1);
            pool.settle();
        }
    });
    let served = served.bytes_current;
    [loaded, loaded + served].map(|bytes| bytes / i64::from(MODELS))
}

#[test]
fn an_idle_model_takes_less_than_four_kib() {
    for mode in [Mode::Consolidate, Mode::Adaptive] {
        let [loaded, served] = per_idle_model(mode, 64);
        println!("{mode:?}: {loaded} bytes per model before its first request, {served} after");
        assert!(loaded.max(served) <= IDLE_MODEL_MAX, "{mode:?}: {loaded} bytes, {served} after");
    }
}

#[test]
fn a_queued_request_takes_at_most_64_bytes() {
    // One more than a power of two, when the queue has just grown.
    for count in [1000, 1 << 16, (1 << 16) + 1, 100_000] {
        let mut pool = Pool::new(Mode::Consolidate);
        pool.add(0, &profile());
        let queued = measure(|| (0..count).for_each(|_| pool.arrive(0, Class::High))).bytes_current;
        println!("{count} requests: {} bytes each", queued / count);
        assert!(queued <= QUEUED_REQUEST_MAX * count, "{queued} bytes for {count} requests");
    }
}
