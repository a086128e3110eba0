//! `symphony bench cluster metadata`: what of a request goes through the scheduler. Frontends send
//! requests without tensors over TCP, the scheduler plans them, backends take the plans and tell when
//! batches have ended. Every role has threads of its own in this process, so that what each costs is
//! the processor time of its threads.

use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use symphony_client::table::{percent, titles};
use symphony_cluster::scheduler::{ActingScheduler, SchedulerConfig, Standby, Tenure};
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{
    AcceleratorId, Class, ModelId, Objective, Origin, Profile, RequestId, Span, Time,
};
use symphony_dispatch::Settings;
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::link::{
    Endpoint, Hello, Link, LinkPurpose, LinkReceiver, LinkSender, LinkSettings, NotAllSent, Role,
    SendError, connect,
};
use symphony_wire::clock::{self, Clock};
use symphony_wire::message::link::{
    BackendToScheduler, FrontendAddress, FrontendToScheduler, SchedulerToBackend,
    SchedulerToFrontend, SentPlan,
};
use symphony_wire::message::{AcceleratorFacts, Completion, Registration, Submit};
use tokio::runtime::Runtime;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MetadataArgs {
    /// Offered requests per second, one line each.
    #[arg(long, value_delimiter = ',',
          default_values_t = [250_000.0, 500_000.0, 1_000_000.0, 1_500_000.0])]
    rates: Vec<f64>,
    /// Frontends.
    #[arg(long, default_value_t = 2)]
    frontends: u16,
    /// Emulated accelerators, all of one backend.
    #[arg(long, default_value_t = 64)]
    accelerators: usize,
    /// Emulated time per row, in milliseconds.
    #[arg(long, default_value_t = 0.01)]
    alpha_ms: f64,
    /// Emulated time per batch, in milliseconds.
    #[arg(long, default_value_t = 5.0)]
    beta_ms: f64,
    /// The latency objective in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    slo_ms: f64,
    /// Rows of the largest batch.
    #[arg(long, default_value_t = 256)]
    max_batch: u32,
    /// How batches are scheduled.
    #[arg(long, default_value = "consolidate")]
    mode: Mode,
    /// Seconds measured at each rate.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const MODEL: ModelId = ModelId::first(0);
/// A frontend sends what is due so often, as a frontend with many clients would.
const SEND_EVERY: Duration = Duration::from_micros(500);
/// Threads by role, as they are called.
const ROLES: [(&str, &str); 4] =
    [("frontends", "front"), ("links", "links"), ("scheduler", "scheduler"), ("backends", "back")];

#[derive(Debug, Serialize)]
struct MetadataReport {
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    offered_per_s: f64,
    planned_per_s: f64,
    /// Requests that were dropped, or found no room.
    lost_share: f64,
    mean_batch: f64,
    /// Processor time of each role for a request, in nanoseconds.
    cost_ns: Vec<(&'static str, f64)>,
}

pub(crate) fn command(args: &MetadataArgs) -> Result<()> {
    ensure!(args.frontends > 0 && args.accelerators > 0, "at least one of each role is needed");
    let clock = Clock::start();
    let bench = Bench::start(args, clock)?;
    let lines = args.rates.iter().map(|rate| bench.line(args, *rate));
    let lines = lines.collect::<Result<Vec<_>>>()?;
    MetadataReport { lines }.show(args.json)
}

/// The roles, connected.
struct Bench {
    clock: Clock,
    frontends: Vec<Frontend>,
    counts: Arc<Counts>,
    next: AtomicU64,
    _acting: ActingScheduler,
    _standby: Standby,
    _runtimes: [Runtime; 3],
}

#[derive(Debug, Default)]
struct Counts {
    planned: AtomicU64,
    batches: AtomicU64,
    dropped: AtomicU64,
}

struct Frontend {
    origin: Origin,
    sender: LinkSender<FrontendToScheduler>,
}

fn runtime(name: &str) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("cannot start the threads `{name}`"))
}

