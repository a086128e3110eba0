//! How low requests of a model run on their own: in batches of which size, and how many accelerators
//! they leave to high requests.

use super::pool::PoolView;
use crate::profile::Profile;
use crate::time::{Span, Time};

/// How low requests of a model run on their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LowTerms {
    /// Their largest batch.
    pub(super) rows_max: u32,
    /// Accelerators reserved for high requests; a whole number.
    pub(super) reserved: f64,
}

/// The largest batch that low requests may make where high ones, of the tightest objective, have to
/// wait for it.
pub(super) fn rows_max(pool: &PoolView, profile: &Profile, now: Time) -> u32 {
    let Some(slo) = pool.traffic.tightest(now) else { return u32::MAX };
    profile.rows_within(pool.staggered(slo)).max(1)
}

impl LowTerms {
    /// Short batches on all accelerators that high requests do not keep busy all the time, or long
    /// ones on those that high requests can do without; whichever serves more.
    pub(super) fn of(pool: &PoolView, profile: &Profile, slo: Span, now: Time) -> LowTerms {
        let rows_short = rows_max(pool, profile, now);
        let rows_long = profile.rows_within(slo).max(1);
        let short = pool.reserved_with_short_batches();
        if rows_short >= rows_long {
            return LowTerms { rows_max: u32::MAX, reserved: short };
        }
        let served = |rows: u32, reserved: f64| {
            let accelerators = (f64::from(pool.accelerators) - reserved).max(0.0);
            accelerators * f64::from(rows) / profile.exec(rows).0 as f64
        };
        let long = pool.reserved_with_long_batches();
        if served(rows_long, long) > served(rows_short, short) {
            LowTerms { rows_max: u32::MAX, reserved: long }
        } else {
            LowTerms { rows_max: rows_short, reserved: short }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::mode::Mode;

    /// Terms of a model with `l(b) = b + beta` ms under an objective of 100 ms, on eight accelerators
    /// of which high requests with an objective of 20 ms keep so many busy.
    fn terms(beta: u64, high_load: f64) -> LowTerms {
        let ms = Span::from_millis;
        let profile = Profile::linear(ms(1), ms(beta), 64).expect("valid profile");
        let mut pool = PoolView::new(Mode::Consolidate, 8);
        pool.high_load = high_load;
        pool.traffic.note_high(Time::ZERO, ms(20));
        LowTerms::of(&pool, &profile, ms(100), Time::ZERO)
    }

    #[test]
    fn low_batches_are_short_unless_that_wastes_more_than_it_serves() {
        // 8/9 of 20 ms are 17 ms: 12 rows. Short batches leave six accelerators to high requests,
        // long ones all eight.
        assert_eq!(terms(5, 6.6), LowTerms { rows_max: 12, reserved: 6.0 });
        // Six accelerators with batches of 2 rows in 17 ms serve less than five with 64 in 79 ms.
        assert_eq!(terms(15, 2.4), LowTerms { rows_max: u32::MAX, reserved: 3.0 });
    }
}
