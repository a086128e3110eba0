//! One model of a shard: which of its requests run together, when, and which are dropped. Knows
//! no other model but by what the pool's have in common.

use super::{
    LowTerms, Model, PRESENT_FOR, Pool, SHARE_ADVANCE, reserved_with_long, reserved_with_short,
    within_objective,
};
use crate::ids::ModelId;
use crate::request::{Class, Delays, DropReason, Request};
use crate::sched::lanes::Choice;
use crate::sched::mode::{Mode, Outlook, rows_in_time};
use crate::sched::plan::{ModelDemand, ModelPlan};
use crate::sched::shard::ModelStatistics;
use crate::sched::{Action, Actions, Candidate, ModelTerms, Offer};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// More grants at once than this would keep accelerators waiting for batches that may not come.
const MORE_MAX: u32 = 15;

impl Model {
    /// Plans with the slowdown that was measured, as far as a mean request alone is still done in
    /// three quarters of the objective: nothing is measured of batches that never run. Whether
    /// it changed.
    pub(super) fn follow(&mut self, delays: &Delays, message: Span) -> bool {
        let measured = self.drift.slowdown();
        // One that is no slower than the table need not be held to a bound that is none for it.
        let slowdown = match measured > Slowdown::ONE {
            true => measured.min(self.slowdown_max()),
            false => measured,
        };
        if slowdown == self.profile.slowdown() {
            return false;
        }
        self.profile.set_slowdown(slowdown);
        self.plan_with(delays, message);
        true
    }

    /// Plans with these delays, as far as the objective has room for them.
    pub(super) fn plan_with(&mut self, delays: &Delays, message: Span) {
        let slo = self.terms.slo;
        (self.delays, self.message) = within_objective(delays, message, slo, &self.profile);
        let least = self.profile.exec(1) + self.delays.lead(1) + self.delays.response;
        self.least = [least, least + Span(slo.saturating_sub(least).0 / 2)];
    }

    /// At which a mean request alone takes three quarters of the objective; at least one.
    fn slowdown_max(&self) -> Slowdown {
        let ModelTerms { profile, slo, .. } = &self.terms;
        let ModelStatistics { rows, requests, .. } = self.stats;
        let rows = u32::try_from(rows.div_ceil(requests.max(1))).unwrap_or(u32::MAX).max(1);
        Slowdown::of(Span(slo.0 / 4 * 3), profile.exec(rows)).max(Slowdown::ONE)
    }

    /// The delays that are left after so many messages: one when the matcher grants, two when
    /// the grant has come.
    pub(super) fn delays_after(&self, messages: u64) -> Delays {
        let Delays { control, .. } = self.delays;
        Delays { control: control.saturating_sub(self.message.times(messages)), ..self.delays }
    }

    /// What was measured of the model.
    pub(super) fn demand(&mut self, now: Time, is_present: bool) -> ModelDemand {
        let Delays { control, data, .. } = self.delays;
        let taken = control + self.after_execution() + self.spent;
        let rows_per_ns = self.rate.rows_per_ns(now);
        self.high_per_ns = (rows_per_ns - self.rate_low.rows_per_ns(now)).max(0.0);
        let demoted = self.rate_demoted.rows_per_ns(now) / self.high_per_ns.max(f64::MIN_POSITIVE);
        ModelDemand {
            model: self.id,
            profile: self.profile.clone(),
            data,
            room: self.terms.slo.saturating_sub(taken),
            slo: self.terms.slo,
            rows_per_ns,
            high_per_ns: self.high_per_ns,
            demoted: demoted.clamp(0.0, 1.0),
            dispersion: self.rate.dispersion(),
            is_present,
            weight: self.terms.loss_weight,
            arrived: self.arrived,
            dropped: self.dropped,
        }
    }

    /// Whether requests came lately.
    pub(super) fn is_present(&self, now: Time) -> bool {
        self.last_arrival.is_some_and(|at| now.since(at) < PRESENT_FOR)
    }

