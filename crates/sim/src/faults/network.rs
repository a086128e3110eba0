//! Links, messages and timers of a simulated cluster.

use super::checks::Checks;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use symphony_core::{BatchId, ModelId, Origin, Request, RequestId, Span, Time};
use symphony_workload::random::Random;

/// A process, by its role and number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    Frontend(usize),
    Scheduler(usize),
    Backend(usize),
}

/// One connection between two processes. Another one between the same two is another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(usize);

/// What processes say. Times are the simulation's, which a live carrier makes of spans.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// A frontend to a scheduler, first of all.
    Hello {
        origin: Origin,
    },
    /// A backend to a scheduler, first of all and at each welcome: by accelerator, whether it cannot
    /// be used yet.
    Register {
        life: u32,
        busy: Vec<bool>,
    },
    /// A scheduler to all: it is in charge.
    Welcome {
        epoch: u64,
    },
    /// To a backend: its life is over.
    Refused,
    /// A frontend to the scheduler in charge.
    Submit {
        model: ModelId,
        request: Request,
    },
    Cancel {
        model: ModelId,
        request: Request,
    },
    /// The scheduler to a frontend.
    Dropped {
        id: RequestId,
    },
    Failed {
        id: RequestId,
    },
    BackendGone {
        backend: usize,
        life: u32,
    },
    /// The scheduler to a backend.
    Plan(Plan),
    Frontends(Vec<Option<Origin>>),
    /// A backend to the scheduler; a batch of which nothing ran took no time.
    Completed {
        epoch: u64,
        accelerator: usize,
        batch: BatchId,
        exec: Span,
    },
    Lost {
        accelerator: usize,
    },
    Free {
        accelerator: usize,
    },
    /// A backend to a frontend, first of all.
    DataHello {
        life: u32,
    },
    Fetch {
        epoch: u64,
        batch: BatchId,
        numbers: Vec<u64>,
    },
    Outcome {
        number: u64,
    },
    /// A frontend to a backend: the inputs of a request of this batch, unless there are none.
    Inputs {
        epoch: u64,
        batch: BatchId,
        number: u64,
        are_there: bool,
    },
}

/// A batch on its way to an accelerator.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) epoch: u64,
    pub(super) batch: BatchId,
    pub(super) accelerator: usize,
    pub(super) requests: Vec<RequestId>,
    pub(super) exec: Span,
}

/// What a process does later.
#[derive(Clone, Debug)]
pub(super) enum Timer {
    /// Tries to reach another process.
    Connect { to: Process },
    /// A request of this frontend comes.
    Arrive { at: usize },
    /// The outcome of a request is waited for no longer.
    Guard { number: u64 },
    /// The scheduler wants to settle.
    Wake,
    /// A scheduler looks at the lease.
    Lease,
    /// An execution ends.
    Ended { accelerator: usize, run: u64 },
    /// Inputs are waited for no longer.
    NoInputs { epoch: u64, batch: BatchId },
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver {
        link: LinkId,
        to: Process,
        message: Message,
    },
    /// A process learns that a link is lost.
    LinkLost {
        link: LinkId,
        to: Process,
    },
    /// A timer of a process, in one of its lives.
    Timer {
        of: Process,
        life: u32,
        timer: Timer,
    },
    /// One of the case's faults.
    Fault(usize),
    /// A process that was killed is there again.
    Restart(Process),
    /// An accelerator that was lost is there again.
    AcceleratorBack {
        backend: usize,
        accelerator: usize,
    },
}

struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.key().cmp(&other.key())
    }
}

struct Link {
    ends: [Process; 2],
    /// Whether each end knows of no loss.
    is_open: [bool; 2],
    /// When the last message to each end arrives.
    last: [Time; 2],
    /// From when on everything is lost.
    cut: Time,
    /// Until when everything is held back.
    late: Time,
}

/// Everything between the processes, and what is to happen.
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) heartbeat: Span,
    pub(super) checks: Checks,
    delays: [Span; 2],
    random: Random,
    events: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    links: Vec<Link>,
    /// Lives that were begun, of whatever process.
    lives: u32,
    log: Option<Vec<String>>,
}

impl Net {
    pub(super) fn new(
        seed: u64,
        heartbeat: Span,
        delays: [Span; 2],
        checks: Checks,
        is_told: bool,
    ) -> Net {
        Net {
            now: Time::ZERO,
            heartbeat,
            checks,
            delays,
            random: Random::numbered(seed, 1),
            events: BinaryHeap::new(),
            entries: 0,
            links: Vec::new(),
            lives: 0,
            log: is_told.then(Vec::new),
        }
    }

