//! A queue of requests in deadline order, and the longest prefix of it that fits a batch.

use crate::ids::{Origin, RequestId};
use crate::request::Request;
use crate::time::{Span, Time};
use std::collections::VecDeque;
use std::ops::Range;

/// Requests of one model, in the order in which they are due: by their deadlines, or by the soft
/// objective where that is earlier. To append at the tail, to ask for a prefix a little longer or
/// shorter than the last, and to take it, costs constant time per request.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    requests: VecDeque<Request>,
    /// A request is due no later than this after its arrival, whatever its deadline.
    patience: Span,
    rows: u64,
    /// The last answer of [`Queue::fit`], kept up to date: the next answer is near it.
    prefix: QueuePrefix,
}

/// The first `count` requests of a queue, and the rows that they have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueuePrefix {
    pub(crate) count: usize,
    pub(crate) rows: u32,
}

impl Queue {
    /// An empty queue. A request is due at its deadline, and `patience` after its arrival at the
    /// latest.
    pub(crate) fn new(patience: Span) -> Queue {
        Queue { requests: VecDeque::new(), patience, rows: 0, prefix: QueuePrefix::default() }
    }

    /// When a request is due.
    #[inline]
    pub(crate) fn due(&self, request: &Request) -> Time {
        request.deadline.min(request.arrival + self.patience)
    }

    /// Whether a request is due before another.
    #[inline]
    fn is_due_before(&self, request: &Request, other: &Request) -> bool {
        if self.is_by_deadline() {
            request.deadline < other.deadline
        } else {
            self.due(request) < self.due(other)
        }
    }

