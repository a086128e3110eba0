//! The lanes of a served model, as its frontends and the owner of its model share them: frontends route
//! requests and count their sizes, the owner moves borders.
//!
//! In: a request's sizes and form, as its [`Signature`] tells them. Out: the lane that it is queued in.
//! The rules are those of [`symphony_core::lanes`]. Routing between borders reads numbers that change
//! now and then and takes no lock; routing by form takes one of the model's own.
//!
//! Between processes the lanes go one way as a value, their [image](LanesImage), and the counts the other:
//! a frontend takes what it counted, and the owner adds it to its own.

mod image;

pub use image::{LanesImage, NoLanes, RoutingImage};

use crate::tensor::{Inputs, Signature};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use symphony_core::lanes::{BORDER_LANES, BorderLanes, FormLanes, LaneChange, SizeBuckets};
use symphony_core::{ModelId, Profile, SizedProfile, Time};

/// The lanes of one served model.
#[derive(Debug)]
pub struct ModelLanes {
    /// The scheduler's name for each; the first is the model's.
    ids: Box<[ModelId]>,
    routing: Routing,
}

#[derive(Debug)]
enum Routing {
    /// There is one lane.
    Alone(Mutex<SizedProfile>),
    Borders(Box<BorderTable>),
    Forms(Mutex<SharedForms>),
}

/// Lanes between borders.
#[derive(Debug)]
struct BorderTable {
    /// The largest size of each lane; the greatest number for one that is not in use.
    borders: [AtomicU64; BORDER_LANES],
    buckets: SizeBuckets,
    /// Rows that came since the model is served, by bucket.
    came: Box<[AtomicU64]>,
    planned: Mutex<Planned>,
}

#[derive(Debug)]
struct Planned {
    lanes: BorderLanes,
    /// Rows that had come when the borders were planned last.
    counted: Vec<u64>,
}

/// Lanes that are given to forms.
#[derive(Debug)]
struct SharedForms {
    lanes: FormLanes,
    costs: SizedProfile,
}

/// What a lane was given to.
#[derive(Clone, Debug)]
pub struct GivenLane {
    /// The size of its requests.
    pub size: u64,
    /// What its batches take.
    pub profile: Arc<Profile>,
}

/// The lane of one request. A form keeps its lane while any of its requests has one of these.
#[derive(Debug)]
pub struct RequestLane {
    /// The scheduler's name for it.
    pub id: ModelId,
    /// What the lane is for from now on, if that has changed: the scheduler is to be told before the
    /// request is submitted.
    pub given: Option<GivenLane>,
    held: Option<(Arc<ModelLanes>, usize)>,
}

impl Drop for RequestLane {
    fn drop(&mut self) {
        if let Some((lanes, number)) = self.held.take()
            && let Routing::Forms(forms) = &lanes.routing
        {
            lock(forms).lanes.done(number);
        }
    }
}

impl ModelLanes {
    /// The one lane of a model whose batches cost this, whatever their requests.
    #[must_use]
    pub fn alone(id: ModelId, costs: SizedProfile) -> ModelLanes {
        ModelLanes { ids: [id].into(), routing: Routing::Alone(Mutex::new(costs)) }
    }

    /// Lanes between borders, each with its name.
    ///
    /// # Panics
    /// When there are not as many names as lanes, or more than [`BORDER_LANES`].
    #[must_use]
    pub fn between_borders(ids: Vec<ModelId>, lanes: BorderLanes) -> ModelLanes {
        assert!(ids.len() == lanes.len() && ids.len() <= BORDER_LANES, "a name for each lane");
        let buckets = lanes.buckets().clone();
        let table = BorderTable {
            borders: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            came: buckets.upper().iter().map(|_| AtomicU64::new(0)).collect(),
            planned: Mutex::new(Planned { counted: vec![0; buckets.len()], lanes }),
            buckets,
        };
        table.publish(&lock(&table.planned).lanes);
        ModelLanes { ids: ids.into(), routing: Routing::Borders(Box::new(table)) }
    }

