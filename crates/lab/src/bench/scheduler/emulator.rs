//! Emulated accelerators in the shard's own loop: a batch ends after the time that its profile
//! says, and each of its requests has its outcome then.

use super::ledger::{Ended, Ledger};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use symphony_core::sched::Start;
use symphony_core::{DropReason, Profile, Request, RequestId, Span, Time};
use symphony_dispatch::Effects;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::SchedulerPort;
use symphony_wire::message::Completion;

/// The accelerators as one shard sees them: the batches that it has sent.
pub(super) struct Emulator {
    profile: Arc<Profile>,
    port: SchedulerPort,
    pub(super) ledger: Ledger,
    running: Vec<Running>,
    /// Places in `running` whose batch has ended.
    free: Vec<usize>,
    ends: BinaryHeap<Reverse<(Time, usize)>>,
    pub(super) batches: u64,
    pub(super) rows: u64,
}

/// A batch; its room is used again.
struct Running {
    completion: Timed<Completion>,
    requests: Vec<(RequestId, Time)>,
}

impl Emulator {
    pub(super) fn new(profile: Arc<Profile>, port: SchedulerPort, ledger: Ledger) -> Emulator {
        Emulator {
            profile,
            port,
            ledger,
            running: Vec::new(),
            free: Vec::new(),
            ends: BinaryHeap::new(),
            batches: 0,
            rows: 0,
        }
    }

    /// Ends the batches that are due; says so to the matcher.
    pub(super) fn step(&mut self, now: Time) {
        while let Some(&Reverse((end, place))) = self.ends.peek()
            && end <= now
        {
            self.ends.pop();
            let Running { completion, requests } = &mut self.running[place];
            for (id, deadline) in requests.drain(..) {
                let ended = if end <= deadline { Ended::Good } else { Ended::Late };
                self.ledger.end(id, ended);
            }
            // Without a scheduler nobody needs to know.
            let _ = self.port.completed(*completion);
            self.free.push(place);
        }
    }
}

impl Effects for Emulator {
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let &Start { accelerator, batch, model, rows, .. } = start;
        let exec = self.profile.exec(rows);
        // Nothing delays it here but a batch before it, whose end the plan knows.
        let taken = if start.behind { start.begin.max(now) } else { now };
        let finished = taken + exec;
        let (data, response, stay) = (Span::ZERO, Span::ZERO, exec);
        let completion = Completion { accelerator, batch, model, data, exec, response, stay };
        let completion = Timed::new(finished, completion);
        let place = self.free.pop().unwrap_or_else(|| {
            self.running.push(Running { completion, requests: Vec::new() });
            self.running.len() - 1
        });
        let running = &mut self.running[place];
        running.completion = completion;
        running.requests.extend(requests.iter().map(|request| (request.id, request.deadline)));
        self.ends.push(Reverse((finished, place)));
        self.batches += 1;
        self.rows += u64::from(rows);
    }

    fn dropped(&mut self, _now: Time, request: &Request, reason: DropReason) {
        let ended = match reason {
            DropReason::QueueFull => Ended::Refused,
            _ => Ended::Dropped,
        };
        self.ledger.end(request.id, ended);
    }

    fn over(&mut self, _failed: bool) {}
}

/// How long the scheduler is given to end what is under way.
pub(super) fn grace(slo: Span, profile: &Profile) -> Span {
    slo.times(2) + profile.exec(profile.rows_max()) + Span::from_millis(200)
}
