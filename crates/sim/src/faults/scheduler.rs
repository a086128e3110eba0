//! A scheduler of a simulated cluster: a standby knows who is there, and the one in charge schedules
//! with `core` and keeps its ledger.

use super::case::FaultCase;
use super::network::{Event, LinkId, Message, Net, Plan, Process, Timer};
use crate::SplitScheduler;
use std::collections::BTreeMap;
use symphony_core::recovery::{Ledger, Verdict};
use symphony_core::sched::{Action, Actions, Event as Happening, Policy, Start};
use symphony_core::{AcceleratorId, BatchId, Delays, ModelId, Origin, Request, Span, Time};

/// Accelerators of one backend at most: the first of the next has this number.
const STRIDE: usize = 8;

/// Heartbeats after which a batch is overdue.
const OVERDUE: u64 = 10;

/// A scheduler in one of its lives.
pub(super) struct SchedulerProcess {
    own: Process,
    life: u32,
    /// Who has said hello.
    clients: BTreeMap<LinkId, Client>,
    /// The last life of each backend that is over.
    gone: Vec<u32>,
    active: Option<Box<Active>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Frontend { number: usize, origin: Origin },
    Backend { number: usize, life: u32 },
}

/// What a scheduler has while it is in charge.
struct Active {
    epoch: u64,
    scheduler: SplitScheduler,
    todo: Actions,
    ledger: Ledger,
    /// The backends that have registered, and which of their accelerators are in the pool.
    members: Vec<Option<Member>>,
    /// When it wants to be woken.
    wake: Option<Time>,
}

struct Member {
    link: LinkId,
    is_in_pool: Vec<bool>,
}

impl SchedulerProcess {
    /// A standby.
    pub(super) fn start(net: &mut Net, number: usize, backends: usize) -> SchedulerProcess {
        let own = Process::Scheduler(number);
        let life = net.next_life();
        let lease = Event::Timer { of: own, life, timer: Timer::Lease };
        let first = net.some_of(net.heartbeat);
        net.after(first, lease);
        SchedulerProcess {
            own,
            life,
            clients: BTreeMap::new(),
            gone: vec![0; backends],
            active: None,
        }
    }