    /// Whether a high request came with a deadline of its own that leaves it noticeably less time
    /// than the objective does.
    pub(super) fn is_early(&self, request: &Request) -> bool {
        let allowed = request.deadline.since(request.arrival);
        request.class == Class::High && allowed < Span(self.terms.slo.0 / 8 * 7)
    }

    /// Whether a request with an early deadline does not allow the batch that the load of high ones
    /// needs.
    pub(super) fn is_demoted(&self, pool: &Pool, request: &Request) -> bool {
        self.plan.need.is_some_and(|need| self.rows_allowed(pool, request) < need.rows)
    }

    /// The largest batch that the time allows which a request came with, in a pool whose
    /// accelerators start one after the other.
    fn rows_allowed(&self, pool: &Pool, request: &Request) -> u32 {
        let taken = self.after_execution() + self.delays.lead(request.rows);
        let budget = request.deadline.since(request.arrival).saturating_sub(taken);
        self.profile.rows_within(pool.staggered(budget))
    }

    /// A request came that counts towards the rate.
    pub(super) fn note_arrival(&mut self, pool: &mut Pool, now: Time, request: &Request) {
        let idle = self.idle_since.map(|since| now.since(since));
        self.rate.record(now, request.rows, idle);
        self.last_arrival = Some(now);
        self.spent = now.since(request.arrival);
        match request.class {
            Class::High => {
                self.arrived += 1;
                pool.lately.note_high(now, self.terms.slo);
            }
            Class::Low => {
                pool.note_low(now);
                self.rate_low.record(now, request.rows);
            }
        }
    }

