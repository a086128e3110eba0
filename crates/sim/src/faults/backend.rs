//! A backend of a simulated cluster: fetches the inputs of its batches from the frontends, runs one
//! batch at a time on each accelerator, and answers the frontends.

use super::network::{Event, LinkId, Message, Net, Plan, Process, Timer};
use std::collections::VecDeque;
use symphony_core::recovery::Allegiance;
use symphony_core::{BatchId, Origin, RequestId, Span, Time};

/// How many heartbeats inputs are waited for.
const INPUTS: u64 = 3;

/// A batch that begins later than so many heartbeats after a fault is not its.
const HANGS_SOON: u64 = 10;

/// A backend in one of its lives. A process begins another life when it is told that its life is over.
pub(super) struct Backend {
    own: Process,
    number: usize,
    /// The life of the process, which its timers are of.
    process: u32,
    life: u32,
    schedulers: Vec<Option<LinkId>>,
    chief: Option<LinkId>,
    allegiance: Allegiance,
    /// The frontends that there are, and the links to them.
    frontends: Vec<Option<Origin>>,
    data: Vec<Option<LinkId>>,
    accelerators: Vec<Accelerator>,
    runs: u64,
}

#[derive(Default)]
struct Accelerator {
    queue: VecDeque<Taken>,
    running: Option<Running>,
    is_lost: bool,
    /// A scheduler was told that it cannot be used yet.
    was_busy: bool,
    /// The batch that begins until then takes so much longer.
    hang: Option<(Time, Span)>,
}

/// A batch that was taken and has not begun.
struct Taken {
    plan: Plan,
    inputs: Vec<Inputs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inputs {
    Awaited,
    There,
    Missing,
}

struct Running {
    run: u64,
    exec: Span,
    /// Whose batch it is; nobody's after the end of the life in which it began.
    taken: Option<Taken>,
}

impl Accelerator {
    fn is_busy(&self) -> bool {
        self.is_lost || self.running.is_some() || !self.queue.is_empty()
    }
}

impl Backend {
    /// A backend that begins to reach the schedulers.
    pub(super) fn start(
        net: &mut Net,
        number: usize,
        accelerators: usize,
        (schedulers, frontends): (usize, usize),
    ) -> Backend {
        let life = net.next_life();
        let backend = Backend {
            own: Process::Backend(number),
            number,
            process: life,
            life,
            schedulers: vec![None; schedulers],
            chief: None,
            allegiance: Allegiance::default(),
            frontends: vec![None; frontends],
            data: vec![None; frontends],
            accelerators: (0..accelerators).map(|_| Accelerator::default()).collect(),
            runs: 0,
        };
        backend.reach_schedulers(net);
        backend
    }

    /// The life of its process.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Batches that it has not ended.
    pub(super) fn batches(&self) -> usize {
        let of = |accelerator: &Accelerator| {
            accelerator.queue.len() + usize::from(accelerator.running.is_some())
        };
        self.accelerators.iter().map(of).sum()
    }

    fn timer(&self, timer: Timer) -> Event {
        Event::Timer { of: self.own, life: self.process, timer }
    }

    fn try_again(&self, net: &mut Net, to: Process) {
        let span = net.some_of(net.heartbeat);
        net.after(span, self.timer(Timer::Connect { to }));
    }

    fn reach_schedulers(&self, net: &mut Net) {
        for scheduler in 0..self.schedulers.len() {
            self.try_again(net, Process::Scheduler(scheduler));
        }
    }

    /// Reaches a scheduler or a frontend, if it is there.
    pub(super) fn connect(&mut self, net: &mut Net, to: Process, is_there: bool) {
        match to {
            Process::Scheduler(number) if self.schedulers[number].is_none() => {
                if !is_there {
                    return self.try_again(net, to);
                }
                let link = net.connect(self.own, to);
                self.schedulers[number] = Some(link);
                self.register(net, link);
            }
            Process::Frontend(number)
                if self.data[number].is_none() && self.frontends[number].is_some() =>
            {
                if !is_there {
                    return self.try_again(net, to);
                }
                let link = net.connect(self.own, to);
                self.data[number] = Some(link);
                net.send(self.own, link, Message::DataHello { life: self.life });
                self.fetch_awaited(net, number);
            }
            _ => {}
        }
    }

    fn register(&mut self, net: &mut Net, link: LinkId) {
        let busy: Vec<bool> = self.accelerators.iter().map(Accelerator::is_busy).collect();
        for (accelerator, is_busy) in self.accelerators.iter_mut().zip(&busy) {
            accelerator.was_busy |= is_busy;
        }
        net.send(self.own, link, Message::Register { life: self.life, busy });
    }

