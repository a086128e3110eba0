//! What can happen to a pool, drawn at random.

use proptest::prelude::*;
use symphony_core::sched::Mode;
use symphony_core::{Class, Span};
use symphony_sim::Delay;

pub(crate) const MODELS: u32 = 5;

/// An event from outside.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrive {
        model: u32,
        rows: u32,
        slo_us: u64,
        class: Class,
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
    Add {
        model: u32,
    },
    Switch {
        mode: Mode,
    },
    AddAccelerator {
        accelerator: u32,
    },
    DrainAccelerator {
        accelerator: u32,
    },
    /// Nothing happens for so long that everything that does not end is noticed.
    Silence,
}

/// The accelerators that a history may name: one more than it may begin with.
pub(crate) const ACCELERATORS: u32 = 5;

/// The factor on the time of a late execution. It mostly suffices for its accelerator to count as
/// lost.
pub(crate) const LATE: u64 = 300;

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) mode: Mode,
    pub(crate) accelerators: u32,
    /// Time per row and per batch in microseconds, and the largest batch.
    pub(crate) profiles: Vec<(u64, u64, u32)>,
    /// The times of successive executions, in percent of the profile.
    pub(crate) speeds: Vec<u64>,
    /// One in this many executions takes [`LATE`] times as long.
    pub(crate) late_every: usize,
    /// One in this many executions does not end.
    pub(crate) endless_every: usize,
    /// Whether plans follow what was measured.
    pub(crate) follows: bool,
    pub(crate) happenings: Vec<(u64, Happening)>,
}

pub(crate) fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Consolidate), Just(Mode::Adaptive), Just(Mode::Eager)]
}

pub(crate) fn happenings() -> impl Strategy<Value = Happening> {
    let model = 0..MODELS;
    prop_oneof![
        30 => (model.clone(), 1u32..4, 500u64..60_000, prop::sample::select(&Class::ALL))
            .prop_map(|(model, rows, slo_us, class)| {
                Happening::Arrive { model, rows, slo_us, class }
            }),
        2 => Just(Happening::CancelOldest),
        1 => (0u64..3000, 0u64..300, 0u64..2000).prop_map(|(control_us, data_us, jitter_us)| {
            Happening::MeasureDelays { control_us, data_us, jitter_us }
        }),
        1 => (model.clone(), 0u32..1000)
            .prop_map(|(model, thousandths)| Happening::MeasureSpread { model, thousandths }),
        2 => model.clone().prop_map(|model| Happening::Remove { model }),
        2 => model.prop_map(|model| Happening::Add { model }),
        1 => modes().prop_map(|mode| Happening::Switch { mode }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::AddAccelerator { accelerator }),
        1 => (0..ACCELERATORS).prop_map(|accelerator| Happening::DrainAccelerator { accelerator }),
        1 => Just(Happening::Silence),
    ]
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    // Some batches are shorter than a message.
    let profile = (0u64..2000, prop_oneof![3 => 1u64..8000, 1 => 1u64..100], 1u32..20);
    // Bursts with gaps between them.
    let gap = prop_oneof![3 => 0u64..100, 2 => 0u64..3000, 1 => 0u64..30_000];
    let seldom = || prop_oneof![Just(usize::MAX), 5usize..60];
    (
        modes(),
        1..ACCELERATORS,
        prop::collection::vec(profile, MODELS as usize),
        prop::collection::vec(50u64..150, 1..8),
        (seldom(), seldom()),
        any::<bool>(),
        prop::collection::vec((gap, happenings()), 1..150),
    )
        .prop_map(|(mode, accelerators, profiles, speeds, odd, follows, happenings)| History {
            mode,
            accelerators,
            profiles,
            speeds,
            late_every: odd.0,
            endless_every: odd.1,
            follows,
            happenings,
        })
}

/// Up to 200 microseconds, or a tail beyond the planned delay.
pub(crate) fn messages() -> impl Strategy<Value = Delay> {
    let us = |range: std::ops::Range<u64>| range.prop_map(Span::from_micros);
    prop_oneof![
        us(0..200).prop_map(Delay::Constant),
        (us(0..50), us(0..200), 0.0..1.0).prop_map(|(usual, tail, share)| Delay::Tailed {
            usual,
            tail,
            share
        }),
        (us(1..60), 0.1..1.0).prop_map(|(median, sigma)| Delay::LogNormal { median, sigma }),
    ]
}
