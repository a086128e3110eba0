//! The loop of a simulated cluster: who takes what happens, what faults do, and what is looked at in
//! every step.

use super::backend::Backend;
use super::case::{Fault, FaultCase, SCHEDULERS};
use super::checks::{Checks, Survived};
use super::frontend::{Frontend, Incoming};
use super::network::{Event, Net, Process, Timer};
use super::scheduler::SchedulerProcess;
use symphony_core::{Class, ModelId, Objective, Origin, Span, Time};

/// How many heartbeats the scheduler in charge may be silent before another takes its place.
const LEASE: u64 = 3;

/// Something that has to be true was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}\n{timeline}")]
pub struct Broken {
    /// The seed of the case.
    pub seed: u64,
    /// What was not as it has to be.
    pub what: String,
    /// Everything that had happened, with its time in milliseconds.
    pub timeline: String,
}

/// Runs a case, with all checks in every step.
///
/// # Errors
/// Something that has to be true was not.
pub fn run(case: &FaultCase) -> Result<Survived, Box<Broken>> {
    let mut cluster = Cluster::new(case, false);
    cluster.live();
    let Some(broken) = cluster.net.checks.broken() else {
        return Ok(cluster.net.checks.survived);
    };
    let what = broken.to_owned();
    // Told only for those that are read.
    Err(Box::new(Broken { seed: case.seed, what, timeline: timeline(case) }))
}

/// Runs a case and tells everything that happens, until it is over or something is broken.
#[must_use]
pub fn timeline(case: &FaultCase) -> String {
    let mut told = Cluster::new(case, true);
    told.live();
    told.net.take_log().join("\n")
}

/// What a process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It does nothing until then.
    StoppedUntil(Time),
    Dead,
}

/// Who is in charge.
#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    epoch: u64,
    /// A scheduler, in one of its lives.
    holder: Option<(usize, u32)>,
    until: Time,
}

struct Cluster<'a> {
    case: &'a FaultCase,
    net: Net,
    frontends: Vec<Frontend>,
    schedulers: Vec<SchedulerProcess>,
    backends: Vec<Backend>,
    /// By process, as [`place`](Cluster::place) numbers them.
    states: Vec<State>,
    lease: Lease,
}