    /// Writes a line of the timeline, if there is one.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{:>10.3} {}", Span(now.0).as_millis_f64(), line()));
        }
    }

    /// The timeline.
    pub(super) fn take_log(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }

    /// A share of `span`, at random.
    pub(super) fn some_of(&mut self, span: Span) -> Span {
        Span::from_millis_f64(span.as_millis_f64() * self.random.uniform())
    }

    /// How long a process takes to notice that another is silent.
    pub(super) fn silence(&mut self) -> Span {
        self.heartbeat.times(2) + self.some_of(self.heartbeat)
    }

    /// A number that no life had before; later lives have greater ones.
    pub(super) fn next_life(&mut self) -> u32 {
        self.lives += 1;
        self.lives
    }

    /// How many links there ever were.
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.entries += 1;
        self.events.push(Reverse(Entry { at, number: self.entries, event }));
    }

    pub(super) fn after(&mut self, span: Span, event: Event) {
        self.at(self.now + span, event);
    }

    /// The next thing that happens until `end`.
    pub(super) fn next(&mut self, end: Time) -> Option<Event> {
        let Reverse(next) = self.events.peek()?;
        if next.at > end {
            return None;
        }
        let Reverse(Entry { at, event, .. }) = self.events.pop()?;
        self.now = at;
        Some(event)
    }

    /// A new link from one process to another. Its first message is the first to arrive.
    pub(super) fn connect(&mut self, from: Process, to: Process) -> LinkId {
        self.links.push(Link {
            ends: [from, to],
            is_open: [true; 2],
            last: [self.now; 2],
            cut: Time::NEVER,
            late: Time::ZERO,
        });
        LinkId(self.links.len() - 1)
    }

    fn delay(&mut self) -> Span {
        let [shortest, longest] = self.delays;
        shortest + self.some_of(longest.saturating_sub(shortest))
    }

    /// When something arrives that is sent on a link now. Nothing overtakes on one way.
    fn arrival(&mut self, LinkId(link): LinkId, to: usize) -> Time {
        let (now, delay) = (self.now, self.delay());
        let Link { last, late, .. } = &mut self.links[link];
        last[to] = last[to].max(now.max(*late) + delay);
        last[to]
    }

    fn end(&self, LinkId(link): LinkId, process: Process) -> usize {
        usize::from(self.links[link].ends[0] != process)
    }

    /// Who is at the other end.
    pub(super) fn peer(&self, link: LinkId, of: Process) -> Process {
        self.links[link.0].ends[1 - self.end(link, of)]
    }

    /// Sends a message; it is lost with the link.
    pub(super) fn send(&mut self, from: Process, link: LinkId, message: Message) {
        let end = self.end(link, from);
        if !self.links[link.0].is_open[end] {
            return;
        }
        let (to, at) = (self.links[link.0].ends[1 - end], self.arrival(link, 1 - end));
        self.at(at, Event::Deliver { link, to, message });
    }

    /// Whether a message that arrives now is read.
    pub(super) fn is_read(&self, link: LinkId, by: Process) -> bool {
        let end = self.end(link, by);
        let Link { is_open, cut, .. } = &self.links[link.0];
        is_open[end] && self.now < *cut
    }

    /// A process closes its end; its peer learns that after all that was sent before.
    pub(super) fn close(&mut self, by: Process, link: LinkId) {
        if self.note_lost(link, by) {
            self.hang_up(by, link);
        }
    }

    /// A process that takes a link for lost closes it.
    pub(super) fn hang_up(&mut self, by: Process, link: LinkId) {
        let other = 1 - self.end(link, by);
        if self.now < self.links[link.0].cut && self.links[link.0].is_open[other] {
            let (to, at) = (self.links[link.0].ends[other], self.arrival(link, other));
            self.at(at, Event::LinkLost { link, to });
        }
    }

    /// A process ends without a word: its peer notices the silence.
    pub(super) fn fall_silent(&mut self, by: Process, link: LinkId) {
        if self.note_lost(link, by) {
            let (to, span) = (self.peer(link, by), self.silence());
            self.after(span, Event::LinkLost { link, to });
        }
    }

    /// A process takes a link for lost; whether that is news to it.
    pub(super) fn note_lost(&mut self, link: LinkId, by: Process) -> bool {
        let end = self.end(link, by);
        std::mem::replace(&mut self.links[link.0].is_open[end], false)
    }

    /// The links that a process has.
    pub(super) fn links_of(&self, process: Process) -> Vec<LinkId> {
        let is_its = |link: &Link| {
            let ends = link.ends.iter().zip(link.is_open);
            ends.into_iter().any(|(end, is_open)| *end == process && is_open)
        };
        let links = self.links.iter().enumerate().filter(|(_, link)| is_its(link));
        links.map(|(number, _)| LinkId(number)).collect()
    }

    /// The link between two processes, if they have one.
    pub(super) fn between(&self, ends: [Process; 2]) -> Option<LinkId> {
        let reversed = [ends[1], ends[0]];
        let is_it = |link: &Link| {
            (link.ends == ends || link.ends == reversed)
                && link.is_open == [true; 2]
                && link.cut == Time::NEVER
        };
        self.links.iter().rposition(is_it).map(LinkId)
    }

    /// Loses everything on a link from now on.
    pub(super) fn cut(&mut self, link: LinkId) {
        self.links[link.0].cut = self.now;
        for to in self.links[link.0].ends {
            let span = self.silence();
            self.after(span, Event::LinkLost { link, to });
        }
    }

    /// Holds back everything that is sent on a link for a while.
    pub(super) fn hold_back(&mut self, link: LinkId, span: Span) {
        self.links[link.0].late = self.now + span;
    }
}
