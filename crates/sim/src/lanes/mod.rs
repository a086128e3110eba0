//! The lanes of a model whose requests differ in size, in a simulation: which lane each request goes
//! to by a rule, and how long its batches really run.
//!
//! Our own rule is the server's, from [`symphony_core::lanes`]. The others are what it is compared
//! with.

mod buckets;
mod rule;

pub(crate) use rule::parse;
pub use rule::{FixedBorders, LaneRule};

use crate::scenario::{Scenario, SimModel};
use crate::sizes::Sizes;
use buckets::Buckets;
use std::sync::Arc;
use symphony_core::lanes::{BORDER_LANES, BorderLanes, FormLanes, OVERFLOW_LANES, lane_of};
use symphony_core::sched::{Event, ModelTerms};
use symphony_core::{ModelId, Profile, Request, RequestId, Span, Time};

/// Borders are planned this often.
pub(crate) const REPLAN_EVERY: Span = Span::from_secs(1);

/// The lanes of every model whose requests differ in size. A model without sizes has the identity of
/// its number, and so has the first lane of one with sizes.
pub(crate) struct Lanes {
    /// By number of the model.
    models: Vec<Option<SimLanes>>,
    /// By index of the identity: the number of the model.
    owners: Vec<usize>,
}

/// The lanes of one model.
struct SimLanes {
    sizes: Sizes,
    seed: u64,
    terms: ModelTerms,
    /// The identity of each lane.
    ids: Vec<ModelId>,
    router: Router,
    /// Rows that came since the borders were planned, by bucket of sizes.
    came: Vec<u64>,
}

enum Router {
    /// Everything is padded to the largest size.
    Padded,
    Borders(BorderLanes),
    Fixed(Vec<u64>),
    Buckets(Buckets),
    /// Only requests of equal size go together.
    Equal(FormLanes),
}

impl Lanes {
    pub(crate) fn new(scenario: &Scenario, rule: LaneRule, seed: u64) -> Lanes {
        let count = scenario.models.len();
        // Lanes of one model belong to one shard, and shards are dealt models by index in turn.
        let shards = scenario.split.map_or(1, |split| split.shards as usize);
        let mut owners: Vec<usize> = (0..count).collect();
        let models = scenario.models.iter().enumerate().map(|(number, model)| {
            let id = |lane: usize| match lane {
                0 => model_id(number),
                _ => {
                    while owners.len() % shards != number % shards {
                        owners.push(NOBODY);
                    }
                    owners.push(number);
                    model_id(owners.len() - 1)
                }
            };
            SimLanes::new(scenario, model, rule, seed, id)
        });
        let models = models.collect();
        Lanes { models, owners }
    }

    /// Whether no model has sizes.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.iter().all(Option::is_none)
    }

    /// Adds the lanes of a model, as the scheduler is told.
    pub(crate) fn add(&self, number: usize, model: &SimModel, mut tell: impl FnMut(Event)) {
        match &self.models[number] {
            Some(lanes) => lanes.add(tell),
            None => {
                let model_id = model_id(number);
                tell(Event::AddModel { model: model_id, terms: Box::new(model.terms.clone()) });
            }
        }
    }

    /// The model of a lane.
    pub(crate) fn model(&self, lane: ModelId) -> ModelId {
        model_id(self.owners[lane.index()])
    }

    /// The lane of a request, after what the scheduler is to be told before it.
    pub(crate) fn route(
        &mut self,
        request: &Request,
        model: ModelId,
        tell: impl FnMut(Event),
    ) -> ModelId {
        let lanes = self.models[model.index()].as_mut();
        lanes.map_or(model, |lanes| lanes.route(request.id, request.rows, tell))
    }

    /// Plans the borders anew.
    pub(crate) fn replan(&mut self, now: Time, mut tell: impl FnMut(Event)) {
        self.models.iter_mut().flatten().for_each(|lanes| lanes.replan(now, &mut tell));
    }

    /// How long a batch of these requests really runs, where the sizes of requests tell.
    pub(crate) fn exec(&self, lane: ModelId, rows: u32, requests: &[Request]) -> Option<Span> {
        let lanes = self.models[self.owners[lane.index()]].as_ref()?;
        Some(lanes.exec(rows, requests))
    }

    /// A request waits no longer: it runs, or was dropped.
    pub(crate) fn left(&mut self, lane: ModelId, request: &Request) {
        if let Some(lanes) = &mut self.models[self.owners[lane.index()]] {
            lanes.left(lane, request.id);
        }
    }

    /// A request has its outcome.
    pub(crate) fn done(&mut self, lane: ModelId) {
        if let Some(lanes) = &mut self.models[self.owners[lane.index()]] {
            lanes.done(lane);
        }
    }
}

/// Identities that no model has.
const NOBODY: usize = usize::MAX;

#[expect(clippy::cast_possible_truncation, reason = "a scenario has fewer models")]
fn model_id(number: usize) -> ModelId {
    ModelId::first(number as u32)
}

