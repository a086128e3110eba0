//! Upper bounds for goodput: of any schedule, and of any staggered schedule.

use symphony_core::{Profile, Span};

/// Requests per second of one model on `accelerators` accelerators when batches start `l(b)/n`
/// apart: `n*b/l(b)` with the largest `b` for which `l(b)*(1 + 1/n) <= slo`. Zero when not even one
/// row fits.
#[must_use]
pub fn staggered(profile: &Profile, slo: Span, accelerators: u32) -> f64 {
    let n = f64::from(accelerators);
    let budget = Span::from_millis_f64(slo.as_millis_f64() * n / (n + 1.0));
    rate(profile, profile.rows_within(budget), n)
}

/// The requests per second of one model that no schedule can exceed: `n*b/l(b)`, `l(b) <= slo`.
#[must_use]
pub fn bound(profile: &Profile, slo: Span, accelerators: u32) -> f64 {
    rate(profile, profile.rows_within(slo), f64::from(accelerators))
}

/// The total requests per second at which `accelerators` accelerators are always busy even though
/// every model runs the largest batches that gather within its objective: `sum(r_m * l_m(b_m)/b_m)
/// = n`, `b_m` the largest with `(b - 1)/r_m + l_m(b) <= slo_m`. `models` holds the profile, the
/// objective and the share of the total rate of each model; the shares add up to one. Zero when a
/// single request of a model misses its objective.
#[must_use]
pub fn rate_limited(models: &[(&Profile, Span, f64)], accelerators: u32) -> f64 {
    let n = f64::from(accelerators);
    let fits = |total: f64| {
        let load =
            models.iter().map(|&(profile, slo, share)| occupied(profile, slo, share * total));
        load.sum::<f64>() <= n
    };
    let most: f64 = models.iter().map(|(profile, slo, _)| bound(profile, *slo, accelerators)).sum();
    let (mut held, mut failed) = (0.0, most);
    for _ in 0..60 {
        let middle = (held + failed) / 2.0;
        if fits(middle) { held = middle } else { failed = middle }
    }
    held
}

/// The number of accelerators that a model with this rate keeps busy in its largest batches.
fn occupied(profile: &Profile, slo: Span, rate: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let (mut rows, mut highest) = (0, profile.rows_within(slo));
    while rows < highest {
        let middle = rows + (highest - rows).div_ceil(2);
        let gathering = f64::from(middle - 1) / rate * 1e9;
        if gathering <= slo.saturating_sub(profile.exec(middle)).0 as f64 {
            rows = middle;
        } else {
            highest = middle - 1;
        }
    }
    match rows {
        0 => f64::INFINITY,
        _ => rate * profile.exec(rows).as_secs_f64() / f64::from(rows),
    }
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

    #[test]
    fn the_rate_limited_bound_of_the_published_mix() {
        let profile = Profile::linear(Span(1_053_000), Span(5_072_000), 64).unwrap();
        let weights: Vec<f64> = (1..=10).map(|rank| libm::pow(f64::from(rank), -0.9)).collect();
        let total: f64 = weights.iter().sum();
        let slo = Span::from_millis(25);
        let mix: Vec<_> = weights.iter().map(|weight| (&profile, slo, weight / total)).collect();
        let rate = rate_limited(&mix, 8);
        assert!((rate - 4254.0).abs() < 5.0, "{rate}");
        assert!(rate_limited(&[(&profile, slo, 1.0)], 8) <= bound(&profile, slo, 8) + 1e-6);
        assert_eq!(rate_limited(&[(&profile, Span::from_millis(6), 1.0)], 8).round(), 0.0);
    }
}