impl<'a> Cluster<'a> {
    fn new(case: &'a FaultCase, is_told: bool) -> Cluster<'a> {
        let FaultCase { seed, heartbeat, delays, .. } = *case;
        let mut net = Net::new(seed, heartbeat, delays, Checks::default(), is_told);
        net.tell(|| case.to_string());
        let backends = case.backends.len();
        let schedulers =
            (0..SCHEDULERS).map(|number| SchedulerProcess::start(&mut net, number, backends));
        let schedulers = schedulers.collect();
        let mut cluster = Cluster {
            case,
            net,
            frontends: Vec::new(),
            schedulers,
            backends: Vec::new(),
            states: vec![State::Running; case.frontends + SCHEDULERS + backends],
            lease: Lease::default(),
        };
        for number in 0..backends {
            let backend = cluster.start_backend(number);
            cluster.backends.push(backend);
        }
        for number in 0..case.frontends {
            let frontend = cluster.start_frontend(number, 0);
            cluster.frontends.push(frontend);
        }
        for (number, (at, _)) in case.faults.iter().enumerate() {
            cluster.net.at(*at, Event::Fault(number));
        }
        cluster
    }

    fn start_frontend(&mut self, number: usize, life: u16) -> Frontend {
        let FaultCase { backends, arrivals, .. } = self.case;
        let origin = Origin::new(u16::try_from(number).unwrap_or(0), life);
        let frontend = Frontend::start(&mut self.net, number, origin, SCHEDULERS, backends.len());
        let (of, life) = (Process::Frontend(number), frontend.life());
        let now = self.net.now;
        let own = |arrival: &super::case::Arrival| arrival.frontend == number && arrival.at >= now;
        for (at, arrival) in arrivals.iter().enumerate().filter(|(_, arrival)| own(arrival)) {
            let timer = Timer::Arrive { at };
            self.net.at(arrival.at, Event::Timer { of, life, timer });
        }
        frontend
    }

    fn start_backend(&mut self, number: usize) -> Backend {
        let accelerators = self.case.backends[number];
        let others = (SCHEDULERS, self.case.frontends);
        Backend::start(&mut self.net, number, accelerators, others)
    }

    /// Lets everything happen until the end of the case, or until something is broken.
    fn live(&mut self) {
        while self.net.checks.broken().is_none()
            && let Some(event) = self.net.next(self.case.end)
        {
            self.net.checks.survived.events += 1;
            self.happen(event);
            self.check();
        }
        if self.net.checks.broken().is_none() {
            self.net.checks.finish();
            self.check_end();
        }
    }

    fn place(&self, process: Process) -> usize {
        match process {
            Process::Scheduler(number) => number,
            Process::Frontend(number) => SCHEDULERS + number,
            Process::Backend(number) => SCHEDULERS + self.case.frontends + number,
        }
    }

    fn state(&self, process: Process) -> State {
        match self.states[self.place(process)] {
            State::StoppedUntil(until) if until <= self.net.now => State::Running,
            state => state,
        }
    }

    fn life(&self, process: Process) -> u32 {
        match process {
            Process::Scheduler(number) => self.schedulers[number].life(),
            Process::Frontend(number) => self.frontends[number].life(),
            Process::Backend(number) => self.backends[number].process(),
        }
    }

    /// Whether a process takes something now. What comes to a stopped one waits until it goes on.
    fn takes(&mut self, process: Process, event: impl FnOnce() -> Event) -> bool {
        match self.state(process) {
            State::Running => true,
            State::Dead => false,
            State::StoppedUntil(until) => {
                self.net.at(until, event());
                false
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { link, to, message } => {
                let again = || Event::Deliver { link, to, message: message.clone() };
                if self.takes(to, again) && self.net.is_read(link, to) {
                    let Cluster { net, frontends, schedulers, backends, .. } = self;
                    match to {
                        Process::Frontend(at) => frontends[at].receive(net, link, message),
                        Process::Scheduler(at) => schedulers[at].receive(net, link, message),
                        Process::Backend(at) => backends[at].receive(net, link, message),
                    }
                }
            }
            Event::LinkLost { link, to } => {
                if self.takes(to, || Event::LinkLost { link, to }) && self.net.note_lost(link, to) {
                    self.link_lost(link, to);
                }
            }
            Event::Timer { of, life, timer } => {
                let again = || Event::Timer { of, life, timer: timer.clone() };
                if self.life(of) == life && self.takes(of, again) {
                    self.fire(of, timer);
                }
            }
            Event::Fault(number) => self.fail(self.case.faults[number].1),
            Event::Restart(process) => self.restart(process),
            Event::AcceleratorBack { backend, accelerator } => {
                let again = || Event::AcceleratorBack { backend, accelerator };
                if self.takes(Process::Backend(backend), again) {
                    self.backends[backend].recover_accelerator(&mut self.net, accelerator);
                }
            }
        }
    }

    fn link_lost(&mut self, link: super::network::LinkId, to: Process) {
        let Cluster { net, frontends, schedulers, backends, .. } = self;
        let peer = net.peer(link, to);
        net.tell(|| format!("{to:?} loses its link to {peer:?}"));
        // Its peer reads the end of the connection, when it reads again.
        net.hang_up(to, link);
        match to {
            Process::Frontend(at) => frontends[at].link_lost(net, link),
            Process::Scheduler(at) => schedulers[at].link_lost(net, link),
            Process::Backend(at) => backends[at].link_lost(net, link),
        }
    }

    fn fire(&mut self, of: Process, timer: Timer) {
        let is_there = |cluster: &Cluster<'_>, to| cluster.state(to) != State::Dead;
        match (of, timer) {
            (Process::Frontend(at), Timer::Connect { to: Process::Scheduler(to) }) => {
                let is_there = is_there(self, Process::Scheduler(to));
                self.frontends[at].connect(&mut self.net, to, is_there);
            }
            (Process::Backend(at), Timer::Connect { to }) => {
                let is_there = is_there(self, to);
                self.backends[at].connect(&mut self.net, to, is_there);
            }
            (Process::Frontend(at), Timer::Arrive { at: number }) => self.arrive(at, number),
            (Process::Frontend(at), Timer::Guard { number }) => {
                self.frontends[at].guard(&mut self.net, number);
            }
            (Process::Scheduler(at), Timer::Wake) => self.schedulers[at].settle(&mut self.net),
            (Process::Scheduler(at), Timer::Lease) => self.look_at_lease(at),
            (Process::Backend(at), Timer::Ended { accelerator, run }) => {
                self.backends[at].end(&mut self.net, accelerator, run);
            }
            (Process::Backend(at), Timer::NoInputs { epoch, batch }) => {
                self.backends[at].give_up_inputs(&mut self.net, epoch, batch);
            }
            (of, timer) => self.net.checks.fail(format!("{of:?} has no timer {timer:?}")),
        }
    }

    fn arrive(&mut self, frontend: usize, number: usize) {
        let arrival = self.case.arrivals[number];
        let terms = &self.case.models[arrival.model];
        let limit = match terms.objective {
            Objective::Slo(slo) => slo,
            // A client's own, so that it ends with the case.
            Objective::Soft(span) => span.times(2),
        };
        let model = ModelId::first(u32::try_from(arrival.model).unwrap_or(0));
        let incoming = Incoming { model, rows: arrival.rows, limit, is_late: arrival.is_late };
        self.frontends[frontend].arrive(&mut self.net, &incoming, Class::High);
    }

    /// A scheduler looks whether it is in charge, or could be.
    fn look_at_lease(&mut self, at: usize) {
        let Cluster { case, net, schedulers, lease, .. } = self;
        let own = (at, schedulers[at].life());
        let (timer, heartbeat) = (Timer::Lease, net.heartbeat);
        net.after(heartbeat, Event::Timer { of: Process::Scheduler(at), life: own.1, timer });
        let until = net.now + heartbeat.times(LEASE);
        if lease.holder == Some(own) {
            lease.until = until;
        } else if schedulers[at].is_active() {
            // Another has taken its place while it was stopped.
            self.kill(Process::Scheduler(at), true);
            self.restart(Process::Scheduler(at));
        } else if net.now > lease.until {
            *lease = Lease { epoch: lease.epoch + 1, holder: Some(own), until };
            schedulers[at].activate(net, lease.epoch, case);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.net.checks.survived.faults += 1;
        self.net.tell(|| format!("--- {fault:?}"));
        match fault {
            Fault::Kill { process, is_told, back_after } => {
                if self.state(process) != State::Dead {
                    self.kill(process, is_told);
                    self.net.after(back_after, Event::Restart(process));
                }
            }
            Fault::Stall { process, span } => self.stall(process, span),
            // Its holder does not know yet.
            Fault::LoseLease => {
                self.lease = Lease { holder: None, until: self.net.now, ..self.lease }
            }
            Fault::Cut { ends } => {
                if let Some(link) = self.net.between(ends) {
                    self.net.cut(link);
                }
            }
            Fault::Late { ends, span } => {
                if let Some(link) = self.net.between(ends) {
                    self.net.hold_back(link, span);
                }
            }
            Fault::LoseAccelerator { backend, accelerator, back_after } => {
                if self.state(Process::Backend(backend)) == State::Running {
                    self.backends[backend].lose_accelerator(&mut self.net, accelerator);
                    let back = Event::AcceleratorBack { backend, accelerator };
                    self.net.after(back_after, back);
                }
            }
            Fault::Hang { backend, accelerator, span } => {
                self.backends[backend].hang(&self.net, accelerator, span);
            }
        }
    }

    fn kill(&mut self, process: Process, is_told: bool) {
        let place = self.place(process);
        self.states[place] = State::Dead;
        for link in self.net.links_of(process) {
            if is_told {
                self.net.close(process, link);
            } else {
                self.net.fall_silent(process, link);
            }
        }
        match process {
            Process::Frontend(at) => self.net.checks.over(self.frontends[at].origin()),
            Process::Backend(at) => self.net.checks.ends(at),
            Process::Scheduler(_) => {}
        }
    }

    fn restart(&mut self, process: Process) {
        let place = self.place(process);
        if self.states[place] != State::Dead {
            return;
        }
        self.net.tell(|| format!("{process:?} is there again"));
        self.states[place] = State::Running;
        match process {
            Process::Frontend(at) => {
                let life = self.frontends[at].origin().life() + 1;
                self.frontends[at] = self.start_frontend(at, life);
            }
            Process::Backend(at) => self.backends[at] = self.start_backend(at),
            Process::Scheduler(at) => {
                let backends = self.case.backends.len();
                self.schedulers[at] = SchedulerProcess::start(&mut self.net, at, backends);
            }
        }
    }

    /// A process is stopped. Those whose silence is long enough for it notice that.
    fn stall(&mut self, process: Process, span: Span) {
        if self.state(process) != State::Running {
            return;
        }
        let (place, until) = (self.place(process), self.net.now + span);
        self.states[place] = State::StoppedUntil(until);
        if let Process::Frontend(at) = process {
            self.net.checks.stopped(self.frontends[at].origin(), until);
        }
        for link in self.net.links_of(process) {
            let (to, noticed) = (self.net.peer(link, process), self.net.silence());
            if noticed < span {
                self.net.after(noticed, Event::LinkLost { link, to });
            }
        }
    }

    /// What has to be true at any time.
    fn check(&mut self) {
        let accelerators: usize = self.case.backends.iter().sum();
        for scheduler in &self.schedulers {
            let (batches, resubmitted, queued) = scheduler.open();
            if batches > 2 * accelerators {
                self.net.checks.fail(format!("a ledger of {batches} batches"));
            }
            let requests = self.case.arrivals.len();
            if resubmitted > requests || queued > requests as u64 {
                let what = format!("{resubmitted} requests again and {queued} queued");
                self.net.checks.fail(what);
            }
        }
        let links_max = 100 * (1 + self.case.faults.len());
        if self.net.links() > links_max {
            self.net.checks.fail(format!("more than {links_max} links: a storm"));
        }
    }

    /// What has to be true when everything is over.
    fn check_end(&mut self) {
        let accelerators: usize = self.case.backends.iter().sum();
        let active: Vec<&SchedulerProcess> =
            self.schedulers.iter().filter(|scheduler| scheduler.is_active()).collect();
        let mut wrong = Vec::new();
        match active[..] {
            [scheduler] => {
                let (batches, resubmitted, queued) = scheduler.open();
                if (batches, resubmitted, queued) != (0, 0, 0) {
                    wrong.push(format!(
                        "left with the scheduler: {batches} batches, {resubmitted} resubmitted and \
                         {queued} queued requests"
                    ));
                }
                if scheduler.pool() != accelerators {
                    let pool = scheduler.pool();
                    wrong.push(format!("{pool} of {accelerators} accelerators are in the pool"));
                }
            }
            _ => wrong.push(format!("{} schedulers are in charge", active.len())),
        }
        let waiting: usize = self.frontends.iter().map(Frontend::waiting).sum();
        let batches: usize = self.backends.iter().map(Backend::batches).sum();
        if (waiting, batches) != (0, 0) {
            wrong.push(format!("{waiting} requests wait and {batches} batches run"));
        }
        wrong.into_iter().for_each(|what| self.net.checks.fail(what));
    }
}
