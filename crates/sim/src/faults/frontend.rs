//! A frontend of a simulated cluster: keeps its requests until they have an outcome, and submits again
//! what a lost process leaves to it.

use super::checks::Ending;
use super::network::{Event, LinkId, Message, Net, Process, Timer};
use std::collections::BTreeMap;
use symphony_core::recovery::{Allegiance, GRACE, Whereabouts};
use symphony_core::{ModelId, Origin, Request, RequestId, Span};

/// A backend in one of its lives.
type BackendLife = (usize, u32);

/// A frontend in one of its lives.
pub(super) struct Frontend {
    own: Process,
    origin: Origin,
    life: u32,
    /// The links to the schedulers, and which of them is in charge.
    schedulers: Vec<Option<LinkId>>,
    chief: Option<LinkId>,
    allegiance: Allegiance,
    /// The links from backends.
    backends: Vec<Option<(LinkId, u32)>>,
    /// The last life of each backend that is over.
    gone: Vec<u32>,
    table: BTreeMap<u64, Waiting>,
    next: u64,
}

/// A request without an outcome.
struct Waiting {
    model: ModelId,
    request: Request,
    whereabouts: Whereabouts<BackendLife>,
}

/// A request that comes to a frontend.
pub(super) struct Incoming {
    pub(super) model: ModelId,
    pub(super) rows: u32,
    pub(super) limit: Span,
    pub(super) is_late: bool,
}

impl Frontend {
    /// A frontend that begins to reach the schedulers.
    pub(super) fn start(
        net: &mut Net,
        number: usize,
        origin: Origin,
        schedulers: usize,
        backends: usize,
    ) -> Frontend {
        let frontend = Frontend {
            own: Process::Frontend(number),
            origin,
            life: net.next_life(),
            schedulers: vec![None; schedulers],
            chief: None,
            allegiance: Allegiance::default(),
            backends: vec![None; backends],
            gone: vec![0; backends],
            table: BTreeMap::new(),
            next: 0,
        };
        for scheduler in 0..schedulers {
            frontend.try_again(net, Process::Scheduler(scheduler));
        }
        frontend
    }

