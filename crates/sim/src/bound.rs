//! What no schedule, or no staggered schedule, can pass: the yardsticks for goodput.

use symphony_core::{Profile, Span};

/// Requests per second of one model on `accelerators` accelerators when batches start
/// `l(b)/n` apart: `n*b/l(b)` with the largest `b` for which `l(b)*(1 + 1/n) <= slo`.
/// Zero when not even one row fits.
#[must_use]
pub fn staggered(profile: &Profile, slo: Span, accelerators: u32) -> f64 {
    let n = f64::from(accelerators);
    let budget = Span::from_millis_f64(slo.as_millis_f64() * n / (n + 1.0));
    rate(profile, profile.rows_within(budget), n)
}

/// Requests per second that no schedule of one model passes: `n*b/l(b)`, `l(b) <= slo`.
#[must_use]
pub fn bound(profile: &Profile, slo: Span, accelerators: u32) -> f64 {
    rate(profile, profile.rows_within(slo), f64::from(accelerators))
}

fn rate(profile: &Profile, rows: u32, n: f64) -> f64 {
    match rows {
        0 => 0.0,
        _ => n * f64::from(rows) / profile.exec(rows).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_profile_has_its_published_yardsticks() {
        let profile = Profile::linear(Span(1_053_000), Span(5_072_000), 64).unwrap();
        let at = |n| staggered(&profile, Span::from_millis(25), n).round();
        assert_eq!([at(1), at(8), at(24)], [563.0, 5839.0, 17760.0]);
        assert_eq!(bound(&profile, Span::from_millis(25), 8).round(), 5994.0);
    }
}
