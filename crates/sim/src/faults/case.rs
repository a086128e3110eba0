//! What a seed stands for: a small cluster, its load, and what goes wrong.

use super::network::Process;
use crate::{Delay, Split};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use symphony_core::recovery::GRACE;
use symphony_core::sched::{Mode, ModelTerms};
use symphony_core::{Objective, Profile, Span, Time};
use symphony_workload::random::Random;

/// Which faults are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultKind {
    /// Any of the others.
    #[default]
    All,
    /// Accelerators that are lost and come back, or do not end a batch for long.
    Accelerators,
    /// Backends that are killed, or stopped and continued.
    Backends,
    /// The same of frontends.
    Frontends,
    /// The same of schedulers, and a lease that is lost.
    Schedulers,
    /// Links that are cut, or hold messages back.
    Links,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 6] = [
        FaultKind::All,
        FaultKind::Accelerators,
        FaultKind::Backends,
        FaultKind::Frontends,
        FaultKind::Schedulers,
        FaultKind::Links,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::All => "all",
            FaultKind::Accelerators => "accelerators",
            FaultKind::Backends => "backends",
            FaultKind::Frontends => "frontends",
            FaultKind::Schedulers => "schedulers",
            FaultKind::Links => "links",
        }
    }
}

/// A kind of faults that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are no faults {0:?}: choose from all, accelerators, backends, frontends, schedulers, links"
)]
pub struct UnknownFaultKind(String);

impl FromStr for FaultKind {
    type Err = UnknownFaultKind;

    fn from_str(name: &str) -> Result<FaultKind, UnknownFaultKind> {
        let known = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownFaultKind(name.to_owned()))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A process ends, and is there again after a while.
    Kill {
        process: Process,
        /// Whether its peers are told by a closed connection; otherwise they notice the silence.
        is_told: bool,
        back_after: Span,
    },
    /// A process is stopped, and continued after a while.
    Stall { process: Process, span: Span },
    /// The scheduler in charge loses its lease, and looks at it a little later.
    LoseLease,
    /// The link between two processes loses everything from now on; another one can be made.
    Cut { ends: [Process; 2] },
    /// What is sent on a link is held back for a while.
    Late { ends: [Process; 2], span: Span },
    /// An accelerator is lost with what it runs, and is there again after a while.
    LoseAccelerator { backend: usize, accelerator: usize, back_after: Span },
    /// The batch that an accelerator begins next takes so much longer.
    Hang { backend: usize, accelerator: usize, span: Span },
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Time,
    pub(super) frontend: usize,
    pub(super) model: usize,
    pub(super) rows: u32,
    /// Whether it comes when all is well again, and has to be answered in time.
    pub(super) is_late: bool,
}

/// A small cluster, its load, and what goes wrong, drawn from a seed.
#[derive(Clone, Debug)]
pub struct FaultCase {
    pub(super) seed: u64,
    pub(super) mode: Mode,
    pub(super) heartbeat: Span,
    /// The shortest and the longest delay of a message.
    pub(super) delays: [Span; 2],
    /// How the scheduler is laid out on threads.
    pub(super) split: Split,
    pub(super) frontends: usize,
    /// By backend, how many accelerators.
    pub(super) backends: Vec<usize>,
    pub(super) models: Vec<ModelTerms>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) faults: Vec<(Time, Fault)>,
    /// When everything has to be over.
    pub(super) end: Time,
}

impl fmt::Display for FaultCase {
    /// The cluster in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultCase { mode, heartbeat, frontends, backends, delays: [shortest, longest], .. } =
            self;
        write!(f, "{}, heartbeat {heartbeat}, messages {shortest} to {longest}, ", mode.name())?;
        let Split { shards, message } = self.split;
        write!(f, "{shards} shards {message:?} from the matcher, ")?;
        write!(f, "{frontends} frontends, backends of {backends:?} accelerators")?;
        for ModelTerms { profile, objective, .. } in &self.models {
            let most = profile.rows_max();
            let (one, all) = (profile.exec(1), profile.exec(most));
            write!(f, ", l(1) = {one}, l({most}) = {all}, {objective:?}")?;
        }
        Ok(())
    }
}