    /// Whether deadlines say when requests are due.
    #[inline]
    fn is_by_deadline(&self) -> bool {
        self.patience == Span::MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Gives back the room for more requests than there are.
    pub(crate) fn release(&mut self) {
        self.requests.shrink_to_fit();
    }

    /// Rows of all requests.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The request behind the first `at`.
    pub(crate) fn get(&self, at: usize) -> Option<&Request> {
        self.requests.get(at)
    }

    /// Where the first request stands whose deadline `late_enough` accepts; it has to accept the
    /// deadlines of all behind it as well.
    pub(crate) fn first_due(&self, late_enough: impl Fn(Time) -> bool) -> usize {
        self.requests.partition_point(|request| !late_enough(request.deadline))
    }

    /// Extends the range by requests behind it that have at most `rows_max` rows together, and returns
    /// how many rows they have.
    pub(crate) fn extend(&self, range: &mut Range<usize>, rows_max: u32) -> u32 {
        let mut rows = 0;
        while let Some(next) = self.requests.get(range.end)
            && next.rows <= rows_max - rows
        {
            rows += next.rows;
            range.end += 1;
        }
        rows
    }

    /// Rows of the mean request, rounded down; at least one.
    pub(crate) fn request_rows(&self) -> u32 {
        let mean = self.rows / (self.requests.len() as u64).max(1);
        u32::try_from(mean).unwrap_or(u32::MAX).max(1)
    }

    /// Rows of the request behind the first `count`, if there is one.
    pub(crate) fn rows_behind(&self, count: usize) -> Option<u32> {
        self.requests.get(count).map(|request| request.rows)
    }

    pub(crate) fn head(&self) -> Option<&Request> {
        self.requests.front()
    }

    /// Queues a request behind all requests that are due no later.
    #[inline]
    pub(crate) fn push(&mut self, request: Request) {
        self.rows += u64::from(request.rows);
        match self.requests.back() {
            Some(last) if self.is_due_before(&request, last) => self.insert(request),
            _ => self.requests.push_back(request),
        }
    }

    /// Queues a request that is due before the last one.
    fn insert(&mut self, request: Request) {
        let due = self.due(&request);
        let behind = self.requests.partition_point(|other| self.due(other) <= due);
        if behind < self.prefix.count {
            self.prefix.count += 1;
            self.prefix.rows += request.rows;
        }
        self.requests.insert(behind, request);
    }

    /// The longest prefix of at most `rows_max` rows.
    pub(crate) fn fit(&mut self, rows_max: u32) -> QueuePrefix {
        let QueuePrefix { mut count, mut rows } = self.prefix;
        while rows > rows_max {
            count -= 1;
            rows -= self.requests[count].rows;
        }
        while let Some(next) = self.requests.get(count)
            && next.rows <= rows_max - rows
        {
            rows += next.rows;
            count += 1;
        }
        self.prefix = QueuePrefix { count, rows };
        self.prefix
    }

    pub(crate) fn pop_head(&mut self) -> Option<Request> {
        let head = self.requests.pop_front()?;
        self.rows -= u64::from(head.rows);
        if self.prefix.count > 0 {
            self.prefix.count -= 1;
            self.prefix.rows -= head.rows;
        }
        Some(head)
    }

    /// Moves the requests of a prefix to the end of `out`.
    pub(crate) fn take(&mut self, taken: QueuePrefix, out: &mut Vec<Request>) {
        let QueuePrefix { count, rows } = taken;
        let (front, back) = self.requests.as_slices();
        let in_front = count.min(front.len());
        out.extend_from_slice(&front[..in_front]);
        out.extend_from_slice(&back[..count - in_front]);
        self.requests.drain(..count);
        self.rows -= u64::from(rows);
        // What is left of the prefix is a prefix of what is left.
        self.prefix = match self.prefix.count.checked_sub(count) {
            Some(count) => QueuePrefix { count, rows: self.prefix.rows - rows },
            None => QueuePrefix::default(),
        };
    }

    /// Moves the requests of a range, which have `rows` rows together, to the end of `out`.
    pub(crate) fn take_range(&mut self, range: Range<usize>, rows: u32, out: &mut Vec<Request>) {
        let inside = range.start..range.end.min(self.prefix.count).max(range.start);
        let inside_rows = if inside.end == range.end {
            rows
        } else {
            self.requests.range(inside.clone()).map(|request| request.rows).sum()
        };
        self.prefix.count -= inside.len();
        self.prefix.rows -= inside_rows;
        self.rows -= u64::from(rows);
        out.extend(self.requests.drain(range));
    }

    pub(crate) fn tail(&self) -> Option<&Request> {
        self.requests.back()
    }

    pub(crate) fn pop_tail(&mut self) -> Option<Request> {
        let tail = self.requests.pop_back()?;
        self.rows -= u64::from(tail.rows);
        if self.prefix.count > self.requests.len() {
            self.prefix.count -= 1;
            self.prefix.rows -= tail.rows;
        }
        Some(tail)
    }

    /// Takes a request out, which came with this deadline; `None` when it is not here.
    pub(crate) fn remove(&mut self, id: RequestId, deadline: Time) -> Option<Request> {
        self.remove_at(self.find(id, deadline)?)
    }

    /// Takes out all requests of a frontend's life; whether there were some.
    pub(crate) fn forget(&mut self, origin: Origin) -> bool {
        let (before, prefix) = (self.requests.len(), self.prefix.count);
        let (mut at, mut gone) = (0, QueuePrefix::default());
        let mut rows = 0;
        self.requests.retain(|request| {
            let (is_gone, is_inside) = (request.id.origin() == origin, at < prefix);
            at += 1;
            if is_gone {
                rows += u64::from(request.rows);
            }
            if is_gone && is_inside {
                gone.count += 1;
                gone.rows += request.rows;
            }
            !is_gone
        });
        self.rows -= rows;
        self.prefix.count -= gone.count;
        self.prefix.rows -= gone.rows;
        self.requests.len() < before
    }

    /// Where a request stands, which came with this deadline.
    fn find(&self, id: RequestId, deadline: Time) -> Option<usize> {
        if !self.is_by_deadline() {
            // The deadline does not tell where. To take it out moves as much as this reads.
            return self.requests.iter().position(|other| other.id == id);
        }
        let first = self.requests.partition_point(|other| other.deadline < deadline);
        let mut same = self.requests.range(first..).take_while(|other| other.deadline == deadline);
        Some(first + same.position(|other| other.id == id)?)
    }

    /// Takes out the request that stands here.
    pub(crate) fn remove_at(&mut self, at: usize) -> Option<Request> {
        let request = self.requests.remove(at)?;
        self.rows -= u64::from(request.rows);
        if at < self.prefix.count {
            self.prefix.count -= 1;
            self.prefix.rows -= request.rows;
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Class;
    use proptest::prelude::*;

    fn request(id: u64, deadline: u64, rows: u32) -> Request {
        Request {
            id: RequestId::only(id),
            arrival: Time::ZERO,
            deadline: Time(deadline),
            rows,
            class: Class::High,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { deadline: u64, rows: u32 },
        Fit(u32),
        Take(usize),
        Remove(usize),
        Forget(u16),
        TakeRange(usize, u32),
        PopTail,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u64..8, 1u32..5).prop_map(|(deadline, rows)| Step::Push { deadline, rows }),
            2 => (0u32..20).prop_map(Step::Fit),
            1 => (0usize..4).prop_map(Step::Take),
            1 => (0usize..30).prop_map(Step::Remove),
            1 => (0u16..2).prop_map(Step::Forget),
            1 => (0usize..9, 0u32..9).prop_map(|(from, rows)| Step::TakeRange(from, rows)),
            1 => Just(Step::PopTail),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// Against the obvious model: a sorted vector scanned from the front.
        #[test]
        fn behaves_like_a_sorted_vector(steps in steps()) {
            let mut queue = Queue::new(Span::MAX);
            let mut model: Vec<Request> = Vec::new();
            for (id, step) in (0u64..).zip(steps) {
                match step {
                    Step::Push { deadline, rows } => {
                        let origin = Origin::new(u16::from(!id.is_multiple_of(3)), 0);
                        let id = RequestId::new(origin, id);
                        let request = Request { id, ..request(0, deadline, rows) };
                        queue.push(request);
                        model.push(request);
                        model.sort_by_key(|r| (r.deadline, r.id.number()));
                    }
                    Step::Fit(rows_max) => {
                        let mut expected = QueuePrefix::default();
                        for r in &model {
                            if expected.rows + r.rows > rows_max { break; }
                            expected.count += 1;
                            expected.rows += r.rows;
                        }
                        prop_assert_eq!(queue.fit(rows_max), expected);
                    }
                    Step::Take(count) => {
                        let count = count.min(model.len());
                        let mut taken = Vec::new();
                        let rows = model[..count].iter().map(|r| r.rows).sum();
                        queue.take(QueuePrefix { count, rows }, &mut taken);
                        prop_assert_eq!(taken, model.drain(..count).collect::<Vec<_>>());
                    }
                    Step::Remove(index) => {
                        let wanted = model.get(index).copied().unwrap_or(request(1 << 40, 3, 1));
                        let found = model.iter().position(|r| r.id == wanted.id).map(|i| model.remove(i));
                        prop_assert_eq!(queue.remove(wanted.id, wanted.deadline), found);
                    }
                    Step::TakeRange(from, rows_max) => {
                        let from = queue.first_due(|deadline| deadline >= Time(from as u64));
                        prop_assert!(model[..from].iter().all(|r| r.deadline < model.get(from).map_or(Time::NEVER, |r| r.deadline)));
                        let mut range = from..from;
                        let rows = queue.extend(&mut range, rows_max);
                        let sum = |range: Range<usize>| model[range].iter().map(|r| r.rows).sum::<u32>();
                        prop_assert_eq!(rows, sum(range.clone()));
                        prop_assert!(range.end == model.len() || sum(from..range.end + 1) > rows_max);
                        let mut taken = Vec::new();
                        queue.take_range(range.clone(), rows, &mut taken);
                        prop_assert_eq!(taken, model.drain(range).collect::<Vec<_>>());
                    }
                    Step::Forget(frontend) => {
                        let origin = Origin::new(frontend, 0);
                        let before = model.len();
                        model.retain(|r| r.id.origin() != origin);
                        prop_assert_eq!(queue.forget(origin), model.len() < before);
                    }
                    Step::PopTail => prop_assert_eq!(queue.pop_tail(), model.pop()),
                }
                prop_assert_eq!(queue.len(), model.len());
                let rows: u32 = model.iter().map(|r| r.rows).sum();
                let mean = rows.checked_div(u32::try_from(model.len()).unwrap()).unwrap_or(1);
                prop_assert_eq!(queue.request_rows(), mean);
                prop_assert_eq!(queue.rows(), u64::from(rows));
                prop_assert_eq!(queue.rows_behind(1), model.get(1).map(|r| r.rows));
                prop_assert_eq!(queue.head(), model.first());
            }
        }
    }

    #[test]
    fn a_soft_objective_orders_requests_before_their_deadlines_do() {
        let mut queue = Queue::new(Span(100));
        let arrived =
            |id, arrival, deadline| Request { arrival: Time(arrival), ..request(id, deadline, 1) };
        // Without a limit of their own the first to come are first; a tight one goes ahead.
        let requests = [arrived(0, 0, 9000), arrived(1, 10, 5000), arrived(2, 20, 60)];
        requests.into_iter().for_each(|request| queue.push(request));
        let order: Vec<_> = (0..3).filter_map(|at| queue.get(at)).map(|r| r.id.number()).collect();
        assert_eq!(order, [2, 0, 1]);
        assert_eq!(queue.remove(RequestId::only(1), Time(5000)), Some(requests[1]));
        assert_eq!(queue.remove(RequestId::only(1), Time(5000)), None);
        assert_eq!((queue.len(), queue.rows()), (2, 2));
    }
}
