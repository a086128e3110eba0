//! The queues of one model by class: high requests lead, low ones ride along or follow.
//!
//! Knows nothing of time but deadlines, which it compares.

use super::queue::{Queue, QueuePrefix};
use crate::ids::{Origin, RequestId};
use crate::request::{Class, Request};
use crate::time::{Span, Time};
use std::ops::Range;

/// Two queues in deadline order. The *leading* queue, whose batch is next, is that of the high requests
/// unless it is empty. Demoted requests stand in the queue of the low ones.
#[derive(Clone, Debug)]
pub(crate) struct ClassQueues {
    high: Queue,
    low: Queue,
}

/// The requests of a batch: the first of the leading queue, and riders from the queue of low ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// From the leading queue.
    pub(crate) leading: QueuePrefix,
    /// Where the riders stand; an empty range when low requests lead.
    pub(crate) riders: Range<usize>,
    /// Their rows.
    pub(crate) rider_rows: u32,
}

impl Choice {
    /// Rows of the whole batch.
    pub(crate) fn rows(&self) -> u32 {
        self.leading.rows + self.rider_rows
    }

    /// Requests of the whole batch.
    pub(crate) fn count(&self) -> usize {
        self.leading.count + self.riders.len()
    }
}

impl ClassQueues {
    /// Empty queues; see [`Queue::new`].
    pub(crate) fn new(patience: Span) -> ClassQueues {
        ClassQueues { high: Queue::new(patience), low: Queue::new(patience) }
    }

    /// Requests of both classes.
    pub(crate) fn len(&self) -> usize {
        self.high.len() + self.low.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }

    /// Gives back the room for more requests than there are.
    pub(crate) fn release(&mut self) {
        self.high.release();
        self.low.release();
    }

    /// Requests of both classes are queued.
    pub(crate) fn is_mixed(&self) -> bool {
        !self.high.is_empty() && !self.low.is_empty()
    }

    /// The class whose batch is next.
    pub(crate) fn class(&self) -> Class {
        if self.high.is_empty() && !self.low.is_empty() { Class::Low } else { Class::High }
    }

    pub(crate) fn leading(&self) -> &Queue {
        match self.class() {
            Class::High => &self.high,
            Class::Low => &self.low,
        }
    }

    pub(crate) fn leading_mut(&mut self) -> &mut Queue {
        match self.class() {
            Class::High => &mut self.high,
            Class::Low => &mut self.low,
        }
    }

    pub(crate) fn low(&self) -> &Queue {
        &self.low
    }

    pub(crate) fn low_mut(&mut self) -> &mut Queue {
        &mut self.low
    }

    /// Queues a request in the queue of its class, or in that of the low ones if it is `demoted`, behind
    /// all requests that are due no later.
    #[inline]
    pub(crate) fn push(&mut self, request: Request, demoted: bool) {
        match request.class {
            Class::High if !demoted => self.high.push(request),
            Class::High | Class::Low => self.low.push(request),
        }
    }

    /// Takes a request out, which came with this deadline; `None` when it is not here.
    pub(crate) fn remove(&mut self, id: RequestId, deadline: Time) -> Option<Request> {
        self.high.remove(id, deadline).or_else(|| self.low.remove(id, deadline))
    }

    /// Takes out all requests of a frontend's life; whether there were some.
    pub(crate) fn forget(&mut self, origin: Origin) -> bool {
        let had_high = self.high.forget(origin);
        self.low.forget(origin) || had_high
    }

    /// Takes out the low request that is due last, to make room for a high one.
    pub(crate) fn evict(&mut self) -> Option<Request> {
        self.low.tail().filter(|tail| tail.class == Class::Low)?;
        self.low.pop_tail()
    }

    /// Rows of both classes.
    pub(crate) fn rows(&self) -> u64 {
        self.high.rows() + self.low.rows()
    }

    /// When the first request of both queues is due, and when it arrived.
    pub(crate) fn earliest(&self) -> Option<(Time, Time)> {
        let due = |queue: &Queue| queue.head().map(|head| (queue.due(head), head.arrival));
        [due(&self.high), due(&self.low)].into_iter().flatten().min()
    }

    /// The batch of everything.
    pub(crate) fn all(&mut self) -> Choice {
        let mixed = self.is_mixed();
        let leading = self.leading_mut().fit(u32::MAX);
        let low = if mixed { self.low.fit(u32::MAX) } else { QueuePrefix::default() };
        Choice { leading, riders: 0..low.count, rider_rows: low.rows }
    }

    /// The batch of the first `leading` high requests, with riders in the rest of `room` rows.
    /// `in_time(rows, deadline)` says whether a batch of `rows` meets `deadline`; where it is false, it
    /// has to be false for more rows or an earlier deadline as well.
    ///
    /// Riders are the low requests that are due first among those that a full batch still meets. Where
    /// they leave room, earlier ones ride as well if the batch as it is meets them. High requests give
    /// way to riders of `owed` rows, all but the first high one.
    pub(crate) fn fill(
        &mut self,
        leading: QueuePrefix,
        room: u32,
        owed: u32,
        in_time: impl Fn(u32, Time) -> bool,
    ) -> Choice {
        let first = self.low.first_due(|deadline| in_time(room, deadline));
        let mut riders = first..first;
        let mut rider_rows = self.low.extend(&mut riders, owed);
        let mut leading = leading;
        if leading.rows > room.saturating_sub(rider_rows) {
            let smaller = self.high.fit(room.saturating_sub(rider_rows));
            if smaller.count > 0 {
                leading = smaller;
            } else {
                (riders, rider_rows) = (first..first, 0);
            }
        }
        rider_rows += self.low.extend(&mut riders, room.saturating_sub(leading.rows + rider_rows));
        while let Some(before) = riders.start.checked_sub(1).and_then(|at| self.low.get(at)) {
            let rows = leading.rows + rider_rows + before.rows;
            if rows > room || !in_time(rows, before.deadline) {
                break;
            }
            riders.start -= 1;
            rider_rows += before.rows;
        }
        Choice { leading, riders, rider_rows }
    }