impl Bench {
    fn start(args: &MetadataArgs, clock: Clock) -> Result<Bench> {
        let runtimes = [runtime("links")?, runtime("front")?, runtime("back")?];
        let [of_links, of_frontends, of_backends] = &runtimes;
        let links = LinkSettings::new(clock);
        let config = SchedulerConfig {
            name: "scheduler".to_owned(),
            listen: "127.0.0.1:0".parse()?,
            links: links.clone(),
            settings: Settings::new(args.mode, 0),
            layout: Layout::TOGETHER,
            spin: Spin::NEVER,
            stream_models: false,
        };
        let standby = of_links.block_on(Standby::start(config))?;
        let folder = tempfile::TempDir::with_prefix("symphony-bench-")?;
        let repository = symphony_backend::repository::Repository::open(folder.path())?;
        // Nobody loads models: the one that there is has no files.
        let (acting, _models, _commands) = {
            let _inside = of_links.enter();
            standby.take_over(Tenure::endless(1), repository)?
        };
        acting.catalog.update(|catalog| catalog.ready = true);
        acting.port.add_model(MODEL, args.terms()?)?.blocking_recv()?;
        let (to, counts) = (standby.address().clone(), Arc::new(Counts::default()));
        of_backends.block_on(backend(args, &to, &links, &counts))?;
        let mut frontends = Vec::new();
        for number in 0..args.frontends {
            frontends.push(of_frontends.block_on(frontend(number, &to, &links, &counts))?);
        }
        let next = AtomicU64::new(0);
        let (_acting, _standby, _runtimes) = (acting, standby, runtimes);
        Ok(Bench { clock, frontends, counts, next, _acting, _standby, _runtimes })
    }

    /// Offers a rate and counts what is planned.
    fn line(&self, args: &MetadataArgs, rate: f64) -> Result<Line> {
        ensure!(rate >= 1.0, "a rate of {rate}: give requests per second");
        let seconds = Duration::from_secs_f64(args.seconds);
        let stop = AtomicBool::new(false);
        let refused = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let share = rate / self.frontends.len() as f64;
            for frontend in &self.frontends {
                let (stop, refused) = (&stop, &refused);
                std::thread::Builder::new()
                    .name("front-load".to_owned())
                    .spawn_scoped(scope, move || self.offer(args, frontend, share, stop, refused))
                    .context("cannot start the load")?;
            }
            std::thread::sleep(Duration::from_secs(1));
            let before = self.read(&refused);
            let (begun, cpu) = (Instant::now(), processor_time()?);
            std::thread::sleep(seconds);
            let (after, took) = (self.read(&refused), begun.elapsed().as_secs_f64());
            let spent = processor_time()?;
            stop.store(true, Ordering::Relaxed);
            let [sent, planned, batches, lost] =
                std::array::from_fn(|at| (after[at] - before[at]) as f64);
            let cost = |(at, (role, _)): (usize, &(&'static str, &str))| {
                (*role, (spent[at] - cpu[at]) * 1e9 / planned.max(1.0))
            };
            anyhow::Ok(Line {
                offered_per_s: sent / took,
                planned_per_s: planned / took,
                lost_share: lost / sent.max(1.0),
                mean_batch: planned / batches.max(1.0),
                cost_ns: ROLES.iter().enumerate().map(cost).collect(),
            })
        })
    }

    /// Sent, planned, batches, lost.
    fn read(&self, refused: &AtomicU64) -> [u64; 4] {
        let Counts { planned, batches, dropped } = &*self.counts;
        let lost = dropped.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [read(&self.next), read(planned), read(batches), lost]
    }

    /// Sends what is due, many requests together, until told to stop.
    fn offer(
        &self,
        args: &MetadataArgs,
        frontend: &Frontend,
        rate: f64,
        stop: &AtomicBool,
        refused: &AtomicU64,
    ) {
        let budget = Span::from_millis_f64(args.slo_ms);
        let begun = self.clock.now();
        let (mut sent, mut burst) = (0u64, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let passed = self.clock.now().since(begun).as_secs_f64();
            #[expect(clippy::cast_possible_truncation, reason = "a count of requests")]
            #[expect(clippy::cast_sign_loss, reason = "time that passed")]
            let due = (passed * rate) as u64;
            let first = self.next.fetch_add(due - sent, Ordering::Relaxed);
            burst.extend((first..first + (due - sent)).map(|number| {
                let id = RequestId::new(frontend.origin, number);
                let (age, rows, class) = (Span::ZERO, 1, Class::High);
                FrontendToScheduler::Submit(Submit { model: MODEL, id, age, budget, rows, class })
            }));
            sent = due;
            if let Err(NotAllSent { sent, .. }) = frontend.sender.send_all(&burst) {
                refused.fetch_add((burst.len() - sent) as u64, Ordering::Relaxed);
            }
            burst.clear();
            std::thread::sleep(SEND_EVERY);
        }
    }
}

