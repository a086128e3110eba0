//! What happens to a pool in a random history.

use proptest::prelude::*;
use symphony_core::Class;
use symphony_core::sched::Mode;

/// One thing that happens from outside.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Arrive {
        model: u32,
        rows: u32,
        slo_us: u64,
        class: Class,
        /// Where the model has no objective: whether the request has a limit of its own.
        limited: bool,
        /// How old it is already, as one whose batch was lost.
        age_us: u64,
    },
    CancelOldest,
    MeasureDelays {
        control_us: u64,
        data_us: u64,
        jitter_us: u64,
    },
    /// Its times were measured again, and spread by so many thousandths.
    MeasureSpread {
        model: u32,
        thousandths: u32,
    },
    Remove {
        model: u32,
    },
    /// Again, once the last trace of it is gone.
    Add {
        model: u32,
    },
    /// The pool goes by another mode from now on.
    Switch {
        mode: Mode,
    },
    AddAccelerator {
        accelerator: u32,
    },
    DrainAccelerator {
        accelerator: u32,
    },
    /// Its process goes.
    Go {
        accelerator: u32,
    },
    /// The life of a frontend is over.
    Forget {
        frontend: u16,
    },
    /// One completes a batch that it never had.
    CompleteUnknown {
        accelerator: u32,
    },
    /// Nothing comes for long enough that whatever does not end is noticed.
    Silence,
}

#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) mode: Mode,
    pub(super) accelerators: u32,
    pub(super) low_share: f64,
    pub(super) profiles: Vec<(u64, u64, u32)>,
    /// Whether each model is best effort.
    pub(super) soft: Vec<bool>,
    /// Executions take this share of the profile, in percent, one after the other.
    pub(super) speeds: Vec<u64>,
    /// One in so many executions takes [`LATE`] times as long.
    pub(super) late_every: usize,
    /// And one in so many does not end.
    pub(super) endless_every: usize,
    /// And this share of that on each accelerator.
    pub(super) slowness: Vec<u64>,
    /// Whether plans follow what was measured.
    pub(super) follows: bool,
    pub(super) happenings: Vec<(u64, Happening)>,
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Consolidate), Just(Mode::Adaptive), Just(Mode::Eager)]
}

/// Accelerators that a history may name: one more than it may begin with.
pub(super) const ACCELERATORS: u32 = 5;

/// Requests come from so many frontends in turn.
pub(super) const FRONTENDS: u16 = 3;

/// How many times longer than it should a late execution takes: mostly long enough for its
/// accelerator to be taken for dead.
pub(super) const LATE: u64 = 300;

pub(super) fn histories() -> impl Strategy<Value = History> {
    let happening = prop_oneof![
        20 => (
            (0u32..3, 1u32..6, 500u64..60_000, prop::sample::select(&Class::ALL), any::<bool>()),
            prop_oneof![8 => Just(0u64), 1 => 0..80_000u64, 1 => Just(u64::MAX)],
        )
            .prop_map(|((model, rows, slo_us, class, limited), age_us)| {
                Happening::Arrive { model, rows, slo_us, class, limited, age_us }
            }),
        2 => Just(Happening::CancelOldest),
        1 => (0u64..3000, 0u64..300, 0u64..2000).prop_map(|(control_us, data_us, jitter_us)| {
            Happening::MeasureDelays { control_us, data_us, jitter_us }
        }),
        1 => (0u32..3, 0u32..1000)
            .prop_map(|(model, thousandths)| Happening::MeasureSpread { model, thousandths }),
        1 => (0u32..3).prop_map(|model| Happening::Remove { model }),
        1 => (0u32..3).prop_map(|model| Happening::Add { model }),
        1 => modes().prop_map(|mode| Happening::Switch { mode }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::AddAccelerator { accelerator }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::DrainAccelerator { accelerator }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::Go { accelerator }),
        1 => (0..FRONTENDS).prop_map(|frontend| Happening::Forget { frontend }),
        1 => (0..=ACCELERATORS)
            .prop_map(|accelerator| Happening::CompleteUnknown { accelerator }),
        1 => Just(Happening::Silence),
    ];
    let seldom = || prop_oneof![Just(usize::MAX), 5usize..60];
    (
        modes(),
        1..ACCELERATORS,
        prop::sample::select(&[0.0, 0.05, 1.0]),
        prop::collection::vec(((0u64..2000, 1u64..8000, 1u32..20), any::<bool>()), 3),
        prop::collection::vec(50u64..150, 1..8),
        (seldom(), seldom()),
        prop::collection::vec(
            prop_oneof![3 => Just(100u64), 1 => 100u64..900],
            ACCELERATORS as usize,
        ),
        any::<bool>(),
        prop::collection::vec((0u64..3000, happening), 1..150),
    )
        .prop_map(
            |(
                mode,
                accelerators,
                low_share,
                models,
                speeds,
                odd,
                slowness,
                follows,
                happenings,
            )| {
                let (profiles, soft) = models.into_iter().unzip();
                History {
                    mode,
                    accelerators,
                    low_share,
                    profiles,
                    soft,
                    speeds,
                    late_every: odd.0,
                    endless_every: odd.1,
                    slowness,
                    follows,
                    happenings,
                }
            },
        )
}