    /// The same batch without the first rider that `is_met` refuses, and those behind it.
    pub(crate) fn with_riders_until(
        &self,
        mut choice: Choice,
        is_met: impl Fn(&Request) -> bool,
    ) -> Choice {
        let Range { start, end } = choice.riders;
        let met = || (start..end).map_while(|at| self.low.get(at).filter(|rider| is_met(rider)));
        choice.riders = start..start + met().count();
        choice.rider_rows = met().map(|rider| rider.rows).sum();
        choice
    }

    /// Moves the chosen requests to the end of `out`.
    pub(crate) fn take(&mut self, choice: &Choice, out: &mut Vec<Request>) {
        self.leading_mut().take(choice.leading, out);
        self.low.take_range(choice.riders.clone(), choice.rider_rows, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queues(requests: &[(bool, u64, u32)]) -> (ClassQueues, [Vec<Request>; 2]) {
        let mut queues = ClassQueues::new(Span::MAX);
        let mut model = [Vec::new(), Vec::new()];
        for (id, &(is_low, deadline, rows)) in (0u64..).zip(requests) {
            let class = Class::ALL[usize::from(is_low)];
            let (id, deadline) = (RequestId::only(id), Time(deadline));
            let request = Request { id, arrival: Time::ZERO, deadline, rows, class };
            queues.push(request, false);
            let queue = &mut model[class as usize];
            queue.push(request);
            queue.sort_by_key(|r| (r.deadline, r.id));
        }
        (queues, model)
    }

    fn rows(requests: &[Request]) -> u32 {
        requests.iter().map(|request| request.rows).sum()
    }

    proptest! {
        /// Against two sorted vectors: what leads, what rides, what is left.
        #[test]
        fn low_requests_ride_where_there_is_room(
            requests in prop::collection::vec((any::<bool>(), 0u64..40, 1u32..4), 1..40),
            room in 1u32..30,
            owed in 0u32..10,
            speed in 0u64..3,
        ) {
            let (mut queues, [high, low]) = queues(&requests);
            prop_assert_eq!(queues.len(), requests.len());
            prop_assert_eq!(queues.is_mixed(), !high.is_empty() && !low.is_empty());
            prop_assert_eq!(queues.rows(), u64::from(rows(&high) + rows(&low)));
            let earliest = high.iter().chain(&low).map(|r| r.deadline).min();
            prop_assert_eq!(queues.earliest().map(|(due, _)| due), earliest);
            if !queues.is_mixed() {
                return Ok(());
            }
            let room = room.max(high[0].rows);
            let in_time = |rows: u32, due: Time| u64::from(rows) * speed <= due.0;
            let leading = queues.leading_mut().fit(room);
            let choice = queues.fill(leading, room, owed, in_time);
            let total = choice.rows();

            let (batch, left) = high.split_at(choice.leading.count);
            prop_assert!(!batch.is_empty() && rows(batch) == choice.leading.rows);
            let riders = &low[choice.riders.clone()];
            prop_assert_eq!(rows(riders), choice.rider_rows);
            prop_assert!(total <= room);
            prop_assert!(riders.iter().all(|r| in_time(total, r.deadline)), "a late rider");
            // High ones are left out only for the rows that are owed.
            prop_assert!(choice.leading == leading || choice.rider_rows > 0);
            prop_assert!(choice.leading == leading || leading.rows <= choice.leading.rows + owed + left[0].rows);
            // No more would have fitted.
            let joins = |r: &&Request| total + r.rows <= room && in_time(total + r.rows, r.deadline);
            let before = choice.riders.start.checked_sub(1).map(|at| &low[at]);
            prop_assert!(before.filter(joins).is_none());
            let behind = low.get(choice.riders.end);
            prop_assert!(behind.filter(|r| in_time(room, r.deadline)).filter(joins).is_none());

            let mut taken = Vec::new();
            queues.take(&choice, &mut taken);
            prop_assert_eq!(taken, [batch, riders].concat());
            let rest: Vec<_> = low.iter().filter(|r| !riders.contains(r)).copied().collect();
            prop_assert_eq!(queues.low().rows(), u64::from(rows(&rest)));
            prop_assert_eq!(queues.low().head(), rest.first());
            prop_assert_eq!(queues.evict(), rest.last().copied());
            prop_assert_eq!(queues.class() == Class::High, !left.is_empty() || rest.len() < 2);
            if let Some(next) = left.last() {
                prop_assert_eq!(queues.remove(next.id, next.deadline), Some(*next));
            }
        }
    }

    #[test]
    fn older_low_requests_ride_when_younger_ones_leave_room() {
        // A full batch of ten ends at 100, one of five at 60.
        let in_time = |rows: u32, due: Time| 20 + 8 * u64::from(rows) <= due.0;
        let (mut queues, _) =
            queues(&[(false, 100, 2), (true, 40, 1), (true, 65, 1), (true, 70, 1), (true, 110, 1)]);
        let leading = queues.leading_mut().fit(10);
        let choice = queues.fill(leading, 10, 0, in_time);
        assert_eq!((choice.leading.rows, choice.riders, choice.rider_rows), (2, 1..4, 3));
    }
}
