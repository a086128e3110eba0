//! `symphony bench carrier`: what a link between two processes carries.
//!
//! Each end of a link has a thread of its own, as it would have in its process. Messages are requests
//! from a frontend to the scheduler; tensors are the inputs of requests, which the receiving end copies
//! into one buffer as a backend places them in its batch.

use super::counter::Counter;
use super::figures::seconds;
use crate::report::Report;
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use serde::Serialize;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use symphony_client::table::titles;
use symphony_core::{Class, ModelId, RequestId, Span};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::link::{
    Endpoint, Hello, Link, LinkPurpose, LinkSender, LinkSettings, Listener, Role, SendError,
    connect,
};
use symphony_wire::carrier::shared_memory::Arena;
use symphony_wire::clock::Clock;
use symphony_wire::codec::Frame;
use symphony_wire::message::Submit;
use symphony_wire::message::link::{
    BackendToFrontend, FrontendToBackend, FrontendToScheduler, SchedulerToFrontend,
};
use symphony_wire::tensor::Inputs;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CarrierArgs {
    /// Seconds measured of each way.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Bytes of a tensor.
    #[arg(long, default_value_t = 600_000)]
    tensor: usize,
    /// Messages that are sent at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Memory for tensors in the case that has some: those of some batches.
const ARENA: usize = 32 << 20;
/// For how long each way runs before it is measured: memory is there once it has been used.
const WARM_UP: Duration = Duration::from_millis(300);
/// Bytes of the buffer that tensors are placed in, one behind the other.
const BATCH: usize = 16 << 20;

/// What one end did.
#[derive(Clone, Copy, Debug)]
struct Work {
    messages: u64,
    cpu: Duration,
    instructions: Option<u64>,
    took: Duration,
}

/// What one way was measured to carry.
#[derive(Debug, Serialize)]
struct Figures {
    way: &'static str,
    messages_per_s: f64,
    gigabytes_per_s: Option<f64>,
    /// Of the sending and the receiving thread, the kernel's part included.
    cpu_ns_per_message: [f64; 2],
    /// The same, without the kernel's; none where the machine does not count.
    instructions_per_message: [Option<f64>; 2],
}

/// Measures each way.
///
/// # Errors
/// An option makes no sense, or a link failed.
pub(crate) fn command(args: &CarrierArgs) -> Result<()> {
    let time = seconds(args.seconds)?;
    ensure!(args.at_once > 0, "--at-once 0 sends nothing: give at least 1");
    ensure!((1..=BATCH).contains(&args.tensor), "--tensor takes 1 to {BATCH} bytes");
    let directory = tempfile::tempdir().context("cannot make a directory for a socket")?;
    let tcp = || "127.0.0.1:0".parse::<Endpoint>().map_err(|error| anyhow!(error));
    let unix = || Endpoint::Unix(directory.path().join("link"));
    let arena = Arena::new(ARENA).context("cannot have memory for tensors")?;
    let figures = [
        messages("one request at a time, TCP", &tcp()?, 1, time)?,
        messages("requests at once, TCP", &tcp()?, args.at_once, time)?,
        tensors("tensors, TCP", &tcp()?, args.tensor, None, time)?,
        tensors("tensors, Unix socket", &unix(), args.tensor, None, time)?,
        tensors("tensors, shared memory", &unix(), args.tensor, Some(&arena), time)?,
    ];
    Carried { figures: figures.into() }.show(args.json)
}

/// What each way was measured to carry.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Carried {
    figures: Vec<Figures>,
}

