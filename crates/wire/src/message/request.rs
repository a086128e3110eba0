//! What a frontend says to the scheduler of a request: never its tensors, only when it is due and how
//! large it is.

use symphony_core::{Class, ModelId, Request, RequestId, Span, Time};

/// A frontend admitted a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submit {
    /// Its model.
    pub model: ModelId,
    /// Identity.
    pub id: RequestId,
    /// How long ago its frontend received it.
    pub age: Span,
    /// What is left until its answer has to be with the client.
    pub budget: Span,
    /// Rows along the batch dimension.
    pub rows: u32,
    /// Whether others go first.
    pub class: Class,
}

/// The client of a queued request has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Its model.
    pub model: ModelId,
    /// The request.
    pub id: RequestId,
    /// What is left until its deadline, by which its queue finds it.
    pub budget: Span,
}

impl Submit {
    /// The message for a request at the time `now`.
    #[must_use]
    #[inline]
    pub fn of(model: ModelId, request: &Request, now: Time) -> Submit {
        let &Request { id, arrival, deadline, rows, class } = request;
        Submit { model, id, age: now.since(arrival), budget: deadline.since(now), rows, class }
    }

    /// The request by the clock of which its spans count from `at`.
    #[must_use]
    #[inline]
    pub fn request(self, at: Time) -> Request {
        let Submit { id, age, budget, rows, class, .. } = self;
        Request { id, arrival: at - age, deadline: at + budget, rows, class }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_old_and_as_urgent_by_the_receivers_clock() {
        let (model, id) = (ModelId::first(3), RequestId::only(5));
        let (age, budget, class) = (Span(20), Span(300), Class::Low);
        let submit = Submit { model, id, age, budget, rows: 2, class };
        for at in [Time(20), Time(1_000_000)] {
            let request = submit.request(at);
            assert_eq!((at.since(request.arrival), request.deadline.since(at)), (age, budget));
            assert_eq!((request.id, request.rows, request.class), (id, 2, class));
            assert_eq!(Submit::of(model, &request, at), submit);
            let later = Submit { age: Span(25), budget: Span(295), ..submit };
            assert_eq!(Submit::of(model, &request, at + Span(5)), later);
        }
    }
}
