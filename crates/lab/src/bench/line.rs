//! The straight line through points.

/// The slope of the line with the least squared distances in y; `None` when all x are alike.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let common: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_is_found_and_none_where_there_is_none() {
        let line: Vec<_> = (0..9).map(|x| (f64::from(x), 7.0 - 3.0 * f64::from(x))).collect();
        assert!((slope(&line).unwrap() + 3.0).abs() < 1e-9);
        let noisy = [(0.0, 0.0), (1.0, 2.0), (2.0, 0.0), (3.0, 2.0)];
        assert!((slope(&noisy).unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 5.0)]), None);
    }
}
