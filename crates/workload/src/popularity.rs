//! How a total rate is split over models.

use crate::WorkloadError;

/// How popular models are relative to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Popularity {
    /// All the same.
    Uniform,
    /// The model of rank `k` (from 1, in order of number) has the weight `k^-s`, where `s` is this
    /// exponent.
    Zipf(f64),
    /// These weights, one per model.
    Weights(Vec<f64>),
}

impl Popularity {
    /// The share of the total rate of each of `models` models; they add up to one.
    ///
    /// # Errors
    /// A weight or the exponent is negative or not a number, all weights are zero, or the number of
    /// weights is not the number of models.
    pub fn shares(&self, models: usize) -> Result<Vec<f64>, WorkloadError> {
        let number = |what, value: f64| match value {
            _ if value.is_finite() && value >= 0.0 => Ok(value),
            _ => Err(WorkloadError::Popularity { what, value }),
        };
        let weights = match self {
            Popularity::Uniform => vec![1.0; models],
            Popularity::Zipf(exponent) => {
                let exponent = number("the exponent", *exponent)?;
                (1..=models).map(|rank| libm::pow(rank as f64, -exponent)).collect()
            }
            Popularity::Weights(weights) if weights.len() == models => {
                weights.iter().map(|&w| number("a weight", w)).collect::<Result<_, _>>()?
            }
            Popularity::Weights(weights) => {
                return Err(WorkloadError::Weights { weights: weights.len(), models });
            }
        };
        let total: f64 = weights.iter().sum();
        if total > 0.0 && total.is_finite() {
            Ok(weights.into_iter().map(|weight| weight / total).collect())
        } else {
            Err(WorkloadError::Popularity { what: "the sum of the weights", value: total })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_named_popularity() {
        assert_eq!(Popularity::Uniform.shares(4), Ok(vec![0.25; 4]));
        assert_eq!(Popularity::Weights(vec![3.0, 0.0, 1.0]).shares(3), Ok(vec![0.75, 0.0, 0.25]));
        let zipf = Popularity::Zipf(0.9).shares(10).unwrap();
        let relative: Vec<_> = zipf.iter().map(|s| (s / zipf[0] * 100.0).round()).collect();
        assert_eq!(relative, [100.0, 54.0, 37.0, 29.0, 23.0, 20.0, 17.0, 15.0, 14.0, 13.0]);
    }

    #[test]
    fn what_is_no_popularity_is_refused() {
        for bad in [
            Popularity::Zipf(-1.0),
            Popularity::Zipf(f64::NAN),
            Popularity::Weights(vec![0.0, 0.0]),
            Popularity::Weights(vec![1.0, -1.0]),
            Popularity::Weights(vec![1.0]),
        ] {
            assert!(bad.shares(2).is_err(), "{bad:?}");
        }
    }
}