    pub(super) fn life(&self) -> u32 {
        self.life
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Batches that it waits for and requests that it submitted again, and those that are queued.
    pub(super) fn open(&self) -> (usize, usize, u64) {
        let Some(active) = &self.active else { return (0, 0, 0) };
        let models = (0..).map(ModelId::first).map_while(|model| active.scheduler.stats(model));
        let queued = models.map(|stats| stats.queued).sum();
        (active.ledger.batches(), active.ledger.resubmitted(), queued)
    }

    /// Accelerators in its pool.
    pub(super) fn pool(&self) -> usize {
        let members = self.active.iter().flat_map(|active| active.members.iter().flatten());
        members.map(|member| member.is_in_pool.iter().filter(|is_in| **is_in).count()).sum()
    }

    /// Takes charge.
    pub(super) fn activate(&mut self, net: &mut Net, epoch: u64, case: &FaultCase) {
        net.tell(|| format!("{:?} is in charge, epoch {epoch}", self.own));
        self.active = Some(Box::new(Active::new(epoch, case)));
        for link in self.clients.keys() {
            net.send(self.own, *link, Message::Welcome { epoch });
        }
        self.tell_frontends(net);
        self.settle(net);
    }

    pub(super) fn receive(&mut self, net: &mut Net, link: LinkId, message: Message) {
        match message {
            Message::Hello { origin } => self.meet_frontend(net, link, origin),
            Message::Register { life, busy } => self.register(net, link, life, &busy),
            other => {
                let client = self.clients.get(&link).copied();
                let (Some(client), Some(active)) = (client, &mut self.active) else { return };
                active.receive(net.now, client, other);
            }
        }
        self.settle(net);
    }

    fn meet_frontend(&mut self, net: &mut Net, link: LinkId, origin: Origin) {
        let Process::Frontend(number) = net.peer(link, self.own) else { return };
        // It has lost a link of which this process thinks that it is there.
        let is_it = |client: &Client| matches!(client, Client::Frontend { number: other, .. } if *other == number);
        let before = self.clients.iter().find(|(_, client)| is_it(client)).map(|(link, _)| *link);
        if let Some(before) = before {
            net.close(self.own, before);
            self.lose(net, before);
        }
        self.clients.insert(link, Client::Frontend { number, origin });
        if let Some(active) = &self.active {
            net.checks.met(active.epoch, origin);
            net.send(self.own, link, Message::Welcome { epoch: active.epoch });
            self.tell_frontends(net);
        }
    }

    fn register(&mut self, net: &mut Net, link: LinkId, life: u32, busy: &[bool]) {
        let Process::Backend(number) = net.peer(link, self.own) else { return };
        let is_other = |(at, client): &(&LinkId, &Client)| {
            **at != link
                && matches!(client, Client::Backend { number: other, .. } if *other == number)
        };
        let before = self.clients.iter().find(is_other).map(|(link, _)| *link);
        if let Some(before) = before {
            net.close(self.own, before);
            self.lose(net, before);
        }
        if life <= self.gone[number] {
            net.send(self.own, link, Message::Refused);
            return net.close(self.own, link);
        }
        let is_new = self.clients.insert(link, Client::Backend { number, life }).is_none();
        let Some(active) = &mut self.active else { return };
        active.register(net.now, number, link, busy);
        if is_new {
            net.send(self.own, link, Message::Welcome { epoch: active.epoch });
            self.tell_frontends(net);
        }
    }

    /// Tells every backend who the frontends are.
    fn tell_frontends(&self, net: &mut Net) {
        let mut frontends = Vec::new();
        for client in self.clients.values() {
            let Client::Frontend { number, origin } = *client else { continue };
            if frontends.len() <= number {
                frontends.resize(number + 1, None);
            }
            frontends[number] = Some(origin);
        }
        for (link, client) in &self.clients {
            if matches!(client, Client::Backend { .. }) {
                net.send(self.own, *link, Message::Frontends(frontends.clone()));
            }
        }
    }

    pub(super) fn link_lost(&mut self, net: &mut Net, link: LinkId) {
        self.lose(net, link);
        self.settle(net);
    }

    /// A client is lost.
    fn lose(&mut self, net: &mut Net, link: LinkId) {
        let Some(client) = self.clients.remove(&link) else { return };
        match client {
            Client::Frontend { origin, .. } => {
                if let Some(active) = &mut self.active {
                    net.checks.forgotten(active.epoch, origin);
                    active.forget(net.now, origin);
                    self.tell_frontends(net);
                }
            }
            Client::Backend { number, life } => {
                let Some(active) = &mut self.active else { return };
                self.gone[number] = self.gone[number].max(life);
                active.lose_backend(net.now, number);
                net.tell(|| format!("{:?} has lost backend {number}, life {life}", self.own));
                for (link, client) in &self.clients {
                    if matches!(client, Client::Frontend { .. }) {
                        let gone = Message::BackendGone { backend: number, life };
                        net.send(self.own, *link, gone);
                    }
                }
            }
        }
    }

    /// Decides, and carries out what was decided.
    pub(super) fn settle(&mut self, net: &mut Net) {
        let Some(active) = &mut self.active else { return };
        loop {
            active.scheduler.settle(net.now, &mut active.todo);
            let again = active.act(net, self.own, &self.clients);
            if again.is_empty() {
                break;
            }
            for (model, request) in again {
                net.checks.survived.resubmitted += 1;
                active.note(net.now, Happening::Arrive { model, request });
            }
        }
        if let Some(wake) = active.scheduler.next_wake()
            && active.wake.is_none_or(|known| known <= net.now || wake < known)
        {
            active.wake = Some(wake);
            net.at(wake, Event::Timer { of: self.own, life: self.life, timer: Timer::Wake });
        }
    }
}

impl Active {
    fn new(epoch: u64, case: &FaultCase) -> Active {
        let FaultCase { seed, mode, delays, heartbeat, backends, models, split, .. } = case;
        let scheduler = SplitScheduler::new(*mode, 0, *split, seed ^ epoch);
        let scheduler = scheduler.with_overdue_after(heartbeat.times(OVERDUE));
        let mut active = Active {
            epoch,
            scheduler,
            todo: Actions::default(),
            ledger: Ledger::default(),
            members: backends.iter().map(|_| None).collect(),
            wake: None,
        };
        // A plan, the fetch of its inputs and these are underway, then an outcome.
        let [_, longest] = *delays;
        let (data, jitter) = (Span::ZERO, Span::ZERO);
        let delays = Delays { control: longest.times(3), data, response: longest, jitter };
        active.note(Time::ZERO, Happening::SetDelays(delays));
        for (model, terms) in (0..).map(ModelId::first).zip(models) {
            let terms = Box::new(terms.clone());
            active.note(Time::ZERO, Happening::AddModel { model, terms });
        }
        active
    }

    fn note(&mut self, now: Time, event: Happening) {
        self.scheduler.on_event(now, event, &mut self.todo);
    }

    fn receive(&mut self, now: Time, client: Client, message: Message) {
        match (client, message) {
            (Client::Frontend { .. }, Message::Submit { model, request }) => {
                self.note(now, Happening::Arrive { model, request });
            }
            (Client::Frontend { .. }, Message::Cancel { model, request }) => {
                self.ledger.dropped(request.id);
                let Request { id, deadline, .. } = request;
                self.note(now, Happening::Cancel { model, request: id, deadline });
            }
            (
                Client::Backend { number, .. },
                Message::Completed { epoch, accelerator, batch, exec },
            ) if epoch == self.epoch => {
                self.ledger.ended(batch);
                let accelerator = id(number, accelerator);
                self.note(now, Happening::Complete { accelerator, batch, exec });
            }
            (Client::Backend { number, .. }, Message::Lost { accelerator }) => {
                self.leave(now, number, accelerator);
            }
            (Client::Backend { number, .. }, Message::Free { accelerator }) => {
                self.join(now, number, accelerator);
            }
            _ => {}
        }
    }