    /// Lanes that are given to forms, each with its name, of a model whose batches cost this.
    ///
    /// # Panics
    /// When there are not as many names as lanes.
    #[must_use]
    pub fn of_forms(ids: Vec<ModelId>, lanes: FormLanes, costs: SizedProfile) -> ModelLanes {
        assert_eq!(ids.len(), lanes.len(), "a name for each lane");
        let forms = SharedForms { lanes, costs };
        ModelLanes { ids: ids.into(), routing: Routing::Forms(Mutex::new(forms)) }
    }

    /// The scheduler's name for each lane; the first is the model's.
    #[must_use]
    pub fn ids(&self) -> &[ModelId] {
        &self.ids
    }

    /// What the batches of each lane are planned to take now.
    #[must_use]
    pub fn profiles(&self) -> Vec<(ModelId, Arc<Profile>)> {
        let profile = |number: usize| match &self.routing {
            Routing::Alone(costs) => {
                let costs = lock(costs);
                costs.at(costs.size_max())
            }
            Routing::Borders(table) => lock(&table.planned).lanes.profile_of(number),
            Routing::Forms(forms) => lock(forms).profile_of(number),
        };
        let named = |(number, id): (usize, &ModelId)| (*id, Arc::new(profile(number)));
        self.ids.iter().enumerate().map(named).collect()
    }

    /// The lane of a request, which counts as being there.
    #[inline]
    pub fn route(self: &Arc<Self>, signature: &Signature, inputs: &Inputs) -> RequestLane {
        match &self.routing {
            Routing::Alone(_) => RequestLane { id: self.ids[0], given: None, held: None },
            Routing::Borders(table) => {
                let number = table.route(signature.size(&inputs.sizes), inputs.rows);
                RequestLane { id: self.ids[number], given: None, held: None }
            }
            Routing::Forms(forms) => self.route_by_form(forms, signature, inputs),
        }
    }

    fn route_by_form(
        self: &Arc<Self>,
        forms: &Mutex<SharedForms>,
        signature: &Signature,
        inputs: &Inputs,
    ) -> RequestLane {
        let (form, size) = (signature.form(inputs), signature.size(&inputs.sizes));
        let mut forms = lock(forms);
        let routed = forms.lanes.route(form, size);
        let given = |size| GivenLane { size, profile: Arc::new(forms.costs.at(size)) };
        let held = Some((Arc::clone(self), routed.lane));
        RequestLane { id: self.ids[routed.lane], given: routed.size.map(given), held }
    }

    /// Plans the borders anew, about once a second. `replace` has the scheduler plan a lane by another
    /// profile, and returns once it does; requests are routed by the new borders afterwards.
    pub fn replan(
        &self,
        now: Time,
        accelerators: u32,
        mut replace: impl FnMut(ModelId, Arc<Profile>),
    ) {
        let Routing::Borders(table) = &self.routing else { return };
        let mut planned = lock(&table.planned);
        let Planned { lanes, counted } = &mut *planned;
        let mut rows = Vec::with_capacity(counted.len());
        for (before, came) in counted.iter_mut().zip(&table.came) {
            let now = came.load(Ordering::Relaxed);
            rows.push(now.wrapping_sub(std::mem::replace(before, now)));
        }
        lanes.set_accelerators(accelerators);
        for LaneChange { lane, .. } in lanes.replan(now, &rows) {
            replace(self.ids[lane], Arc::new(lanes.profile_of(lane)));
        }
        table.publish(lanes);
    }