impl MetadataArgs {
    fn terms(&self) -> Result<ModelTerms> {
        let ms = Span::from_millis_f64;
        let profile = Profile::linear(ms(self.alpha_ms), ms(self.beta_ms), self.max_batch)?;
        Ok(ModelTerms {
            profile: Arc::new(profile),
            objective: Objective::Slo(ms(self.slo_ms)),
            queue_max: u32::MAX,
            loss_weight: 1.0,
            lane_of: None,
        })
    }
}

fn hello(role: Role, name: &str, details: bytes::Bytes) -> Hello {
    let (purpose, name) = (LinkPurpose::Scheduling, name.to_owned());
    Hello { role, purpose, name, life: 1, capabilities: 0, details }
}

/// A frontend that sends requests and counts what is dropped.
async fn frontend(
    number: u16,
    to: &Endpoint,
    links: &LinkSettings,
    counts: &Arc<Counts>,
) -> Result<Frontend> {
    let (origin, name) = (Origin::new(number, 1), format!("frontend-{number}"));
    let address = FrontendAddress { origin, name: name.clone(), life: 1, addresses: Vec::new() };
    let details = postcard::to_allocvec(&address)?.into();
    let own = hello(Role::Frontend, &name, details);
    let link: Link<SchedulerToFrontend, FrontendToScheduler> = connect(to, own, links).await?;
    let Link { sender, mut receiver, .. } = link;
    let counts = Arc::clone(counts);
    tokio::spawn(async move {
        let each = |message: symphony_wire::carrier::Timed<SchedulerToFrontend>| {
            if matches!(message.message, SchedulerToFrontend::Dropped { .. }) {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        };
        while receiver.drain(each).await.is_ok() {}
    });
    Ok(Frontend { origin, sender })
}

/// A backend whose accelerators wait for as long as batches are planned to take.
async fn backend(
    args: &MetadataArgs,
    to: &Endpoint,
    links: &LinkSettings,
    counts: &Arc<Counts>,
) -> Result<()> {
    let own = hello(Role::Backend, "backend", bytes::Bytes::new());
    let link: Link<SchedulerToBackend, BackendToScheduler> = connect(to, own, links).await?;
    let Link { sender, mut receiver, .. } = link;
    let facts = AcceleratorFacts { kind: "emulated".to_owned(), memory: 0 };
    let registration = Registration {
        name: "backend".to_owned(),
        life: 1,
        accelerators: vec![facts; args.accelerators],
        engines: Vec::new(),
        loaded: Vec::new(),
        running: Vec::new(),
    };
    loop {
        match receiver.next().await?.message {
            SchedulerToBackend::Welcome { accelerators, .. } if accelerators.is_empty() => {
                let registration = Box::new(registration.clone());
                sender.send(&BackendToScheduler::Register(registration))?;
            }
            SchedulerToBackend::Welcome { .. } => break,
            other => bail!("the scheduler says {other:?} before it welcomes the backend"),
        }
    }
    let emulator = Emulator {
        clock: links.clock,
        free: vec![Time::ZERO; args.accelerators],
        running: BinaryHeap::new(),
        counts: Arc::clone(counts),
    };
    tokio::spawn(emulator.run(sender, receiver));
    Ok(())
}

/// The accelerators of a backend, each of which runs one batch at a time.
struct Emulator {
    clock: Clock,
    /// When each is free.
    free: Vec<Time>,
    running: BinaryHeap<Reverse<Running>>,
    counts: Arc<Counts>,
}

/// A batch by when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    ends: Time,
    received: Time,
    begun: Time,
    epoch: u64,
    batch: symphony_core::BatchId,
    model: ModelId,
    accelerator: AcceleratorId,
}