    pub(super) fn life(&self) -> u32 {
        self.life
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Requests without an outcome.
    pub(super) fn waiting(&self) -> usize {
        self.table.len()
    }

    fn try_again(&self, net: &mut Net, to: Process) {
        let (span, timer) = (net.some_of(net.heartbeat), Timer::Connect { to });
        net.after(span, Event::Timer { of: self.own, life: self.life, timer });
    }

    /// Reaches a scheduler, if it is there.
    pub(super) fn connect(&mut self, net: &mut Net, scheduler: usize, is_there: bool) {
        if self.schedulers[scheduler].is_some() {
            return;
        }
        let to = Process::Scheduler(scheduler);
        if !is_there {
            return self.try_again(net, to);
        }
        let link = net.connect(self.own, to);
        self.schedulers[scheduler] = Some(link);
        net.send(self.own, link, Message::Hello { origin: self.origin });
    }

    /// A request comes.
    pub(super) fn arrive(
        &mut self,
        net: &mut Net,
        incoming: &Incoming,
        class: symphony_core::Class,
    ) {
        let &Incoming { model, rows, limit, is_late } = incoming;
        let (number, arrival) = (self.next, net.now);
        self.next += 1;
        let id = RequestId::new(self.origin, number);
        let request = Request { id, arrival, deadline: arrival + limit, rows, class };
        net.checks.submitted(&request, is_late);
        net.tell(|| {
            format!("request {id} of {rows} rows for {model} comes, due at {}", request.deadline)
        });
        self.table.insert(number, Waiting { model, request, whereabouts: Whereabouts::Queued });
        let timer = Timer::Guard { number };
        net.at(request.deadline + GRACE, Event::Timer { of: self.own, life: self.life, timer });
        self.submit(net, model, request);
    }

    /// Submits a request, if there is somebody to submit it to. Otherwise the next welcome does.
    fn submit(&self, net: &mut Net, model: ModelId, request: Request) {
        if let Some(chief) = self.chief {
            net.send(self.own, chief, Message::Submit { model, request });
        }
    }

    /// Submits every request again of which `is_lost` says that nobody sees to it.
    fn submit_again(
        &mut self,
        net: &mut Net,
        mut is_lost: impl FnMut(&mut Whereabouts<BackendLife>) -> bool,
    ) {
        let lost = self.table.values_mut().filter_map(|waiting| {
            let Waiting { model, request, whereabouts } = waiting;
            is_lost(whereabouts).then_some((*model, *request))
        });
        for (model, request) in lost.collect::<Vec<_>>() {
            net.tell(|| format!("{:?} submits {} again", self.own, request.id));
            self.submit(net, model, request);
        }
    }

    pub(super) fn receive(&mut self, net: &mut Net, link: LinkId, message: Message) {
        let is_chief = self.chief == Some(link);
        match message {
            Message::Welcome { epoch } => self.welcome(net, link, epoch),
            Message::Dropped { id } if is_chief => self.end(net, id, Ending::Dropped),
            Message::Failed { id } if is_chief => self.end(net, id, Ending::Failed),
            Message::BackendGone { backend, life } if is_chief => self.gone(net, backend, life),
            Message::DataHello { life } => self.meet(net, link, life),
            Message::Fetch { epoch, batch, numbers } => {
                let Some(by) = self.sender(net, link) else { return };
                for number in numbers {
                    let are_there = self.hand_out(epoch, number, by);
                    let inputs = Message::Inputs { epoch, batch, number, are_there };
                    net.send(self.own, link, inputs);
                }
            }
            Message::Outcome { number } if self.sender(net, link).is_some() => {
                self.answered(net, number);
            }
            // Said by one that is not in charge, or not of this life.
            _ => {}
        }
    }

    fn welcome(&mut self, net: &mut Net, link: LinkId, epoch: u64) {
        if self.allegiance.welcome(epoch) {
            self.chief = Some(link);
            self.submit_again(net, Whereabouts::welcomed);
        }
    }

    /// The backend, in the life, of a link that counts.
    fn sender(&self, net: &Net, link: LinkId) -> Option<BackendLife> {
        let Process::Backend(backend) = net.peer(link, self.own) else { return None };
        let (current, life) = self.backends[backend]?;
        (current == link).then_some((backend, life))
    }

    /// Whether a backend gets the inputs of a request.
    fn hand_out(&mut self, epoch: u64, number: u64, by: BackendLife) -> bool {
        let session = self.allegiance.session();
        let waiting = self.table.get_mut(&number).filter(|_| self.allegiance.obeys(epoch));
        let is_there = waiting.is_some();
        if let Some(waiting) = waiting {
            waiting.whereabouts.fetched(by, session);
        }
        is_there
    }

    fn answered(&mut self, net: &mut Net, number: u64) {
        if let Some(Waiting { whereabouts: Whereabouts::Queued, model, request }) =
            self.table.get(&number)
            && let Some(chief) = self.chief
        {
            // It ran where it was given up, and is to run again.
            let cancel = Message::Cancel { model: *model, request: *request };
            net.send(self.own, chief, cancel);
        }
        self.end(net, RequestId::new(self.origin, number), Ending::Done);
    }

    /// A request has its outcome, unless it had one.
    fn end(&mut self, net: &mut Net, id: RequestId, ending: Ending) {
        if id.origin() == self.origin && self.table.remove(&id.number()).is_some() {
            net.tell(|| format!("request {id} ends: {ending:?}"));
            net.checks.ended(net.now, id, ending);
        }
    }

    /// The outcome of a request is waited for no longer.
    pub(super) fn guard(&mut self, net: &mut Net, number: u64) {
        let Some(Waiting { model, request, .. }) = self.table.get(&number) else { return };
        if let Some(chief) = self.chief {
            net.send(self.own, chief, Message::Cancel { model: *model, request: *request });
        }
        self.end(net, RequestId::new(self.origin, number), Ending::TimedOut);
    }

    /// A backend says who it is.
    fn meet(&mut self, net: &mut Net, link: LinkId, life: u32) {
        let Process::Backend(backend) = net.peer(link, self.own) else { return };
        if life <= self.gone[backend] {
            net.send(self.own, link, Message::Refused);
            return net.close(self.own, link);
        }
        if let Some((before, _)) = self.backends[backend] {
            net.close(self.own, before);
            self.cut(net, backend);
        }
        self.backends[backend] = Some((link, life));
    }

    /// The link to a backend is lost.
    fn cut(&mut self, net: &mut Net, backend: usize) {
        if let Some((_, life)) = self.backends[backend].take() {
            let session = self.allegiance.session();
            self.submit_again(net, |whereabouts| whereabouts.cut(&(backend, life), session));
        }
    }

    /// A backend's life is over.
    fn gone(&mut self, net: &mut Net, backend: usize, life: u32) {
        self.gone[backend] = self.gone[backend].max(life);
        if let Some((link, _)) = self.backends[backend].take_if(|(_, linked)| *linked <= life) {
            net.close(self.own, link);
        }
        let session = self.allegiance.session();
        self.submit_again(net, |whereabouts| whereabouts.gone(&(backend, life), session));
    }

    pub(super) fn link_lost(&mut self, net: &mut Net, link: LinkId) {
        self.chief.take_if(|chief| *chief == link);
        match net.peer(link, self.own) {
            Process::Scheduler(number) => {
                if self.schedulers[number].take_if(|lost| *lost == link).is_some() {
                    self.try_again(net, Process::Scheduler(number));
                }
            }
            Process::Backend(backend) => {
                if self.backends[backend].is_some_and(|(lost, _)| lost == link) {
                    self.cut(net, backend);
                }
            }
            Process::Frontend(_) => {}
        }
    }
}