    /// A backend has said what it has. It says so again when it is welcomed, which comes before
    /// every plan: what cannot be used then was lost after it had first registered.
    fn register(&mut self, now: Time, number: usize, link: LinkId, busy: &[bool]) {
        let is_in_pool = vec![false; busy.len()];
        self.members[number].get_or_insert(Member { link, is_in_pool });
        for (accelerator, is_busy) in busy.iter().enumerate() {
            if *is_busy {
                self.leave(now, number, accelerator);
            } else {
                self.join(now, number, accelerator);
            }
        }
    }

    fn join(&mut self, now: Time, number: usize, accelerator: usize) {
        let Some(member) = &mut self.members[number] else { return };
        if !std::mem::replace(&mut member.is_in_pool[accelerator], true) {
            let accelerator = id(number, accelerator);
            self.note(now, Happening::AddAccelerator { accelerator });
        }
    }

    fn leave(&mut self, now: Time, number: usize, accelerator: usize) {
        let Some(member) = &mut self.members[number] else { return };
        if std::mem::replace(&mut member.is_in_pool[accelerator], false) {
            let accelerator = id(number, accelerator);
            self.note(now, Happening::AcceleratorGone { accelerator });
        }
    }

    fn lose_backend(&mut self, now: Time, number: usize) {
        let count = self.members[number].as_ref().map_or(0, |member| member.is_in_pool.len());
        for accelerator in 0..count {
            self.leave(now, number, accelerator);
        }
        self.members[number] = None;
    }

    fn forget(&mut self, now: Time, origin: Origin) {
        self.ledger.forget(origin);
        self.note(now, Happening::ForgetOrigin { origin });
    }

    /// Carries out what was decided; returns the requests that are to be scheduled again.
    fn act(
        &mut self,
        net: &mut Net,
        own: Process,
        clients: &BTreeMap<LinkId, Client>,
    ) -> Vec<(ModelId, Request)> {
        let mut again = Vec::new();
        let tell = |net: &mut Net, id: symphony_core::RequestId, message: Message| {
            let is_its = |client: &Client| matches!(client, Client::Frontend { origin, .. } if *origin == id.origin());
            if let Some((link, _)) = clients.iter().find(|(_, client)| is_its(client)) {
                net.send(own, *link, message);
            }
        };
        let todo = std::mem::take(&mut self.todo);
        for action in &todo.list {
            match action {
                Action::Start(start) => self.send(net, own, start, todo.batch(start)),
                Action::Drop { request: Request { id, .. }, reason, .. } => {
                    net.tell(|| format!("{own:?} drops {id}: {reason:?}"));
                    self.ledger.dropped(*id);
                    tell(net, *id, Message::Dropped { id: *id });
                }
                Action::Lost { batch, accelerator, why, .. } => {
                    net.checks.survived.lost += 1;
                    net.tell(|| format!("{own:?} has lost {batch:?} on {accelerator:?}: {why:?}"));
                    self.lose(net.now, *batch, &mut again, |id| {
                        tell(net, id, Message::Failed { id });
                    });
                }
                Action::Removed { .. } | Action::Drained { .. } | Action::Recovered { .. } => {}
            }
        }
        self.todo = todo;
        self.todo.clear();
        again
    }

    /// A batch is lost: its requests are scheduled again, or failed.
    fn lose(
        &mut self,
        now: Time,
        batch: BatchId,
        again: &mut Vec<(ModelId, Request)>,
        mut fail: impl FnMut(symphony_core::RequestId),
    ) {
        self.ledger.lost(now, batch, |verdict| match verdict {
            Verdict::Resubmit { model, request } => again.push((model, request)),
            Verdict::GiveUp { request, .. } => fail(request.id),
        });
    }

    fn send(&mut self, net: &mut Net, own: Process, start: &Start, requests: &[Request]) {
        let &Start { batch, exec, .. } = start;
        let (number, accelerator) = place(start.accelerator);
        let epoch = self.epoch;
        self.ledger.sent(start, requests);
        net.checks.sent(epoch, requests);
        // It went while the grant was on its way to the shard. The matcher takes the batch for lost.
        let Some(member) = &self.members[number] else { return };
        let requests = requests.iter().map(|request| request.id).collect();
        let plan = Plan { epoch, batch, accelerator, requests, exec };
        net.tell(|| format!("{own:?} sends backend {number} {plan:?}"));
        net.send(own, member.link, Message::Plan(plan));
    }
}

/// What an accelerator of a backend is called in the pool.
fn id(backend: usize, accelerator: usize) -> AcceleratorId {
    AcceleratorId(u32::try_from(backend * STRIDE + accelerator).unwrap_or(u32::MAX))
}

/// The backend of an accelerator, and its number there.
fn place(accelerator: AcceleratorId) -> (usize, usize) {
    (accelerator.index() / STRIDE, accelerator.index() % STRIDE)
}