impl Emulator {
    async fn run(
        mut self,
        sender: LinkSender<BackendToScheduler>,
        mut receiver: LinkReceiver<SchedulerToBackend>,
    ) {
        loop {
            let next = self.running.peek().map(|running| running.0.ends);
            let wait = next.map_or(Duration::from_secs(1), |ends| {
                clock::duration(ends.since(self.clock.now()))
            });
            let received = tokio::select! {
                received = receiver.drain(|message| {
                    if let SchedulerToBackend::Plan(plan) = message.message {
                        self.take(&plan);
                    }
                }) => received.map(drop),
                () = tokio::time::sleep(wait) => Ok(()),
            };
            if received.is_err() || self.complete(&sender).is_err() {
                return;
            }
        }
    }

    fn take(&mut self, sent: &SentPlan) {
        let now = self.clock.now();
        let SentPlan { epoch, accelerator, plan } = sent;
        let Some(free) = self.free.get_mut(accelerator.index()) else { return };
        let begun = now.max(*free);
        let ends = begun + plan.exec;
        *free = ends;
        self.counts.planned.fetch_add(plan.requests.len() as u64, Ordering::Relaxed);
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        self.running.push(Reverse(Running {
            ends,
            received: now,
            begun,
            epoch: *epoch,
            batch: plan.batch,
            model: plan.model,
            accelerator: *accelerator,
        }));
    }

    /// Tells of the batches that have ended.
    fn complete(&mut self, sender: &LinkSender<BackendToScheduler>) -> Result<(), SendError> {
        let now = self.clock.now();
        while self.running.peek().is_some_and(|running| running.0.ends <= now) {
            let Some(Reverse(running)) = self.running.pop() else { break };
            let completion = Completion {
                accelerator: running.accelerator,
                batch: running.batch,
                model: running.model,
                data: Span::ZERO,
                exec: running.ends.since(running.begun),
                response: now.since(running.ends),
                stay: now.since(running.received),
            };
            let epoch = running.epoch;
            sender.send(&BackendToScheduler::Completed { epoch, completion })?;
        }
        Ok(())
    }
}

/// Seconds of processor time that the threads of each role have used.
fn processor_time() -> Result<[f64; 4]> {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut spent = [0.0; 4];
    for task in fs::read_dir("/proc/self/task").context("cannot read /proc")? {
        // A thread may end meanwhile.
        let Ok(text) = task.and_then(|task| fs::read_to_string(task.path().join("stat"))) else {
            continue;
        };
        let Some((head, rest)) = text.rsplit_once(") ") else { continue };
        let Some((_, name)) = head.split_once('(') else { continue };
        let fields: Vec<_> = rest.split(' ').collect();
        let ran: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        if let Some(at) = ROLES.iter().position(|(_, prefix)| name.starts_with(prefix)) {
            spent[at] += ran / ticks;
        }
    }
    Ok(spent)
}

impl Report for MetadataReport {
    fn columns(&self) -> Vec<String> {
        let costs = ROLES.iter().map(|(role, _)| format!("{role} ns"));
        let mut columns = titles(["offered r/s", "planned r/s", "lost %", "mean batch"]);
        columns.extend(costs);
        columns
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            let mut row = vec![
                format!("{:.0}", line.offered_per_s),
                format!("{:.0}", line.planned_per_s),
                percent(line.lost_share),
                format!("{:.1}", line.mean_batch),
            ];
            row.extend(line.cost_ns.iter().map(|(_, cost)| format!("{cost:.0}")));
            row
        };
        self.lines.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        vec!["costs are processor time of a role's threads for each planned request".to_owned()]
    }
}