impl Report for Carried {
    fn columns(&self) -> Vec<String> {
        titles(["way", "messages/s", "GB/s", "CPU ns: out", "in", "instructions: out", "in"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let optional = |figure: Option<f64>, digits| {
            figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        let row = |figures: &Figures| {
            let [cpu_out, cpu_in] = figures.cpu_ns_per_message;
            let [instructions_out, instructions_in] = figures.instructions_per_message;
            vec![
                figures.way.to_owned(),
                format!("{:.0}", figures.messages_per_s),
                optional(figures.gigabytes_per_s, 2),
                format!("{cpu_out:.0}"),
                format!("{cpu_in:.0}"),
                optional(instructions_out, 0),
                optional(instructions_in, 0),
            ]
        };
        self.figures.iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Requests without their tensors, so many at once.
fn messages(
    way: &'static str,
    endpoint: &Endpoint,
    at_once: usize,
    time: Duration,
) -> Result<Figures> {
    let mut number = 0;
    let mut batch = Vec::with_capacity(at_once);
    let send = move |sender: &LinkSender<FrontendToScheduler>| {
        if batch.is_empty() {
            number += 1;
            let submit = |place| submit(number * 1_000 + place);
            batch.extend((0..at_once as u64).map(submit));
        }
        let sent = match batch.as_slice() {
            [one] => sender.send(one).map(|()| 1),
            many => match sender.send_all(many) {
                Ok(()) => Ok(many.len()),
                Err(some) if some.sent > 0 => Ok(some.sent),
                Err(none) => Err(none.error),
            },
        }?;
        batch.drain(..sent);
        Ok(sent as u64)
    };
    let receive = |_: &FrontendToScheduler| {};
    measure::<SchedulerToFrontend, _>(way, endpoint, None, None, time, send, receive)
}

fn submit(number: u64) -> FrontendToScheduler {
    FrontendToScheduler::Submit(Submit {
        model: ModelId::first(3),
        id: RequestId::only(number),
        age: Span(1_000),
        budget: Span::from_millis(20),
        rows: 1,
        class: Class::High,
    })
}

/// Tensors of this many bytes, which the receiver copies.
fn tensors(
    way: &'static str,
    endpoint: &Endpoint,
    bytes: usize,
    arena: Option<&Arena>,
    time: Duration,
) -> Result<Figures> {
    let own = arena.cloned();
    let elsewhere = Bytes::from(vec![1; bytes]);
    let send = move |sender: &LinkSender<FrontendToBackend>| {
        let tensor = match &own {
            Some(own) => own.buffer(bytes).ok_or(SendError::Full)?.freeze(),
            None => elsewhere.clone(),
        };
        let inputs = Inputs::fixed(1, vec![tensor]);
        sender.send(&FrontendToBackend::Inputs { number: 1, inputs }).map(|()| 1)
    };
    let (mut batch, mut at) = (vec![0; BATCH], 0);
    let receive = move |message: &FrontendToBackend| {
        if let FrontendToBackend::Inputs { inputs, .. } = message {
            for tensor in &inputs.tensors {
                at = if at + tensor.len() > BATCH { 0 } else { at };
                batch[at..at + tensor.len()].copy_from_slice(tensor);
                at += tensor.len();
            }
        }
    };
    measure::<BackendToFrontend, _>(way, endpoint, Some(bytes), arena, time, send, receive)
}

/// Sends for a while from one thread and receives on another.
fn measure<In: Frame, Out: Frame>(
    way: &'static str,
    endpoint: &Endpoint,
    bytes: Option<usize>,
    arena: Option<&Arena>,
    time: Duration,
    mut send: impl FnMut(&LinkSender<Out>) -> Result<u64, SendError> + Send,
    mut receive: impl FnMut(&Out) + Send,
) -> Result<Figures> {
    let settings = LinkSettings { missed_max: 50, ..LinkSettings::new(Clock::start()) };
    let sending = LinkSettings { arena: arena.cloned(), ..settings.clone() };
    let (to_sender, address) = mpsc::channel();
    let (out, taken) = thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = Listener::bind(endpoint, &settings).await?;
                to_sender.send(listener.address().clone())?;
                let mut link: Link<Out, In> =
                    listener.accept().await.welcome(&hello(Role::Scheduler));
                let warm = Instant::now() + WARM_UP;
                while Instant::now() < warm {
                    link.receiver.drain(|timed| receive(&timed.message)).await?;
                }
                let mut meter = Meter::start();
                // The link ends when the sender has had its time.
                let mut each = |timed: Timed<Out>| {
                    receive(&timed.message);
                    meter.work.messages += 1;
                };
                while link.receiver.drain(&mut each).await.is_ok() {}
                anyhow::Ok(meter.stop())
            })
        });
        let sender = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let address = address.recv()?;
            let connected = connect(&address, hello(Role::Frontend), &sending);
            let Link { sender, mut receiver, .. } = runtime.block_on(connected)?;
            // Whoever does not listen never learns which tensors the peer has let go of.
            let listening = async move { while receiver.drain(drop::<Timed<In>>).await.is_ok() {} };
            runtime.spawn(listening);
            let mut meter = Meter::start();
            let mut is_warm = false;
            while meter.begun.elapsed() < time {
                if !is_warm && meter.begun.elapsed() > WARM_UP {
                    (meter, is_warm) = (Meter::start(), true);
                }
                match send(&sender) {
                    Ok(sent) => meter.work.messages += sent,
                    Err(SendError::Full) => thread::sleep(Duration::from_micros(20)),
                    Err(error) => return Err(error.into()),
                }
            }
            sender.close("the time is over");
            anyhow::Ok(meter.stop())
        });
        let failed = |_| anyhow!("a thread of the benchmark has failed");
        let out = sender.join().map_err(failed)??;
        anyhow::Ok((out, receiver.join().map_err(failed)??))
    })?;
    Ok(figures(way, bytes, out, taken))
}

fn figures(way: &'static str, bytes: Option<usize>, out: Work, taken: Work) -> Figures {
    let per_s = taken.messages as f64 / taken.took.as_secs_f64();
    let each = |work: Work| work.cpu.as_nanos() as f64 / work.messages.max(1) as f64;
    let instructions =
        |work: Work| work.instructions.map(|all| all as f64 / work.messages.max(1) as f64);
    Figures {
        way,
        messages_per_s: per_s,
        gigabytes_per_s: bytes.map(|bytes| per_s * bytes as f64 / 1e9),
        cpu_ns_per_message: [each(out), each(taken)],
        instructions_per_message: [instructions(out), instructions(taken)],
    }
}

fn hello(role: Role) -> Hello {
    let (purpose, name) = (LinkPurpose::Data, role.name().to_owned());
    Hello { role, purpose, name, life: 1, capabilities: 0, details: Bytes::new() }
}

/// What the calling thread does, from its first message on.
struct Meter {
    begun: Instant,
    cpu: Duration,
    counter: Counter,
    instructions: Option<u64>,
    last: Instant,
    work: Work,
}

impl Meter {
    fn start() -> Meter {
        let mut counter = Counter::instructions();
        let instructions = counter.read();
        let begun = Instant::now();
        let work =
            Work { messages: 0, cpu: Duration::ZERO, instructions: None, took: Duration::ZERO };
        Meter { begun, cpu: thread_cpu(), counter, instructions, last: begun, work }
    }

    fn stop(mut self) -> Work {
        self.last = Instant::now();
        let now = self.counter.read();
        let instructions = self.instructions.zip(now).map(|(before, now)| now - before);
        let (cpu, took) = (thread_cpu().saturating_sub(self.cpu), self.last - self.begun);
        Work { cpu, instructions, took, ..self.work }
    }
}

/// The time that the calling thread has had a core.
#[cfg(target_os = "linux")]
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn thread_cpu() -> Duration {
    Duration::ZERO
}
