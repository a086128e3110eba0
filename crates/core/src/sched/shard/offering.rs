//! What a model offers the matcher: its next batch, and when that may be sent.

use super::situation::Situation;
use super::timing::Stage;
use crate::request::{Class, Objective, Request};
use crate::sched::action::Actions;
use crate::sched::message::{Offer, Tier};
use crate::sched::window::{Outlook, send_window};
use crate::time::{Span, Time};

/// Most batches that are offered beside the first. More at once would keep accelerators waiting for
/// batches that may not come.
const MORE_MAX: u32 = 15;

/// Which batches go before those that this class leads, of a model with this objective.
pub(super) fn tier(objective: Objective, class: Class) -> Tier {
    match class {
        _ if objective.is_soft() => Tier::BestEffort,
        Class::High => Tier::High,
        Class::Low => Tier::Low,
    }
}

impl Situation<'_> {
    /// Drops what stands in the way and offers the batch of what is left.
    #[inline]
    pub(super) fn offer(&mut self, todo: &mut Actions) -> Option<Offer> {
        self.drop_late_low(todo);
        loop {
            let head = *self.queue.leading().head()?;
            let outlook = self.outlook(&head, self.now);
            let count = if outlook.rows == 0 { 1 } else { self.in_the_way(&head, &outlook) };
            if count == 0 {
                return Some(self.offered(&head, &outlook));
            }
            (0..count).for_each(|_| self.drop_head(todo));
        }
    }

    /// The offer of this outlook. Its window is the matcher's, which grants a message later than the
    /// shard offers.
    #[inline]
    fn offered(&self, head: &Request, outlook: &Outlook) -> Offer {
        let granted = self.timing_at(Stage::Granted);
        let window = send_window(self.pool.mode, &granted, self.now, outlook, self.plan);
        let tier = self.tier();
        let turn = if self.objective.is_soft() {
            granted.latest_start(outlook.due, outlook.rows)
        } else {
            window.latest
        };
        Offer {
            exec: window.exec,
            urgent: window.urgent,
            latest: window.latest,
            turn: Time(turn.0.saturating_sub(self.plan.credit.0)),
            level: self.plan.level,
            lead: granted.delays.lead(outlook.rows),
            due: outlook.limit,
            head_exec: self.timing.profile.exec(head.rows),
            tier,
            exec_span: self.timing.profile.exec(outlook.rows),
            reserved: match tier {
                Tier::High => 0.0,
                Tier::Low | Tier::BestEffort => self.low_terms().reserved,
            },
            expected: self.expected(outlook).clamp(self.now, window.exec),
            more_batches: self.more_batches(outlook),
        }
    }

    /// Which batches go before its next one.
    pub(super) fn tier(&self) -> Tier {
        tier(self.objective, self.queue.class())
    }

    /// When the batch that will have gathered has to be sent.
    #[inline]
    fn expected(&self, outlook: &Outlook) -> Time {
        let gathered = self.plan.high_need.map_or(0, |need| need.gathered);
        self.timing.latest_start(outlook.due, outlook.rows.max(gathered))
    }

    /// Batches behind this one that gain nothing by waiting: this one leaves rows behind that it has
    /// no room for, so those behind it do as well. Only where messages take time; otherwise each is
    /// offered when the one before has gone.
    #[inline]
    fn more_batches(&self, outlook: &Outlook) -> u32 {
        let is_immediate = self.model_timing.message() == Span::ZERO;
        if is_immediate || outlook.next.is_none() || self.queue.is_mixed() {
            return 0;
        }
        let batches = self.queue.leading().rows() / u64::from(outlook.rows.max(1));
        u32::try_from(batches.saturating_sub(1)).map_or(MORE_MAX, |more| more.min(MORE_MAX))
    }
}