impl SimLanes {
    /// The lanes of this model by a rule, with identities from `id`.
    fn new(
        scenario: &Scenario,
        model: &SimModel,
        rule: LaneRule,
        seed: u64,
        mut id: impl FnMut(usize) -> ModelId,
    ) -> Option<SimLanes> {
        let sizes = model.sizes.clone()?;
        let (slo, accelerators) = (model.terms.objective.span(), scenario.accelerators);
        let costs = &*sizes.costs;
        let own = |lanes| BorderLanes::new(costs.clone(), slo, accelerators, lanes);
        let batch = model.terms.profile.rows_within(slo).max(1);
        let router = match rule {
            LaneRule::Own => Router::Borders(own(BORDER_LANES)),
            LaneRule::Padded => Router::Padded,
            LaneRule::Fixed(borders) => Router::Fixed(borders.up_to(costs.size_max())),
            LaneRule::Buckets => {
                Router::Buckets(Buckets::new(costs.size_max(), BORDER_LANES, batch))
            }
            LaneRule::Equal => {
                Router::Equal(FormLanes::new(own(OVERFLOW_LANES).borders().to_vec()))
            }
        };
        let came = match &router {
            Router::Borders(lanes) => vec![0; lanes.buckets().len()],
            _ => Vec::new(),
        };
        let ids = (0..router.lanes()).map(&mut id).collect();
        Some(SimLanes { seed, terms: model.terms.clone(), ids, router, came, sizes })
    }

    /// Adds each lane, as the scheduler is told.
    fn add(&self, mut tell: impl FnMut(Event)) {
        let first = self.ids.first().copied();
        let lane_of = first.filter(|_| self.ids.len() > 1);
        for (lane, model) in self.ids.iter().copied().enumerate() {
            let profile = Arc::new(self.router.profile(&self.sizes, lane));
            let terms = ModelTerms { profile, lane_of, ..self.terms.clone() };
            tell(Event::AddModel { model, terms: Box::new(terms) });
        }
    }

    /// The lane of a request, after what the scheduler is to be told before it.
    fn route(&mut self, id: RequestId, rows: u32, mut tell: impl FnMut(Event)) -> ModelId {
        let SimLanes { sizes, seed, ids, router, came, .. } = self;
        let size = sizes.of(*seed, id);
        let costs = &sizes.costs;
        let lane = match router {
            Router::Padded => 0,
            Router::Borders(lanes) => {
                came[lanes.buckets().of_size(size)] += u64::from(rows);
                lane_of(lanes.borders(), size)
            }
            Router::Fixed(borders) => lane_of(borders, size),
            Router::Buckets(buckets) => {
                let (lane, split) = buckets.arrive(size);
                if let Some((lane, border)) = split {
                    tell(set_profile(ids[lane], costs.at(border)));
                }
                lane
            }
            Router::Equal(forms) => {
                let routed = forms.route(size, size);
                if let Some(size) = routed.size {
                    tell(set_profile(ids[routed.lane], costs.at(size)));
                }
                routed.lane
            }
        };
        ids[lane]
    }

    /// Plans the borders anew.
    fn replan(&mut self, now: Time, mut tell: impl FnMut(Event)) {
        let Router::Borders(lanes) = &mut self.router else { return };
        for change in lanes.replan(now, &self.came) {
            tell(set_profile(self.ids[change.lane], self.sizes.costs.at(change.size)));
        }
        self.came.fill(0);
    }

    /// How long a batch of these requests really runs.
    fn exec(&self, rows: u32, requests: &[Request]) -> Span {
        let SimLanes { sizes, router, seed, .. } = self;
        let size = |request: &Request| sizes.of(*seed, request.id);
        match router {
            Router::Padded => sizes.costs.exec(sizes.bound(), rows),
            Router::Borders(_) | Router::Fixed(_) | Router::Buckets(_) => {
                let longest = requests.iter().map(size).max();
                sizes.costs.exec(longest.unwrap_or(1), rows)
            }
            Router::Equal(_) => {
                let mut sorted: Vec<(u64, u32)> =
                    requests.iter().map(|request| (size(request), request.rows)).collect();
                sorted.sort_unstable();
                let groups = sorted.chunk_by(|a, b| a.0 == b.0);
                groups.fold(Span::ZERO, |sum, group| {
                    sum + sizes.costs.exec(group[0].0, group.iter().map(|(_, rows)| rows).sum())
                })
            }
        }
    }

    /// A request waits no longer: it runs, or was dropped.
    fn left(&mut self, lane: ModelId, id: RequestId) {
        let size = self.sizes.of(self.seed, id);
        let lane = self.number(lane);
        if let (Router::Buckets(buckets), Some(lane)) = (&mut self.router, lane) {
            buckets.leave(lane, size);
        }
    }

    /// A request has its outcome.
    fn done(&mut self, lane: ModelId) {
        let lane = self.number(lane);
        if let (Router::Equal(forms), Some(lane)) = (&mut self.router, lane) {
            forms.done(lane);
        }
    }

    fn number(&self, lane: ModelId) -> Option<usize> {
        self.ids.iter().position(|id| *id == lane)
    }
}

fn set_profile(model: ModelId, profile: Profile) -> Event {
    Event::SetProfile { model, profile: Arc::new(profile) }
}

impl Router {
    /// How many lanes there are.
    fn lanes(&self) -> usize {
        match self {
            Router::Padded => 1,
            Router::Borders(lanes) => lanes.len(),
            Router::Fixed(borders) => borders.len(),
            Router::Buckets(_) => BORDER_LANES,
            Router::Equal(forms) => forms.len(),
        }
    }

    /// The profile that a lane begins with.
    fn profile(&self, sizes: &Sizes, lane: usize) -> Profile {
        let costs = &sizes.costs;
        match self {
            Router::Padded | Router::Buckets(_) => costs.at(sizes.bound()),
            Router::Borders(lanes) => lanes.profile_of(lane),
            Router::Fixed(borders) => costs.at(borders.get(lane).copied().unwrap_or(u64::MAX)),
            Router::Equal(forms) => {
                let overflow = lane.checked_sub(forms.len() - forms.overflow_borders().len());
                let border = overflow.and_then(|lane| forms.overflow_borders().get(lane));
                border.map_or_else(|| costs.at(sizes.bound()), |border| costs.one_by_one(*border))
            }
        }
    }
}
