//! The queue of one model, in deadline order, and the longest prefix that fits a batch.

use crate::ids::RequestId;
use crate::request::Request;
use crate::time::Time;
use std::collections::VecDeque;

/// Requests of one model. Appending at the tail, asking for a prefix a little longer or
/// shorter than last time and taking it are constant time per request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    requests: VecDeque<Request>,
    rows: u64,
    /// The last answer of [`Queue::fit`], kept up to date: the next is near it.
    prefix: Prefix,
}

/// The first `count` requests of a queue and the rows they have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) count: usize,
    pub(crate) rows: u32,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Rows of the mean request, rounded down; at least one.
    pub(crate) fn request_rows(&self) -> u32 {
        let mean = self.rows / (self.requests.len() as u64).max(1);
        u32::try_from(mean).unwrap_or(u32::MAX).max(1)
    }

    /// Rows of the request that stands behind the first `count`, if one does.
    pub(crate) fn rows_behind(&self, count: usize) -> Option<u32> {
        self.requests.get(count).map(|request| request.rows)
    }

    /// The request behind the first `at`.
    pub(crate) fn get(&self, at: usize) -> Option<&Request> {
        self.requests.get(at)
    }

    /// Rows of all requests.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn head(&self) -> Option<&Request> {
        self.requests.front()
    }

    /// Queues a request behind all that are due no later.
    pub(crate) fn push(&mut self, request: Request) {
        self.rows += u64::from(request.rows);
        let behind = match self.requests.back() {
            Some(last) if last.deadline > request.deadline => {
                self.requests.partition_point(|other| other.deadline <= request.deadline)
            }
            _ => self.requests.len(),
        };
        if behind < self.prefix.count {
            self.prefix.count += 1;
            self.prefix.rows += request.rows;
        }
        self.requests.insert(behind, request);
    }

    /// The longest prefix of at most `rows_max` rows.
    pub(crate) fn fit(&mut self, rows_max: u32) -> Prefix {
        let Prefix { mut count, mut rows } = self.prefix;
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
        self.prefix = Prefix { count, rows };
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

    /// Moves the first `count` requests to the end of `out`.
    pub(crate) fn take(&mut self, count: usize, out: &mut Vec<Request>) {
        for _ in 0..count {
            out.extend(self.pop_head());
        }
    }

    /// Takes one request out; `None` when it is not here. `deadline` is the one it came with.
    pub(crate) fn remove(&mut self, id: RequestId, deadline: Time) -> Option<Request> {
        let first = self.requests.partition_point(|other| other.deadline < deadline);
        let at = self
            .requests
            .range(first..)
            .take_while(|other| other.deadline == deadline)
            .position(|other| other.id == id)?;
        let request = self.requests.remove(first + at)?;
        self.rows -= u64::from(request.rows);
        if first + at < self.prefix.count {
            self.prefix.count -= 1;
            self.prefix.rows -= request.rows;
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(id: u64, deadline: u64, rows: u32) -> Request {
        Request { id: RequestId(id), arrival: Time::ZERO, deadline: Time(deadline), rows }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { deadline: u64, rows: u32 },
        Fit(u32),
        Take(usize),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u64..8, 1u32..5).prop_map(|(deadline, rows)| Step::Push { deadline, rows }),
            2 => (0u32..20).prop_map(Step::Fit),
            1 => (0usize..4).prop_map(Step::Take),
            1 => (0usize..30).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// Against the obvious model: a sorted vector scanned from the front.
        #[test]
        fn behaves_like_a_sorted_vector(steps in steps()) {
            let mut queue = Queue::default();
            let mut model: Vec<Request> = Vec::new();
            for (id, step) in (0u64..).zip(steps) {
                match step {
                    Step::Push { deadline, rows } => {
                        queue.push(request(id, deadline, rows));
                        model.push(request(id, deadline, rows));
                        model.sort_by_key(|r| (r.deadline, r.id));
                    }
                    Step::Fit(rows_max) => {
                        let mut expected = Prefix::default();
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
                        queue.take(count, &mut taken);
                        prop_assert_eq!(taken, model.drain(..count).collect::<Vec<_>>());
                    }
                    Step::Remove(index) => {
                        let wanted = model.get(index).copied().unwrap_or(request(1 << 40, 3, 1));
                        let found = model.iter().position(|r| r.id == wanted.id).map(|i| model.remove(i));
                        prop_assert_eq!(queue.remove(wanted.id, wanted.deadline), found);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                let rows: u32 = model.iter().map(|r| r.rows).sum();
                let mean = rows.checked_div(u32::try_from(model.len()).unwrap()).unwrap_or(1);
                prop_assert_eq!(queue.request_rows(), mean);
                prop_assert_eq!(queue.rows_behind(1), model.get(1).map(|r| r.rows));
                prop_assert_eq!(queue.head(), model.first());
            }
        }
    }
}
