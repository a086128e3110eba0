//! A process that holds leases: this test binary, started again to run one test, which does what
//! lines of its input say and tells by lines of its output what becomes of its lease.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use symphony_lease::{ApiServer, KubernetesLease, Lease, LeaseAddress};
use tokio::sync::mpsc;

/// What has to happen soon, on a machine that may be busy with something else.
const SOON: Duration = Duration::from_secs(60);
const NAME: &str = "SYMPHONY_TEST_LEASE_HOLDER";
const ADDRESS: &str = "SYMPHONY_TEST_LEASE_ADDRESS";
const API: &str = "SYMPHONY_TEST_LEASE_API";
/// What the lines begin with, among what the test harness prints.
const MARK: &str = "lease: ";

/// A process that holds a lease or waits for it. It ends with this value.
pub(crate) struct Holder {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// A line that was looked at and not yet taken.
    next: Option<String>,
    epoch: u64,
}

/// What a process tells when it takes the lease.
pub(crate) struct Taken {
    pub(crate) epoch: u64,
    /// When, by the clock of the machine.
    pub(crate) at: Duration,
}

/// The first of several that took the lease.
pub(crate) struct First {
    pub(crate) index: usize,
    pub(crate) held: Taken,
}

impl Holder {
    pub(crate) fn start(name: &str, address: &str) -> Self {
        Self::start_with(name, address, None)
    }

    /// Starts a process that asks the API server at `port` with what is in `folder`.
    pub(crate) fn start_in_pod(name: &str, address: &str, port: u16, folder: &Path) -> Self {
        Self::start_with(name, address, Some(format!("{port} {}", folder.display())))
    }

    fn start_with(name: &str, address: &str, api: Option<String>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "holder::process", "--ignored", "--nocapture"])
            .env(NAME, name)
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(api) = api {
            command.env(API, api);
        }
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            // The harness prints the beginning of a line before the test's own.
            let told = |line: String| Some(line.split_once(MARK)?.1.to_owned());
            let lines = output.lines().map_while(Result::ok).filter_map(told);
            lines.into_iter().try_for_each(|line| sender.send(line))
        });
        let input = child.stdin.take();
        Self { name: name.to_owned(), child, input, lines, next: None, epoch: 0 }
    }

    /// The epoch of its newest holding.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn expect_waiting(&mut self) {
        self.expect("waiting");
    }

    pub(crate) fn expect_held(&mut self) -> Taken {
        let mut line = self.take();
        if line == "waiting" {
            line = self.take();
        }
        let words = line.strip_prefix("held ").and_then(|rest| rest.split_once(' '));
        let Some((epoch, at)) = words else { panic!("{} said {line:?}", self.name) };
        self.epoch = epoch.parse().unwrap();
        Taken { epoch: self.epoch, at: time(at) }
    }

    /// Waits until one of the holders has taken the lease.
    pub(crate) fn first_held(holders: &mut [Holder]) -> First {
        let end = Instant::now() + SOON;
        loop {
            for (index, holder) in holders.iter_mut().enumerate() {
                if holder.peek().is_some_and(|line| line == "waiting") {
                    holder.take();
                }
                if holder.peek().is_some() {
                    return First { index, held: holder.expect_held() };
                }
            }
            assert!(Instant::now() < end, "nobody took the lease");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// When it found the lease lost.
    pub(crate) fn expect_lost(&mut self) -> Duration {
        let line = self.expect("lost ");
        time(line.split(' ').next().unwrap())
    }

    /// Why it found the lease lost.
    pub(crate) fn expect_lost_because(&mut self) -> String {
        self.expect("lost ")
    }

    /// Why it gave up.
    pub(crate) fn expect_refused(mut self) -> String {
        self.expect_waiting();
        self.expect("refused ")
    }

    /// Checks that it has said nothing new.
    pub(crate) fn expect_silence(&mut self) {
        let said = self.peek().map(str::to_owned);
        assert_eq!(said, None, "{} said something", self.name);
    }

    pub(crate) fn release(&mut self) {
        self.order("release");
        self.expect("released");
    }

    /// Has it wait for the lease again after it released it.
    pub(crate) fn wait_again(&mut self) {
        self.order("wait");
        self.expect_waiting();
    }

    fn order(&mut self, order: &str) {
        writeln!(self.input.as_mut().unwrap(), "{order}").unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn expect(&mut self, beginning: &str) -> String {
        let line = self.take();
        let Some(rest) = line.strip_prefix(beginning) else {
            panic!("{} said {line:?}, not {beginning:?}", self.name)
        };
        rest.to_owned()
    }

    fn take(&mut self) -> String {
        if let Some(line) = self.next.take() {
            return line;
        }
        match self.lines.recv_timeout(SOON) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{} says nothing", self.name),
            Err(RecvTimeoutError::Disconnected) => panic!("{} has ended", self.name),
        }
    }

    fn peek(&mut self) -> Option<&str> {
        if self.next.is_none() {
            self.next = match self.lines.try_recv() {
                Ok(line) => Some(line),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => panic!("{} has ended", self.name),
            };
        }
        self.next.as_deref()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // One that was killed before cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn time(text: &str) -> Duration {
    Duration::from_nanos(text.parse().unwrap())
}

fn now() -> u128 {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap()).as_nanos()
}

fn tell(line: &str) {
    println!("{MARK}{line}");
}

/// The process itself.
#[test]
#[ignore = "runs only as a process of the other tests"]
fn process() {
    let (Ok(name), Ok(address)) = (env::var(NAME), env::var(ADDRESS)) else { return };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap().block_on(async {
        tell("waiting");
        let mut lease = match open(&address.parse().unwrap(), &name) {
            Ok(lease) => lease,
            Err(error) => return tell(&format!("refused {error}")),
        };
        let mut orders = orders();
        loop {
            let mut held = match lease.acquire().await {
                Ok(held) => held,
                Err(error) => return tell(&format!("refused {error}")),
            };
            tell(&format!("held {} {}", held.epoch(), now()));
            tokio::select! {
                reason = held.lost() => {
                    let at = now();
                    assert!(!held.is_held());
                    tell(&format!("lost {at} {reason}"));
                }
                order = orders.recv() => {
                    assert!(order.as_deref() == Some("release") && held.is_held());
                    held.release().await;
                    tell("released");
                    assert_eq!(orders.recv().await.as_deref(), Some("wait"));
                    tell("waiting");
                }
            }
        }
    });
}

fn open(address: &LeaseAddress, name: &str) -> Result<Box<dyn Lease>, symphony_lease::LeaseError> {
    match (address, env::var(API)) {
        (LeaseAddress::Kubernetes(address), Ok(api)) => {
            let (port, folder) = api.split_once(' ').unwrap();
            let server = ApiServer::new("127.0.0.1", port.parse().unwrap(), Path::new(folder));
            Ok(Box::new(KubernetesLease::new(address, server, name)))
        }
        _ => address.open(name),
    }
}

/// The lines of the input. At its end the test that started this process has ended.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            sender.send(line).unwrap();
        }
        std::process::exit(0);
    });
    receiver
}
