//! What is measured: pools of modern accelerators, and the matcher alone.

use crate::grants::Grants;
use crate::pool::{Pool, PoolTerms};
use crate::workload::Workload;
use symphony_core::sched::Mode;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Requests, or batches where there are no requests, until everything has its size; as many
    /// are measured.
    pub(crate) warm: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The whole scheduler.
    Pool(PoolTerms),
    /// The matcher alone; some of its accelerators become slower, or none.
    Grants { some_slow_down: bool },
}

/// One model, 10 million requests a second.
const ONE: PoolTerms =
    PoolTerms { mode: Mode::Consolidate, models: 1, accelerators: 1024, gap: 100 };
/// A thousand models, some of them popular, 5 million requests a second.
const THOUSAND: PoolTerms =
    PoolTerms { mode: Mode::Consolidate, models: 1000, accelerators: 4096, gap: 200 };

pub(crate) const CASES: &[Case] = &[
    pool("consolidate-1", ONE),
    pool("adaptive-1", PoolTerms { mode: Mode::Adaptive, ..ONE }),
    pool("consolidate-1000", THOUSAND),
    pool("adaptive-1000", PoolTerms { mode: Mode::Adaptive, ..THOUSAND }),
    grants("grants-4096", false),
    grants("grants-slowing", true),
];

/// Of 60 ms: three objectives, and one plan of the adaptive mode.
const fn pool(name: &'static str, terms: PoolTerms) -> Case {
    Case { name, warm: 60_000_000 / terms.gap, kind: Kind::Pool(terms) }
}

/// Of about 50 ms.
const fn grants(name: &'static str, some_slow_down: bool) -> Case {
    Case { name, warm: 20_000, kind: Kind::Grants { some_slow_down } }
}

impl Case {
    pub(crate) fn workload(&self) -> Box<dyn Workload> {
        match self.kind {
            Kind::Pool(terms) => Box::new(Pool::new(terms)),
            Kind::Grants { some_slow_down } => Box::new(Grants::new(4096, some_slow_down)),
        }
    }
}