    pub(super) fn receive(&mut self, net: &mut Net, link: LinkId, message: Message) {
        match message {
            Message::Welcome { epoch } => self.welcome(net, link, epoch),
            Message::Refused => self.begin_life(net),
            Message::Plan(plan) => self.take(net, link, plan),
            Message::Frontends(list) if self.chief == Some(link) => self.know(net, &list),
            Message::Inputs { epoch, batch, number, are_there } => {
                let Process::Frontend(frontend) = net.peer(link, self.own) else { return };
                let Some(origin) = self.frontends[frontend] else { return };
                let inputs = if are_there { Inputs::There } else { Inputs::Missing };
                let is_it = |id: &RequestId| *id == RequestId::new(origin, number);
                self.note_inputs(net, Some((epoch, batch)), is_it, inputs);
            }
            // Said by one that is not in charge.
            _ => {}
        }
    }

    fn welcome(&mut self, net: &mut Net, link: LinkId, epoch: u64) {
        if self.allegiance.welcome(epoch) {
            net.checks.obeys(self.number, epoch);
            self.chief = Some(link);
            self.register(net, link);
        }
    }

    /// Takes a batch of the scheduler in charge.
    fn take(&mut self, net: &mut Net, link: LinkId, plan: Plan) {
        if self.chief != Some(link) || !self.allegiance.obeys(plan.epoch) {
            return net.tell(|| format!("{:?} refuses {:?}", self.own, plan.batch));
        }
        net.checks.taken(self.number, plan.epoch);
        let Plan { accelerator, epoch, batch, .. } = plan;
        if self.accelerators[accelerator].is_lost {
            return;
        }
        let inputs = vec![Inputs::Awaited; plan.requests.len()];
        self.accelerators[accelerator].queue.push_back(Taken { plan, inputs });
        let timer = self.timer(Timer::NoInputs { epoch, batch });
        net.after(net.heartbeat.times(INPUTS), timer);
        for frontend in 0..self.data.len() {
            self.fetch(net, frontend, accelerator);
        }
    }

    /// Asks a frontend for the inputs of the newest batch of an accelerator.
    fn fetch(&self, net: &mut Net, frontend: usize, accelerator: usize) {
        let (Some(link), Some(origin)) = (self.data[frontend], self.frontends[frontend]) else {
            return;
        };
        if let Some(newest) = self.accelerators[accelerator].queue.back() {
            self.ask(net, link, origin, newest);
        }
    }

    /// Asks a frontend whose link is new for everything that is waited for.
    fn fetch_awaited(&self, net: &mut Net, frontend: usize) {
        let (Some(link), Some(origin)) = (self.data[frontend], self.frontends[frontend]) else {
            return;
        };
        for taken in self.accelerators.iter().flat_map(|accelerator| &accelerator.queue) {
            self.ask(net, link, origin, taken);
        }
    }

    fn ask(&self, net: &mut Net, link: LinkId, origin: Origin, taken: &Taken) {
        let Taken { plan: Plan { epoch, batch, requests, .. }, inputs } = taken;
        let awaited = requests
            .iter()
            .zip(inputs)
            .filter(|(id, inputs)| id.origin() == origin && **inputs == Inputs::Awaited);
        let numbers: Vec<u64> = awaited.map(|(id, _)| id.number()).collect();
        if !numbers.is_empty() {
            let (epoch, batch) = (*epoch, *batch);
            net.send(self.own, link, Message::Fetch { epoch, batch, numbers });
        }
    }

    /// Learns who the frontends are.
    fn know(&mut self, net: &mut Net, list: &[Option<Origin>]) {
        for frontend in 0..self.frontends.len() {
            let listed = list.get(frontend).copied().flatten();
            let before = std::mem::replace(&mut self.frontends[frontend], listed);
            if before == listed {
                continue;
            }
            if let Some(link) = self.data[frontend].take() {
                net.close(self.own, link);
            }
            if let Some(over) = before {
                self.note_inputs(net, None, |id| id.origin() == over, Inputs::Missing);
            }
            if listed.is_some() {
                self.try_again(net, Process::Frontend(frontend));
            }
        }
    }

    /// What is awaited of these requests is there, or is not coming: of one batch, or of all.
    fn note_inputs(
        &mut self,
        net: &mut Net,
        of: Option<(u64, BatchId)>,
        is_it: impl Fn(&RequestId) -> bool,
        inputs: Inputs,
    ) {
        for accelerator in 0..self.accelerators.len() {
            for taken in &mut self.accelerators[accelerator].queue {
                let Plan { epoch, batch, requests, .. } = &taken.plan;
                if of.is_some_and(|of| of != (*epoch, *batch)) {
                    continue;
                }
                for (id, known) in requests.iter().zip(&mut taken.inputs) {
                    if is_it(id) && *known == Inputs::Awaited {
                        *known = inputs;
                    }
                }
            }
            self.begin(net, accelerator);
        }
    }

    /// Inputs of a batch are waited for no longer.
    pub(super) fn give_up_inputs(&mut self, net: &mut Net, epoch: u64, batch: BatchId) {
        self.note_inputs(net, Some((epoch, batch)), |_| true, Inputs::Missing);
    }