    /// Drops a request that came.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        model: ModelId,
        request: Request,
        reason: DropReason,
        todo: &mut Actions,
    ) {
        todo.list.push(Action::Drop { model, request, reason });
        if request.class == Class::High {
            self.dropped += u64::from(match reason {
                DropReason::TooLarge => false,
                DropReason::Hopeless => self.had_a_chance(&request),
                _ => true,
            });
        }
    }

    /// Why a request can never run here, whatever is queued. One that is late already is not
    /// queued to be dropped with more effort later: after a stall there may be very many of them.
    pub(super) fn refusal(&self, pool: &Pool, now: Time, request: &Request) -> Option<DropReason> {
        let [least, _] = self.least;
        let needed = self.least[usize::from(pool.is_behind)];
        if self.closing {
            Some(DropReason::Unloaded)
        } else if request.rows == 0 || request.rows > self.profile.rows_max() {
            Some(DropReason::TooLarge)
        } else if request.deadline < now + needed {
            Some(match request.deadline < now + least {
                true => DropReason::Hopeless,
                false => DropReason::Overload,
            })
        } else {
            None
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.terms.queue_max as usize
    }

    /// Drops what stands in the way and says when the rest may run.
    pub(super) fn offer(
        &mut self,
        model: ModelId,
        pool: &Pool,
        now: Time,
        todo: &mut Actions,
    ) -> Option<Offer> {
        let delays = self.delays_after(1);
        self.drop_late_low(model, now, todo);
        loop {
            let head = *self.queue.leading().head()?;
            let outlook = self.outlook(pool, &head, now, now);
            let count = match outlook.rows {
                0 => 1,
                _ => self.in_the_way(pool, now, &head, &outlook),
            };
            if count == 0 {
                let window = pool.mode.window(&self.profile, &delays, now, &outlook, &self.plan);
                return Some(Offer {
                    exec: window.exec,
                    urgent: window.urgent,
                    latest: window.latest,
                    turn: Time(window.latest.0.saturating_sub(self.plan.credit.0)),
                    level: self.plan.level,
                    lead: delays.lead(outlook.rows),
                    due: outlook.due,
                    head_exec: self.profile.exec(head.rows),
                    class: self.queue.class(),
                    exec_span: self.profile.exec(outlook.rows),
                    reserved: match self.queue.class() {
                        Class::High => 0.0,
                        Class::Low => self.low_terms(pool, now).reserved,
                    },
                    expected: self.expected(&outlook).clamp(now, window.exec),
                    more_batches: self.more(&outlook),
                });
            }
            (0..count).for_each(|_| self.drop_head(model, now, todo));
        }
    }

    /// Batches behind this one that nothing is to be gained for by waiting: it leaves rows behind
    /// that it has no room for, so those behind it do as well. Only where answers take their time,
    /// else each is offered when the one before has gone.
    fn more(&self, outlook: &Outlook) -> u32 {
        if self.message == Span::ZERO || outlook.next.is_none() || self.queue.is_mixed() {
            return 0;
        }
        let batches = self.queue.leading().rows() / u64::from(outlook.rows.max(1));
        u32::try_from(batches.saturating_sub(1)).map_or(MORE_MAX, |more| more.min(MORE_MAX))
    }

    fn drop_head(&mut self, model: ModelId, now: Time, todo: &mut Actions) {
        let Some(request) = self.queue.leading_mut().pop_head() else { return };
        self.dropped += u64::from(request.class == Class::High && self.had_a_chance(&request));
        let reason = match self.runs_alone(now, &request) {
            true => DropReason::Overload,
            false => DropReason::Hopeless,
        };
        todo.list.push(Action::Drop { model, request, reason });
    }

    /// When the batch that will have gathered has to be sent.
    pub(super) fn expected(&self, outlook: &Outlook) -> Time {
        let gathered = self.plan.need.map_or(0, |need| need.gathered);
        let rows = outlook.rows.max(gathered);
        outlook.due - self.profile.exec(rows) - self.delays.lead(rows)
    }

    /// The largest batch from the head on, for an accelerator that is free from `free`; fitted
    /// into the queue's prefix.
    pub(super) fn outlook(
        &mut self,
        pool: &Pool,
        head: &Request,
        now: Time,
        free: Time,
    ) -> Outlook {
        if let Some(outlook) = self.together(pool, now, free) {
            return outlook;
        }
        let rows_max = match head.class {
            Class::High => u32::MAX,
            Class::Low => self.low_terms(pool, now).rows_max.max(head.rows),
        };
        let delays = &self.delays;
        let profile = &self.profile;
        let end = head.deadline - delays.response;
        let mut due = end - self.overrun_allowance();
        let queue = self.queue.leading_mut();
        let most = u32::try_from(queue.rows()).unwrap_or(u32::MAX).min(rows_max);
        let room = rows_in_time(profile, delays, now, free, due, most);
        let mut prefix = queue.fit(room);
        if prefix.count == 0 {
            // What is left free for a long execution is left so by choice; a request that
            // only needs that room runs in it.
            due = end;
            let room = rows_in_time(profile, delays, now, free, due, most);
            prefix = queue.fit(room);
        }
        let next = queue.rows_behind(prefix.count);
        let suffices = self.plan.need.is_some_and(|need| prefix.rows >= need.rows);
        Outlook {
            arrival: head.arrival,
            due,
            rows: prefix.rows,
            next,
            together: false,
            low_waits: self.queue.is_mixed() && suffices,
            request_rows: self.queue.leading().request_rows(),
            companions_per_ns: self.rate.companions_per_ns(now),
        }
    }

    /// The batch of everything that is queued, high and low, if that is one that meets every
    /// deadline.
    pub(super) fn together(&mut self, pool: &Pool, now: Time, free: Time) -> Option<Outlook> {
        if !self.queue.is_mixed() {
            return None;
        }
        let rows = u32::try_from(self.queue.rows()).ok()?;
        let (deadline, arrival) = self.queue.earliest()?;
        let due = deadline - self.after_execution();
        let room = rows_in_time(&self.profile, &self.delays, now, free, due, rows);
        (rows <= room.min(self.low_rows_max(pool, now))).then(|| Outlook {
            arrival,
            due,
            rows,
            next: None,
            together: true,
            low_waits: false,
            request_rows: self.queue.leading().request_rows(),
            companions_per_ns: self.rate.companions_per_ns(now),
        })
    }

    /// The largest batch that low requests may make where high ones, of the tightest objective,
    /// have to wait for it.
    pub(super) fn low_rows_max(&self, pool: &Pool, now: Time) -> u32 {
        let Some(slo) = pool.lately.tightest(now) else { return u32::MAX };
        self.profile.rows_within(pool.staggered(slo)).max(1)
    }

    /// How low requests run on their own: in short batches on all accelerators that high ones do
    /// not keep busy all the time, or in long ones on those that these can do without; whichever
    /// serves more.
    pub(super) fn low_terms(&self, pool: &Pool, now: Time) -> LowTerms {
        let profile = &self.profile;
        let rows_short = self.low_rows_max(pool, now);
        let rows_long = profile.rows_within(self.terms.slo).max(1);
        if rows_short >= rows_long {
            return LowTerms { rows_max: u32::MAX, reserved: reserved_with_short(pool.high_load) };
        }
        let served = |rows: u32, reserved: f64| {
            let accelerators = (f64::from(pool.accelerators) - reserved).max(0.0);
            accelerators * f64::from(rows) / profile.exec(rows).0 as f64
        };
        let (short, long) =
            (reserved_with_short(pool.high_load), reserved_with_long(pool.high_load));
        if served(rows_long, long) > served(rows_short, short) {
            LowTerms { rows_max: u32::MAX, reserved: long }
        } else {
            LowTerms { rows_max: rows_short, reserved: short }
        }
    }

    /// What is left free for executions that run longer than planned: a quarter of the room that
    /// the objective has for them at most. More of it makes batches so small that the throughput
    /// it costs loses many more requests than are in time by it.
    pub(super) fn overrun_allowance(&self) -> Span {
        let Model { terms, profile, delays, .. } = self;
        let taken = profile.exec(1) + delays.lead(1) + delays.response;
        self.overrun.min(Span(terms.slo.saturating_sub(taken).0 / 4))
    }

    /// What has to be left between the planned end of execution and the deadline.
    fn after_execution(&self) -> Span {
        self.delays.response + self.overrun_allowance()
    }

    /// Whether a request would have met its deadline alone, started when it arrived. One that would
    /// not is no loss that any schedule could have reserved its model.
    pub(super) fn had_a_chance(&self, request: &Request) -> bool {
        self.runs_alone(request.arrival, request)
    }

    /// Whether a request would meet its deadline alone, started now.
    pub(super) fn runs_alone(&self, now: Time, request: &Request) -> bool {
        let due = request.deadline - self.delays.response;
        rows_in_time(&self.profile, &self.delays, now, now, due, request.rows) >= request.rows
    }

    /// How many heads to drop for the sake of those behind them.
    pub(super) fn in_the_way(
        &mut self,
        pool: &Pool,
        now: Time,
        head: &Request,
        outlook: &Outlook,
    ) -> usize {
        match pool.mode {
            Mode::Eager => 0,
            Mode::Adaptive if !self.plan.is_overloaded => self.worth_dropping(pool, now, outlook),
            Mode::Adaptive | Mode::Consolidate => {
                usize::from(self.stands_in_the_way(pool, now, head, outlook))
            }
        }
    }

    /// How many heads to drop so that the batch behind them, up to the one that the load needs,
    /// gains most rows over the price of those that are dropped.
    pub(super) fn worth_dropping(&self, pool: &Pool, now: Time, outlook: &Outlook) -> usize {
        let ModelPlan { target, price, .. } = self.plan;
        let queue = self.queue.leading();
        let target = target.min(self.target_max(pool, now));
        if outlook.next.is_none() || outlook.rows >= target || self.is_deferring(now) {
            return 0;
        }
        let after = self.after_execution();
        let mut left = queue.rows();
        let (mut best, mut most, mut paid) = (0, f64::from(outlook.rows), 0.0);
        for count in 1..queue.len() {
            let (Some(head), Some(next)) = (queue.get(count - 1), queue.get(count)) else {
                break;
            };
            left -= u64::from(head.rows);
            paid += price * f64::from(head.rows);
            // Not even a batch of the target size would be worth it from here on.
            if left <= u64::from(outlook.rows) || f64::from(target) - paid <= most {
                break;
            }
            let due = next.deadline - after;
            let room = rows_in_time(&self.profile, &self.delays, now, now, due, target);
            let rows = u64::from(room).min(left) as f64;
            if rows - paid > most {
                (best, most) = (count, rows - paid);
            }
        }
        best
    }

    /// The largest batch for which a head may be dropped. Low ones give way first: a batch that
    /// suffices for the high ones is large enough for them.
    pub(super) fn target_max(&self, pool: &Pool, now: Time) -> u32 {
        match self.queue.class() {
            Class::High => {
                let need = self.plan.need.filter(|_| pool.lately.has_low(now));
                need.map_or(u32::MAX, |need| need.rows)
            }
            Class::Low => self.low_terms(pool, now).rows_max,
        }
    }

    /// Whether the head leaves out a request that a batch of the target size would take in. The
    /// number of rows alone does not tell: one request of eight fills a target of ten.
    pub(super) fn stands_in_the_way(
        &mut self,
        pool: &Pool,
        now: Time,
        head: &Request,
        outlook: &Outlook,
    ) -> bool {
        let Some(next) = outlook.next.filter(|_| !self.awaits_chance(now)) else { return false };
        let allowed = head.deadline.since(head.arrival);
        let budget = allowed.saturating_sub(self.after_execution() + self.spent);
        let low_per_ns = self.rate_low.rows_per_ns(now);
        let rows_per_ns = match head.class {
            Class::High => (self.rate.rows_per_ns(now) - low_per_ns).max(0.0),
            Class::Low => low_per_ns,
        };
        let target = pool.mode.drop_target(&self.profile, &self.delays, budget, rows_per_ns);
        let target = target.min(self.target_max(pool, now));
        next <= target.saturating_sub(outlook.rows)
    }

    /// Whether the batch was still held back for company. It has not had its chance to start.
    fn is_deferring(&self, now: Time) -> bool {
        self.offered().is_some_and(|offer| offer.exec > now)
    }

    /// The same, or its grant may be on its way. Whoever swaps the head for another now does so for
    /// every request that comes meanwhile.
    fn awaits_chance(&self, now: Time) -> bool {
        self.offered().is_some() && self.opens + self.message > now
    }

    /// What the matcher was offered and has not granted, as far as is known.
    fn offered(&self) -> Option<Offer> {
        let current = self.published.filter(|published| published.generation == self.answered);
        current.and_then(|published| published.offer)
    }

    /// Remembers what goes to the matcher, and from when on that can grant it: not before it hears
    /// of it, unless what it heard before was open already.
    pub(super) fn note_published(&mut self, now: Time, candidate: Candidate) {
        let heard = now + self.message;
        let before = self.published.replace(candidate);
        let is_next = |before: &Candidate| before.generation == candidate.generation;
        let was_open = before.filter(is_next).and_then(|before| before.offer).map(|_| self.opens);
        if let Some(offer) = candidate.offer {
            self.opens = offer.exec.max(was_open.unwrap_or(heard).min(heard));
        }
    }

    /// Drops the heads that would be late even alone, now that a grant has come. Since the queue
    /// was settled time has passed, much of it where the thread was held up; without this they
    /// would have every grant declined.
    pub(super) fn drop_hopeless(&mut self, model: ModelId, now: Time, todo: &mut Actions) {
        let planned = self.delays;
        self.delays = self.delays_after(2);
        while let Some(head) = self.queue.leading().head()
            && !self.runs_alone(now, head)
        {
            self.drop_head(model, now, todo);
        }
        self.delays = planned;
    }

    /// The batch to run on an accelerator that is free from `free`, if its window is open. On
    /// one that lags it is as large as is in time there; whether to start at all does not depend
    /// on the lag, for the candidate was made without it.
    pub(super) fn sealable(&mut self, pool: &Pool, now: Time, free: Time, lag: Slowdown) -> Choice {
        let (planned, granting) = (self.delays, self.delays_after(1));
        self.delays = self.delays_after(2);
        let choice = self.granted(pool, now, free, lag, &granting);
        self.delays = planned;
        choice
    }

    /// The same, with the delays that are left now, and those that there were at the time of the
    /// grant.
    fn granted(
        &mut self,
        pool: &Pool,
        now: Time,
        free: Time,
        lag: Slowdown,
        granting: &Delays,
    ) -> Choice {
        let Some(head) = self.queue.leading().head().copied() else { return Choice::default() };
        let outlook = self.outlook(pool, &head, now, free);
        if outlook.rows == 0 {
            return Choice::default();
        }
        // What the candidate was made of: on an accelerator that is free later, high and low ones
        // may no longer go together, and the high ones alone would wait for company.
        let offered = match self.queue.is_mixed() {
            true => self.outlook(pool, &head, now, now),
            false => outlook,
        };
        let window = pool.mode.window(&self.profile, granting, now, &offered, &self.plan);
        if window.exec > now {
            return Choice::default();
        }
        if lag == Slowdown::ONE {
            return self.chosen(pool, &outlook, now, free);
        }
        let usual = self.profile.slowdown();
        self.profile.set_slowdown(usual.times(lag));
        let outlook = self.outlook(pool, &head, now, free);
        let choice = match outlook.rows {
            0 => Choice::default(),
            _ => self.chosen(pool, &outlook, now, free),
        };
        self.profile.set_slowdown(usual);
        choice
    }

    /// The batch of this outlook.
    pub(super) fn chosen(
        &mut self,
        pool: &Pool,
        outlook: &Outlook,
        now: Time,
        free: Time,
    ) -> Choice {
        if outlook.together {
            return self.queue.all();
        }
        if !self.queue.is_mixed() {
            let leading = self.queue.leading_mut().fit(outlook.rows);
            return Choice { leading, ..Choice::default() };
        }
        self.filled(pool, outlook, now, free)
    }

    /// The batch of high requests of this outlook, and the low ones that ride with them.
    pub(super) fn filled(
        &mut self,
        pool: &Pool,
        outlook: &Outlook,
        now: Time,
        free: Time,
    ) -> Choice {
        let low_rows_max = self.low_rows_max(pool, now);
        let after = self.after_execution();
        let Model { profile, delays, queue, .. } = self;
        let leading = queue.leading_mut().fit(outlook.rows);
        let most = low_rows_max.max(leading.rows);
        let room = rows_in_time(profile, delays, now, free, outlook.due, most);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a batch"
        )]
        let kept = self.owed as u32;
        queue.fill(leading, room, kept, |rows, deadline| {
            let begin = free.max(now + delays.lead(rows));
            begin + profile.exec(rows) <= deadline - after
        })
    }

    /// Notes what low requests are owed now that this batch runs: a share of the rows of high
    /// ones while any of them is left waiting, less what runs.
    pub(super) fn account(&mut self, choice: &Choice, share: f64) {
        let (earned, paid) = match self.queue.class() {
            Class::Low => (0.0, choice.leading.rows),
            Class::High if self.queue.low().len() > choice.riders.len() => {
                (share * f64::from(choice.leading.rows), choice.rider_rows)
            }
            Class::High => (0.0, choice.rider_rows),
        };
        let advance = share * self.high_per_ns * SHARE_ADVANCE.0 as f64;
        let most = f64::from(self.terms.profile.rows_max());
        self.owed = (self.owed + earned - f64::from(paid)).clamp(-advance, most);
    }

    /// Drops low requests behind high ones that can no longer finish in time.
    pub(super) fn drop_late_low(&mut self, model: ModelId, now: Time, todo: &mut Actions) {
        while let Some(latest) = self.low_expiry()
            && latest <= now
            && let Some(request) = self.queue.low_mut().pop_head()
        {
            todo.list.push(Action::Drop { model, request, reason: DropReason::Hopeless });
        }
    }

    /// When the first low request behind high ones can no longer finish in time, even alone.
    pub(super) fn low_expiry(&self) -> Option<Time> {
        let head = self.queue.low().head().filter(|_| self.queue.is_mixed())?;
        let end = head.deadline - self.delays.response;
        let needed = self.profile.exec(head.rows) + self.delays.lead(head.rows);
        // Saturating: one that never had that much time is late from the beginning.
        Some(if end.0 < needed.0 { Time::ZERO } else { end - needed + Span(1) })
    }

    /// Remembers since when the model has had nothing to do.
    pub(super) fn note_idle(&mut self, now: Time) {
        if self.queue.is_empty() && self.running == 0 && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }
}
