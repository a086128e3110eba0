//! Noise that a command line puts in place of the scenario's.

use super::input::BadInput;
use super::limits::{DRIFT_MAX, SIGMA_MAX};
use super::setup::Setup;
use anyhow::Result;
use symphony_sim::{Bimodal, Noise, Tail};

/// Options of every command that simulates.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct NoiseArgs {
    /// Relative spread of execution times [default: the scenario's].
    #[arg(long)]
    sigma: Option<f64>,
    /// This share of the batches takes so many times its time [default: the scenario's].
    #[arg(long, value_name = "SHARE:FACTOR", value_parser = read_tail)]
    tail: Option<Tail>,
    /// This share of the requests takes so many times the time of the others, and nothing tells
    /// which [default: the scenario's].
    #[arg(long, value_name = "SHARE:FACTOR", value_parser = read_bimodal)]
    bimodal: Option<Bimodal>,
}

impl NoiseArgs {
    /// The spread that was asked for, and the other noise in place of this.
    ///
    /// # Errors
    /// It cannot be simulated.
    pub(super) fn over(self, sigma: f64, noise: Noise) -> Result<(f64, Noise)> {
        let sigma = self.sigma.unwrap_or(sigma);
        if !(0.0..=SIGMA_MAX).contains(&sigma) {
            return Err(BadInput::error(format!(
                "--sigma {sigma}: give a number from 0 to {SIGMA_MAX}"
            )));
        }
        let (tail, bimodal) = (self.tail.or(noise.tail), self.bimodal.or(noise.bimodal));
        Ok((sigma, Noise { tail, bimodal, ..noise }))
    }

    /// Puts it in place of the scenario's.
    ///
    /// # Errors
    /// It cannot be simulated.
    pub(super) fn apply(self, setup: &mut Setup) -> Result<()> {
        let noise = std::mem::take(&mut setup.noise);
        (setup.execution_sigma, setup.noise) = self.over(setup.execution_sigma, noise)?;
        Ok(())
    }
}

/// A tail that can be simulated.
///
/// # Errors
/// What to give instead.
pub(super) fn tail(share: f64, factor: f64) -> Result<Tail, String> {
    if (0.0..=1.0).contains(&share) && (1.0 / DRIFT_MAX..=DRIFT_MAX).contains(&factor) {
        return Ok(Tail { share, factor });
    }
    Err(format!("give share from 0 to 1 and factor from 0.01 to {DRIFT_MAX}"))
}

/// Costs by input that can be simulated.
///
/// # Errors
/// What to give instead.
pub(super) fn bimodal(share: f64, factor: f64) -> Result<Bimodal, String> {
    if (0.0..=1.0).contains(&share) && (0.01..=1.0).contains(&factor) {
        return Ok(Bimodal { share, factor });
    }
    Err("give share from 0 to 1 and factor from 0.01 to 1".to_owned())
}

fn read_tail(text: &str) -> Result<Tail, String> {
    let (share, factor) = pair(text)?;
    tail(share, factor)
}

fn read_bimodal(text: &str) -> Result<Bimodal, String> {
    let (share, factor) = pair(text)?;
    bimodal(share, factor)
}

fn pair(text: &str) -> Result<(f64, f64), String> {
    let numbers = text.split_once(':').and_then(|(share, factor)| {
        Some((share.trim().parse().ok()?, factor.trim().parse().ok()?))
    });
    numbers.ok_or_else(|| "give two numbers, SHARE:FACTOR".to_owned())
}
