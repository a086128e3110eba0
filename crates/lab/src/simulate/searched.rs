//! The scenario of a command that searches for a rate: its file, and what takes the place of parts of
//! it.

use super::file;
use super::noise::NoiseArgs;
use super::setup::Setup;
use anyhow::Result;
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct SearchedArgs {
    /// The scenario file; its rate is not used.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Seeds of the requests; the median counts [default: the scenario's, or 1, 2 and 3].
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// How many accelerators there are [default: the scenario's].
    #[arg(long)]
    accelerators: Option<u32>,
    #[command(flatten)]
    noise: NoiseArgs,
}

impl SearchedArgs {
    /// Reads the scenario.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or a value in place of one of its is out of range.
    pub(super) fn read(&self) -> Result<Setup> {
        let mut setup = file::read(&self.scenario)?;
        setup.replace_seeds(&self.seeds);
        self.noise.apply(&mut setup)?;
        setup.replace_accelerators(self.accelerators)?;
        Ok(setup)
    }
}
