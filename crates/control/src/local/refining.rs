//! Refines the profiles of models that serve: from the batches that they run, and from probes while
//! there is nothing else to run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use symphony_backend::loader::{Learning, Loader};
use symphony_backend::profiling::{Cell, Measured, Refinement};
use symphony_backend::worker::{Probe, WorkerPort};
use symphony_core::{ModelId, Span};
use symphony_wire::clock;
use symphony_wire::tensor::Signature;

/// Between two looks at what was observed.
const REFINE_EVERY: Duration = Duration::from_secs(5);
/// Between two probes at least.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Probes take no more than one part in so many of an accelerator's time.
const PROBE_PART: u32 = 10;
/// A probe takes no more than this part of the shortest objective: a request may come meanwhile.
const OBJECTIVE_PART: u64 = 4;
/// An arbitrary seed.
const SEED: u64 = 0x9a06;

/// The models whose profiles can get better.
#[derive(Debug)]
pub(super) struct Refining {
    models: BTreeMap<ModelId, Refined>,
    /// The model that was probed last.
    last: Option<ModelId>,
    next_look: Instant,
    next_probe: Instant,
}

#[derive(Debug)]
struct Refined {
    name: String,
    signature: Signature,
    slo: Span,
    known: Refinement,
    learning: Learning,
}

impl Default for Refining {
    fn default() -> Refining {
        let now = Instant::now();
        Refining { models: BTreeMap::new(), last: None, next_look: now, next_probe: now }
    }
}

impl Refining {
    /// A model serves from now on.
    pub(super) fn add(
        &mut self,
        id: ModelId,
        model: (String, Signature, Span),
        measured: Measured,
        learning: Learning,
    ) {
        let (name, signature, slo) = model;
        let known = Refinement::new(measured);
        self.models.insert(id, Refined { name, signature, slo, known, learning });
    }

    /// A model has another name from now on.
    pub(super) fn rename(&mut self, from: ModelId, to: ModelId) {
        if let Some(model) = self.models.remove(&from) {
            self.models.insert(to, model);
        }
    }

    pub(super) fn remove(&mut self, id: ModelId) {
        self.models.remove(&id);
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Instant {
        match self.to_probe() {
            Some(_) => self.next_probe.min(self.next_look),
            None => self.next_look,
        }
    }

    /// The profiles that have changed since the last look.
    pub(super) fn changed(&mut self, now: Instant, loader: &Loader) -> Vec<(ModelId, Measured)> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + REFINE_EVERY;
        let mut changed = Vec::new();
        for (id, model) in &mut self.models {
            let Some(refined) = model.known.look(now, &model.learning.observed) else { continue };
            tracing::info!(model = %model.name, %id, "its profile follows what its batches take");
            loader.keep(&model.learning.place, refined);
            changed.push((*id, refined.clone()));
        }
        changed
    }

    /// Has an accelerator run a batch of which little is known, unless it has something to run.
    pub(super) fn probe(&mut self, now: Instant, worker: &WorkerPort) {
        if now < self.next_probe {
            return;
        }
        let Some((id, cell, takes)) = self.to_probe() else { return };
        self.last = Some(id);
        self.next_probe = now + PROBE_EVERY.max(clock::duration(takes) * PROBE_PART);
        let Refined { learning, signature, .. } = &self.models[&id];
        if let Some(requests) = learning.samples.batch(signature, cell, SEED) {
            worker.probe(Probe { model: id, requests });
        }
    }

    /// What to probe next, and how long that takes: of the model after the last in turn.
    fn to_probe(&self) -> Option<(ModelId, Cell, Span)> {
        let shortest = self.models.values().map(|model| model.slo).min()?;
        let longest = Span(shortest.0 / OBJECTIVE_PART);
        let after = self.models.iter().filter(|(id, _)| Some(**id) > self.last);
        let mut in_turn = after.chain(&self.models);
        in_turn.find_map(|(id, model)| {
            let mut unknown = model.known.measured().unknown(&model.learning.observed);
            let (cell, takes) = unknown.find(|(_, takes)| *takes <= longest)?;
            Some((*id, cell, takes))
        })
    }
}