/// How many schedulers there are, of which one is in charge.
pub(super) const SCHEDULERS: usize = 2;
/// Heartbeats until everybody knows everybody and a scheduler is in charge.
const BEGIN: u64 = 12;
/// Heartbeats in which things go wrong.
const TROUBLE: u64 = 40;
/// Of these, in which faults happen that happen together.
const TOGETHER: u64 = 4;
/// Faults of one case.
const FAULTS_MAX: usize = 5;
/// Heartbeats until all is well again.
const RECOVERY: u64 = 60;
/// Requests that come then.
const CALM_REQUESTS: u64 = 6;

/// Draws numbers.
struct Draw(Random);

impl Draw {
    /// A number from `from` up to and without `to`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below `to`")]
    fn number(&mut self, from: u64, to: u64) -> u64 {
        let share = 1.0 - self.0.uniform();
        (from + (share * (to - from) as f64) as u64).min(to - 1)
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.number(0, count as u64)).unwrap_or(0)
    }

    fn is(&mut self, share: f64) -> bool {
        self.0.uniform() <= share
    }

    fn micros(&mut self, from: u64, to: u64) -> Span {
        Span::from_micros(self.number(from, to))
    }

    /// So many spans, at random.
    fn times(&mut self, span: Span, from: u64, to: u64) -> Span {
        Span(self.number(span.0.saturating_mul(from), span.0.saturating_mul(to)))
    }
}

impl FaultCase {
    /// Draws the case of a seed.
    #[must_use]
    pub fn draw(seed: u64, kind: FaultKind) -> FaultCase {
        let mut draw = Draw(Random::numbered(seed, 0));
        let heartbeat = Span::from_millis([5, 10, 20, 50][draw.index(4)]);
        let shortest = draw.micros(10, 200);
        let delays = [shortest, shortest + draw.micros(1, 500)];
        let backends = (0..1 + draw.index(3)).map(|_| 1 + draw.index(3)).collect();
        let count = 1 + draw.index(2);
        let models = (0..count).map(|_| model(&mut draw, heartbeat, delays[1])).collect();
        let message = [Span::ZERO, draw.micros(1, 300)][draw.index(2)];
        let split =
            Split { shards: 1 + u32::from(draw.is(0.5)), message: Delay::Constant(message) };
        let mut case = FaultCase {
            seed,
            split,
            mode: Mode::ALL[draw.index(Mode::ALL.len())],
            heartbeat,
            delays,
            frontends: 1 + draw.index(3),
            backends,
            models,
            arrivals: Vec::new(),
            faults: Vec::new(),
            end: Time::ZERO,
        };
        case.draw_faults(&mut draw, kind);
        case.draw_arrivals(&mut draw);
        case
    }

    fn draw_faults(&mut self, draw: &mut Draw, kind: FaultKind) {
        let begin = Time::ZERO + self.heartbeat.times(BEGIN);
        let first = begin + draw.times(self.heartbeat, 0, TROUBLE - TOGETHER);
        let together = draw.is(0.4);
        for _ in 0..1 + draw.index(FAULTS_MAX) {
            let at = if together {
                first + draw.times(self.heartbeat, 0, TOGETHER)
            } else {
                begin + draw.times(self.heartbeat, 0, TROUBLE)
            };
            let fault = self.fault(draw, kind);
            self.faults.push((at, fault));
        }
    }

    fn fault(&self, draw: &mut Draw, kind: FaultKind) -> Fault {
        let backend = draw.index(self.backends.len());
        let process = match kind {
            FaultKind::All => {
                let any = FaultKind::ALL[1 + draw.index(5)];
                return self.fault(draw, any);
            }
            FaultKind::Accelerators => return self.accelerator_fault(draw, backend),
            FaultKind::Links => return self.link_fault(draw, backend),
            FaultKind::Schedulers if draw.is(0.3) => return Fault::LoseLease,
            FaultKind::Backends => Process::Backend(backend),
            FaultKind::Frontends => Process::Frontend(draw.index(self.frontends)),
            FaultKind::Schedulers => Process::Scheduler(draw.index(SCHEDULERS)),
        };
        if draw.is(0.6) {
            let (is_told, back_after) = (draw.is(0.5), draw.times(self.heartbeat, 0, 20));
            Fault::Kill { process, is_told, back_after }
        } else {
            Fault::Stall { process, span: draw.times(self.heartbeat, 0, 12) }
        }
    }

    fn accelerator_fault(&self, draw: &mut Draw, backend: usize) -> Fault {
        let accelerator = draw.index(self.backends[backend]);
        if draw.is(0.5) {
            let back_after = draw.times(self.heartbeat, 0, 20);
            Fault::LoseAccelerator { backend, accelerator, back_after }
        } else {
            Fault::Hang { backend, accelerator, span: draw.times(self.heartbeat, 0, 12) }
        }
    }