    /// What batches cost was measured again: has the scheduler plan each lane by it.
    pub fn set_costs(&self, costs: SizedProfile, mut replace: impl FnMut(ModelId, Arc<Profile>)) {
        match &self.routing {
            Routing::Alone(known) => *lock(known) = costs,
            Routing::Borders(table) => drop(lock(&table.planned).lanes.set_profile(costs)),
            Routing::Forms(forms) => lock(forms).costs = costs,
        }
        for (id, profile) in self.profiles() {
            replace(id, profile);
        }
    }

    /// Takes the rows that came since this was called last, by bucket of sizes, for the owner of the
    /// model in another process. Empty where sizes need not be counted.
    #[must_use]
    pub fn take_counts(&self) -> Vec<u64> {
        match &self.routing {
            Routing::Borders(table) => {
                table.came.iter().map(|came| came.swap(0, Ordering::Relaxed)).collect()
            }
            Routing::Alone(_) | Routing::Forms(_) => Vec::new(),
        }
    }

    /// Adds rows that a frontend in another process counted. Counts by other buckets are of other lanes
    /// and tell nothing of these.
    pub fn add_counts(&self, counts: &[u64]) {
        if let Routing::Borders(table) = &self.routing
            && table.came.len() == counts.len()
        {
            for (came, more) in table.came.iter().zip(counts) {
                came.fetch_add(*more, Ordering::Relaxed);
            }
        }
    }

    /// What the batches of a lane take that is given to requests of this size; `None` where no lane of
    /// the model has this name.
    #[must_use]
    pub fn profile_at(&self, lane: ModelId, size: u64) -> Option<Profile> {
        if !self.ids.contains(&lane) {
            return None;
        }
        Some(match &self.routing {
            Routing::Alone(costs) => lock(costs).at(size),
            Routing::Borders(table) => lock(&table.planned).lanes.costs().at(size),
            Routing::Forms(forms) => lock(forms).costs.at(size),
        })
    }

    /// The borders in force, where there are any.
    #[must_use]
    pub fn borders(&self) -> Vec<u64> {
        match &self.routing {
            Routing::Borders(table) => lock(&table.planned).lanes.borders().to_vec(),
            Routing::Alone(_) | Routing::Forms(_) => Vec::new(),
        }
    }
}

impl BorderTable {
    /// The lane of a request of this size.
    #[inline]
    fn route(&self, size: u64, rows: u32) -> usize {
        self.came[self.buckets.of_size(size)].fetch_add(rows.into(), Ordering::Relaxed);
        let mut last = 0;
        for (number, border) in self.borders.iter().enumerate() {
            let border = border.load(Ordering::Relaxed);
            if border == u64::MAX {
                break;
            }
            last = number;
            if size <= border {
                break;
            }
        }
        last
    }

    fn publish(&self, lanes: &BorderLanes) {
        let in_use = lanes.borders().iter().copied();
        for (place, border) in self.borders.iter().zip(in_use.chain(std::iter::repeat(u64::MAX))) {
            place.store(border, Ordering::Relaxed);
        }
    }
}

impl SharedForms {
    fn profile_of(&self, number: usize) -> Profile {
        let overflow = self.lanes.overflow_borders();
        let own = self.lanes.len() - overflow.len();
        if let Some(border) = number.checked_sub(own).and_then(|number| overflow.get(number)) {
            return self.costs.one_by_one(*border);
        }
        let given = self.lanes.given().find(|(lane, _)| *lane == number);
        self.costs.at(given.map_or(self.costs.size_max(), |(_, size)| size))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Dim, OpenDimension, TensorSpec};
    use symphony_core::Span;

    const SECOND: Span = Span::from_secs(1);

    fn costs() -> SizedProfile {
        let line = |size| {
            let alpha = Span::from_micros(2 * size);
            (size, Profile::linear(alpha, Span::from_millis(5), 64).unwrap())
        };
        SizedProfile::new(vec![line(1), line(512)]).unwrap()
    }

    fn ids(count: usize) -> Vec<ModelId> {
        (0..).map(ModelId::first).take(count).collect()
    }