    /// Begins the next batch of an accelerator, if it may.
    fn begin(&mut self, net: &mut Net, at: usize) {
        let accelerator = &mut self.accelerators[at];
        while accelerator.running.is_none()
            && let Some(next) = accelerator.queue.front()
            && !next.inputs.contains(&Inputs::Awaited)
        {
            let Some(taken) = accelerator.queue.pop_front() else { return };
            let Plan { epoch, batch, exec, .. } = taken.plan;
            if !taken.inputs.contains(&Inputs::There) {
                if let Some(chief) = self.chief {
                    let (accelerator, exec) = (at, Span::ZERO);
                    let completed = Message::Completed { epoch, accelerator, batch, exec };
                    net.send(self.own, chief, completed);
                }
                continue;
            }
            net.checks.begins((self.number, at), (epoch, batch));
            // Never longer than planned, so that a batch at the last moment is in time.
            let exec = Span(exec.0 / 10 * 9) + net.some_of(Span(exec.0 / 10));
            let hang = accelerator.hang.take().filter(|(until, _)| net.now <= *until);
            let exec = exec + hang.map_or(Span::ZERO, |(_, span)| span);
            self.runs += 1;
            accelerator.running = Some(Running { run: self.runs, exec, taken: Some(taken) });
            let timer = Timer::Ended { accelerator: at, run: self.runs };
            net.after(exec, Event::Timer { of: self.own, life: self.process, timer });
        }
        if accelerator.was_busy && !accelerator.is_busy() {
            accelerator.was_busy = false;
            if let Some(chief) = self.chief {
                net.send(self.own, chief, Message::Free { accelerator: at });
            }
        }
    }

    /// An execution ends.
    pub(super) fn end(&mut self, net: &mut Net, at: usize, run: u64) {
        let running = &mut self.accelerators[at].running;
        let Some(ended) = running.take_if(|running| running.run == run) else { return };
        net.checks.rests((self.number, at));
        if let Some(Taken { plan, inputs }) = ended.taken {
            let Plan { epoch, batch, requests, .. } = plan;
            net.tell(|| format!("{:?} has run {batch:?} on {at} for {}", self.own, ended.exec));
            let ran = requests.iter().zip(inputs).filter(|(_, inputs)| *inputs == Inputs::There);
            for (id, _) in ran {
                let frontend = usize::from(id.origin().frontend());
                if self.frontends[frontend] == Some(id.origin())
                    && let Some(link) = self.data[frontend]
                {
                    net.send(self.own, link, Message::Outcome { number: id.number() });
                }
            }
            if let Some(chief) = self.chief {
                let exec = ended.exec;
                let completed = Message::Completed { epoch, accelerator: at, batch, exec };
                net.send(self.own, chief, completed);
            }
        }
        self.begin(net, at);
    }

    /// An accelerator is lost, with everything on it.
    pub(super) fn lose_accelerator(&mut self, net: &mut Net, at: usize) {
        let accelerator = &mut self.accelerators[at];
        accelerator.queue.clear();
        if accelerator.running.take().is_some() {
            net.checks.rests((self.number, at));
        }
        (accelerator.is_lost, accelerator.was_busy) = (true, true);
        if let Some(chief) = self.chief {
            net.send(self.own, chief, Message::Lost { accelerator: at });
        }
    }

    /// It is there again.
    pub(super) fn recover_accelerator(&mut self, net: &mut Net, at: usize) {
        self.accelerators[at].is_lost = false;
        self.begin(net, at);
    }

    /// The next batch of an accelerator takes so much longer, if it begins soon.
    pub(super) fn hang(&mut self, net: &Net, at: usize, span: Span) {
        let until = net.now + net.heartbeat.times(HANGS_SOON);
        self.accelerators[at].hang = Some((until, span));
    }

    /// Its life is over: nothing of it counts any more, and what runs runs on for nobody.
    fn begin_life(&mut self, net: &mut Net) {
        self.life = net.next_life();
        self.chief = None;
        net.tell(|| format!("{:?} begins life {}", self.own, self.life));
        let links = self.schedulers.iter_mut().chain(&mut self.data).filter_map(Option::take);
        for link in links.collect::<Vec<_>>() {
            net.close(self.own, link);
        }
        self.frontends.fill(None);
        for accelerator in &mut self.accelerators {
            accelerator.queue.clear();
            if let Some(running) = &mut accelerator.running {
                running.taken = None;
            }
        }
        self.reach_schedulers(net);
    }

    pub(super) fn link_lost(&mut self, net: &mut Net, link: LinkId) {
        self.chief.take_if(|chief| *chief == link);
        let peer = net.peer(link, self.own);
        let known = match peer {
            Process::Scheduler(number) => &mut self.schedulers[number],
            Process::Frontend(number) => &mut self.data[number],
            Process::Backend(_) => return,
        };
        if known.take_if(|lost| *lost == link).is_some() {
            self.try_again(net, peer);
        }
    }
}