    fn link_fault(&self, draw: &mut Draw, backend: usize) -> Fault {
        let frontend = Process::Frontend(draw.index(self.frontends));
        let scheduler = Process::Scheduler(draw.index(SCHEDULERS));
        let backend = Process::Backend(backend);
        let ends = [[frontend, scheduler], [backend, scheduler], [backend, frontend]];
        let ends = ends[draw.index(3)];
        if draw.is(0.5) {
            Fault::Cut { ends }
        } else {
            Fault::Late { ends, span: draw.times(self.heartbeat, 0, 2) }
        }
    }

    fn draw_arrivals(&mut self, draw: &mut Draw) {
        let begin = Time::ZERO + self.heartbeat.times(BEGIN / 2);
        let busy = self.heartbeat.times(TROUBLE + BEGIN);
        let of_bursts = [0.0, 0.5, 0.9][draw.index(3)];
        let mut burst = begin;
        let mut arrivals = Vec::new();
        for _ in 0..30 + draw.index(80) {
            let at = if draw.is(of_bursts) {
                burst + draw.times(self.heartbeat, 0, 2)
            } else {
                begin + Span(draw.number(0, busy.0))
            };
            if draw.is(0.1) {
                burst = at;
            }
            arrivals.push(self.arrival(draw, at, false));
        }
        let patience = self.models.iter().map(|terms| terms.objective.span()).max();
        let patience = patience.unwrap_or_default();
        // Each alone, so that whatever the mode waits for, none has to make way for another.
        let gap = patience + self.delays[1];
        let calm = Time::ZERO + self.heartbeat.times(BEGIN + TROUBLE + RECOVERY) + patience;
        arrivals.extend((0..CALM_REQUESTS).map(|number| {
            let arrival = self.arrival(draw, calm + gap.times(number), true);
            Arrival { rows: 1, ..arrival }
        }));
        arrivals.sort_by_key(|arrival| arrival.at);
        self.end = calm + gap.times(CALM_REQUESTS) + patience.times(2) + GRACE.times(2);
        self.arrivals = arrivals;
    }

    fn arrival(&self, draw: &mut Draw, at: Time, is_late: bool) -> Arrival {
        let model = draw.index(self.models.len());
        let rows_max = self.models[model].profile.rows_max().min(3);
        let rows = u32::try_from(draw.number(1, u64::from(rows_max) + 1)).unwrap_or(1);
        Arrival { at, frontend: draw.index(self.frontends), model, rows, is_late }
    }
}

/// A model whose requests can be answered in time where nothing is wrong, also by a pool that has one
/// accelerator left.
fn model(draw: &mut Draw, heartbeat: Span, delay: Span) -> ModelTerms {
    let (row, batch) = (draw.micros(50, 1500), draw.micros(300, 5000));
    let rows_max = u32::try_from(draw.number(1, 17)).unwrap_or(1);
    let profile = Profile::linear(row, batch, rows_max).expect("a valid profile");
    let alone = profile.exec(1) + delay.times(8);
    let slo = alone.times(draw.number(4, 12)) + draw.times(heartbeat, 0, 12);
    let is_soft = draw.is(0.2);
    ModelTerms {
        profile: Arc::new(profile),
        objective: if is_soft { Objective::Soft(slo) } else { Objective::Slo(slo) },
        queue_max: 60,
        loss_weight: 1.0,
        lane_of: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_name() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let refused = "sharks".parse::<FaultKind>().unwrap_err().to_string();
        assert!(FaultKind::ALL.iter().all(|kind| refused.contains(kind.name())), "{refused}");
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let drawn = |kind, named: &str| {
            let cases = (0..200).map(|seed| FaultCase::draw(seed, kind));
            let mut faults = cases.flat_map(|case| case.faults);
            faults.any(|(_, fault)| format!("{fault:?}").contains(named))
        };
        for named in ["Kill", "Stall", "Cut", "Late", "LoseAccelerator", "Hang", "LoseLease"] {
            assert!(drawn(FaultKind::All, named), "{named}");
        }
        for (kind, named) in [
            (FaultKind::Frontends, "Frontend("),
            (FaultKind::Backends, "Backend("),
            (FaultKind::Schedulers, "Scheduler("),
        ] {
            assert!(drawn(kind, named) && !drawn(kind, "Cut"), "{named}");
        }
    }
}