    fn signature(padded: bool) -> Signature {
        let ids = TensorSpec::new("ids", DataType::Int64, vec![Dim::Batch, Dim::Open(0)]);
        let dimensions = vec![OpenDimension { name: "sequence".to_owned(), max: 512 }];
        Signature { dimensions, padded: padded.then_some(0), ..Signature::fixed(vec![ids], vec![]) }
    }

    fn request(size: usize) -> Inputs {
        Inputs { rows: 1, sizes: vec![size], tensors: vec![vec![0; 8 * size].into()] }
    }

    #[test]
    fn borders_move_to_where_requests_are_once_the_scheduler_plans_by_them() {
        let lanes = BorderLanes::new(costs(), Span::from_millis(25), 8, BORDER_LANES);
        let lanes = Arc::new(ModelLanes::between_borders(ids(BORDER_LANES), lanes));
        let signature = signature(true);
        let lane = |size: usize| lanes.route(&signature, &request(size)).id.index();
        let before = lanes.borders();
        assert!(lane(1) < lane(512) && before.last() == Some(&512), "{before:?}");
        for number in 0..30_000 {
            lane(20 + number % 10);
        }
        let mut told = Vec::new();
        let replace = |id: ModelId, profile: Arc<Profile>| told.push((id, profile.exec(1)));
        lanes.replan(Time::ZERO + SECOND, 8, replace);
        let after = lanes.borders();
        assert_ne!(before, after);
        assert_eq!(after.last(), Some(&512));
        assert!(lane(20) < lane(512));
        let expected = lanes.profiles();
        for (id, exec) in told {
            assert_eq!(expected[id.index()].1.exec(1), exec);
        }
    }

    #[test]
    fn a_form_has_its_lane_to_itself_until_its_last_request_has_its_outcome() {
        let forms = FormLanes::new(vec![512]);
        let names = ids(forms.len());
        let lanes = Arc::new(ModelLanes::of_forms(names, forms, costs()));
        let signature = signature(false);
        let first = lanes.route(&signature, &request(7));
        let profile = first.given.as_ref().expect("a profile of its own").profile.clone();
        assert_eq!(profile.exec(1), costs().at(7).exec(1));
        let second = lanes.route(&signature, &request(7));
        assert_eq!((second.id, second.given.is_none()), (first.id, true));
        let others: Vec<_> = (8..100).map(|size| lanes.route(&signature, &request(size))).collect();
        assert!(others.iter().all(|other| other.id != first.id));
        let overflow = others.last().unwrap().id;
        assert_eq!(lanes.profiles()[overflow.index()].1.exec(3), costs().at(512).exec(1).times(3));
        drop((first, second));
        assert_eq!(lanes.route(&signature, &request(500)).id, ids(1)[0]);
    }

    #[test]
    fn new_costs_reach_every_lane() {
        let lanes = ModelLanes::alone(ids(1)[0], costs());
        let slower = SizedProfile::fixed(512, Profile::linear(SECOND, SECOND, 4).unwrap());
        let mut told = Vec::new();
        lanes.set_costs(slower, |id, profile| told.push((id, profile.exec(1))));
        assert_eq!(told, [(ids(1)[0], Span::from_secs(2))]);
    }

    /// A size for each lane of a frontend, or the border between.
    fn routes(lanes: &Arc<ModelLanes>) -> Vec<ModelId> {
        let signature = signature(true);
        (1..=512).map(|size| lanes.route(&signature, &request(size)).id).collect()
    }

