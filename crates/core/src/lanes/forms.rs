//! Lanes for requests of several forms: each of the forms that come most has a lane, the others share.
//!
//! Only requests of one form go into one execution. A form gets a lane to itself when one is free, and
//! keeps it while it has requests; otherwise its requests go to a lane for the overflow, where a batch
//! is planned to take as long as its requests one by one.

use super::{FORM_LANES, OVERFLOW_LANES, borders::lane_of};

/// Which lane each form has.
#[derive(Clone, Debug)]
pub struct FormLanes {
    own: Vec<FormLane>,
    /// The borders of the lanes for the overflow.
    borders: Vec<u64>,
    /// Requests so far.
    routed: u64,
    /// Whether a form is given the lane that its number says, if that has no requests.
    is_by_hash: bool,
}

/// A lane that is given to one form at a time.
#[derive(Clone, Copy, Debug, Default)]
struct FormLane {
    /// The form that has it, and the size that its profile is for.
    given: Option<(u64, u64)>,
    /// Its requests that have no outcome yet.
    requests: u32,
    /// The number of the newest request in it.
    used: u64,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The number of the lane.
    pub lane: usize,
    /// The lane is for requests of this size from now on: its profile is to be replaced.
    pub size: Option<u64>,
}

impl FormLanes {
    /// Lanes of which none is given; those for the overflow end at these borders, at most
    /// [`OVERFLOW_LANES`].
    #[must_use]
    pub fn new(mut borders: Vec<u64>) -> FormLanes {
        // The last takes what is larger.
        borders.truncate(OVERFLOW_LANES);
        FormLanes {
            own: vec![FormLane::default(); FORM_LANES],
            borders,
            routed: 0,
            is_by_hash: false,
        }
    }

    /// The same for one of several frontends, each of which gives lanes to forms without knowing what
    /// the others do: a form is given the lane that its number says, where that has no requests, so that
    /// its requests tend to meet those of other frontends. Where they do not, the batches of a lane
    /// hold several forms, and take longer than planned.
    #[must_use]
    pub fn by_hash(self) -> FormLanes {
        FormLanes { is_by_hash: true, ..self }
    }

    /// How many lanes there are: first those that are given to forms, then those for the overflow.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.borders.len()
    }

    /// There is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The borders of the lanes for the overflow.
    #[must_use]
    pub fn overflow_borders(&self) -> &[u64] {
        &self.borders
    }

    /// The lane of a request of this form and size. [`done`](FormLanes::done) is to be called once it
    /// has its outcome. A form whose requests differ in size has a lane for its largest.
    pub fn route(&mut self, form: u64, size: u64) -> Routed {
        self.routed += 1;
        let is_its = |lane: &FormLane| lane.given.is_some_and(|(given, _)| given == form);
        let Some(number) = self.own.iter().position(is_its).or_else(|| self.free(form)) else {
            return Routed { lane: self.own.len() + lane_of(&self.borders, size), size: None };
        };
        let lane = &mut self.own[number];
        let fits = lane.given.is_some_and(|(given, most)| given == form && size <= most);
        let news = (!fits).then_some(size);
        if let Some(size) = news {
            lane.given = Some((form, size));
        }
        lane.requests += 1;
        lane.used = self.routed;
        Routed { lane: number, size: news }
    }

    /// A request that was routed to this lane has its outcome.
    pub fn done(&mut self, lane: usize) {
        if let Some(lane) = self.own.get_mut(lane) {
            lane.requests = lane.requests.saturating_sub(1);
        }
    }

    /// The sizes that the lanes with a form are for, by the number of the lane.
    pub fn given(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.own.iter().enumerate().filter_map(|(number, lane)| Some((number, lane.given?.1)))
    }

    /// The lane that the form's number says, or else the one that was used longest ago; without
    /// requests either way.
    fn free(&self, form: u64) -> Option<usize> {
        if self.is_by_hash
            && let Ok(number) = usize::try_from(form % self.own.len().max(1) as u64)
            && self.own.get(number).is_some_and(|lane| lane.requests == 0)
        {
            return Some(number);
        }
        let idle = self.own.iter().enumerate().filter(|(_, lane)| lane.requests == 0);
        idle.min_by_key(|(_, lane)| lane.used).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_its_lane_while_it_has_requests() {
        let mut lanes = FormLanes::new(vec![10, 100]);
        let first = lanes.route(1, 5);
        assert_eq!(first, Routed { lane: 0, size: Some(5) });
        for form in 2..=FORM_LANES as u64 {
            assert_eq!(lanes.route(form, 5).size, Some(5));
        }
        assert_eq!(lanes.route(1, 4), Routed { lane: 0, size: None });
        let overflow = |size| Routed { lane: FORM_LANES + size, size: None };
        assert_eq!(
            [lanes.route(99, 7), lanes.route(99, 11), lanes.route(98, 999)],
            [overflow(0), overflow(1), overflow(1)]
        );
        lanes.done(FORM_LANES);
        lanes.done(0);
        assert_eq!(lanes.route(99, 7), overflow(0), "the first form has another request");
        lanes.done(0);
        assert_eq!(lanes.route(99, 7), Routed { lane: 0, size: Some(7) });
        assert_eq!(lanes.route(1, 5), Routed { lane: FORM_LANES, size: None });
    }

    #[test]
    fn the_lane_that_was_idle_longest_is_given_away_and_a_larger_request_replaces_its_profile() {
        let mut lanes = FormLanes::new(vec![10]);
        for form in 0..FORM_LANES as u64 {
            let routed = lanes.route(form, 1);
            lanes.done(routed.lane);
        }
        assert_eq!(lanes.route(0, 3), Routed { lane: 0, size: Some(3) });
        assert_eq!(lanes.route(77, 1), Routed { lane: 1, size: Some(1) });
        assert_eq!(lanes.given().nth(1), Some((1, 1)));
        assert_eq!(lanes.len(), FORM_LANES + 1);
    }

    #[test]
    fn a_form_is_given_the_lane_that_its_number_says_where_that_has_no_requests() {
        let mut lanes = FormLanes::new(vec![512]).by_hash();
        let count = FORM_LANES as u64;
        assert_eq!(lanes.route(count + 5, 7).lane, 5);
        assert_eq!(lanes.route(count + 5, 7).lane, 5, "it keeps it");
        let other = lanes.route(2 * count + 5, 7).lane;
        assert_ne!(other, 5, "it is taken");
        (0..2).for_each(|_| lanes.done(5));
        lanes.done(other);
        assert_eq!(lanes.route(2 * count + 5, 7).lane, other, "its lane is still its own");
        assert_eq!(lanes.route(3 * count + 5, 7).lane, 5);
    }
}
