//! Noise that a command line puts in place of the scenario's.

use super::input::BadInput;
use super::limits::SIGMA_MAX;
use super::setup::Setup;
use anyhow::Result;

/// Options of every command that simulates.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct NoiseArgs {
    /// Relative spread of execution times [default: the scenario's].
    #[arg(long, value_name = "SIGMA")]
    sigma: Option<f64>,
}

impl NoiseArgs {
    /// The spread that was asked for.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn sigma(self) -> Result<Option<f64>> {
        match self.sigma {
            Some(sigma) if !(0.0..=SIGMA_MAX).contains(&sigma) => Err(BadInput::error(format!(
                "--sigma {sigma}: give a number from 0 to {SIGMA_MAX}"
            ))),
            sigma => Ok(sigma),
        }
    }

    /// Puts it in place of the scenario's.
    ///
    /// # Errors
    /// It cannot be simulated.
    pub(super) fn apply(self, setup: &mut Setup) -> Result<()> {
        if let Some(sigma) = self.sigma()? {
            setup.execution_sigma = sigma;
        }
        Ok(())
    }
}