    #[test]
    fn a_frontend_elsewhere_routes_as_the_owner_does_and_follows_its_borders() {
        let lanes = BorderLanes::new(costs(), Span::from_millis(25), 8, BORDER_LANES);
        let owner = Arc::new(ModelLanes::between_borders(ids(BORDER_LANES), lanes));
        let frontend = Arc::new(ModelLanes::of_image(&owner.image()).unwrap());
        assert_eq!(routes(&frontend), routes(&owner));

        // What the frontend counts moves the owner's borders, and those the frontend's.
        owner.replan(Time::ZERO, 8, |_, _| {});
        assert!(frontend.take_counts().iter().sum::<u64>() == 512);
        for number in 0..30_000 {
            frontend.route(&signature(true), &request(20 + number % 10));
        }
        let before = owner.borders();
        owner.add_counts(&frontend.take_counts());
        assert_eq!(frontend.take_counts().iter().sum::<u64>(), 0, "they are told once");
        owner.replan(Time::ZERO + SECOND, 8, |_, _| {});
        assert_ne!(owner.borders(), before);
        assert_ne!(routes(&frontend), routes(&owner));
        assert!(frontend.update(&owner.image()));
        assert_eq!(frontend.image(), owner.image());
        assert_eq!(routes(&frontend), routes(&owner));
    }

    #[test]
    fn equal_forms_of_two_frontends_meet_in_one_lane() {
        let forms = FormLanes::new(vec![512]);
        let owner = ModelLanes::of_forms(ids(forms.len()), forms, costs());
        let frontends = [(); 2].map(|()| Arc::new(ModelLanes::of_image(&owner.image()).unwrap()));
        let signature = signature(false);
        // Each sees the same five forms, in another order.
        let forms = [[3, 50, 99, 200, 301], [301, 99, 3, 200, 50]];
        let mut lanes = [vec![], vec![]];
        for ((lanes, frontend), forms) in lanes.iter_mut().zip(&frontends).zip(forms) {
            for size in forms {
                let lane = frontend.route(&signature, &request(size));
                let given = lane.given.as_ref().unwrap();
                assert_eq!(given.size, u64::try_from(size).unwrap());
                let profile = owner.profile_at(lane.id, given.size).unwrap();
                assert_eq!(profile.exec(1), given.profile.exec(1));
                lanes.push((size, lane));
            }
            lanes.sort_by_key(|(size, _)| *size);
        }
        let same = lanes[0].iter().zip(&lanes[1]).filter(|(one, other)| one.1.id == other.1.id);
        assert!(same.count() >= 4, "one pair of forms may want the same lane");
        assert_eq!(owner.profile_at(ModelId::first(999), 3), None);
    }

    #[test]
    fn images_that_are_none_of_lanes_are_refused() {
        let image = |count: usize, routing| LanesImage { ids: ids(count), costs: costs(), routing };
        let borders = |borders: &[u64]| RoutingImage::Borders {
            borders: borders.to_vec(),
            slo: Span::from_millis(25),
        };
        let forms = |overflow: &[u64]| RoutingImage::Forms { overflow: overflow.to_vec() };
        let lanes = FormLanes::new(vec![512]).len();
        for (image, expected) in [
            (image(0, RoutingImage::Alone), NoLanes::Names),
            (image(2, RoutingImage::Alone), NoLanes::Names),
            (image(0, borders(&[512])), NoLanes::Names),
            (image(99, borders(&[512])), NoLanes::Names),
            (image(1, borders(&[100, 512])), NoLanes::Names),
            (image(3, borders(&[100, 100, 512])), NoLanes::Borders),
            (image(3, borders(&[])), NoLanes::Borders),
            (image(3, forms(&[512])), NoLanes::Names),
            (image(lanes, forms(&[5, 4])), NoLanes::Borders),
            (image(lanes, forms(&[])), NoLanes::Borders),
            (image(lanes + 4, forms(&[1, 2, 3, 4, 5])), NoLanes::Names),
        ] {
            assert_eq!(ModelLanes::of_image(&image).err(), Some(expected), "{image:?}");
        }
        let alone = ModelLanes::alone(ids(1)[0], costs());
        assert!(!alone.update(&image(1, borders(&[512]))), "a model does not change its kind");
        assert!(alone.update(&image(1, RoutingImage::Alone)));
    }
}
