//! A scenario file as people wrote it becomes a validated [`Setup`] once, in [`read`].

mod load;
mod models;
mod noise;
mod reader;
mod schema;
mod world;

use crate::simulate::input::BadInput;
use crate::simulate::limits::{ACCELERATORS_MAX, SEEDS_MAX, SIGMA_MAX, are_usable};
use crate::simulate::setup::{Setup, Sweep};
use anyhow::Result;
use reader::Reader;
use schema::{File, SweepFile};
use std::path::Path;
use symphony_backend::repository::{ConfigError, TomlSource};
use symphony_core::sched::LOW_SHARE_DEFAULT;
use symphony_sim::PolicyKind;
use toml::Spanned;

/// Reads and validates a scenario.
///
/// # Errors
/// [`BadInput`]: the file cannot be read, or says something that cannot be simulated.
pub(super) fn read(path: &Path) -> Result<Setup> {
    let source = TomlSource::read(path).map_err(BadInput::error)?;
    let file: File = source.parse().map_err(|error| BadInput::error(quoting(&source, error)))?;
    Reader { source: &source, folder: path.parent().unwrap_or(Path::new(".")) }.setup(file)
}

/// A value of the wrong kind is named by its kind alone: adds what stands there, and says what is
/// expected in words for people.
fn quoting(source: &TomlSource, error: ConfigError) -> ConfigError {
    let ConfigError::Invalid { path, line: Some(line), problem } = error else { return error };
    let written = source.text().lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    let problem = match problem.strip_prefix("invalid type: ") {
        Some(rest) => {
            let rest = rest.replace("expected u32", "expected a whole number");
            let rest = rest.replace("expected f64", "expected a number");
            format!("`{written}`: {rest}")
        }
        None => problem,
    };
    ConfigError::Invalid { path, line: Some(line), problem }
}

impl Reader<'_> {
    fn setup(&self, file: File) -> Result<Setup> {
        if file.model.is_empty() {
            return Err(BadInput::error(self.source.refuse(
                None,
                "no model: add a [[model]] section with name, slo_ms and a profile",
            )));
        }
        let mut models = Vec::new();
        let mut weights = Vec::new();
        for model in &file.model {
            self.models(model, &mut models, &mut weights)?;
        }
        let weighted = file.model.iter().any(|model| model.weight.is_some());
        let load = self.load(&file.load, &models, weights, weighted)?;
        let mut setup = Setup {
            accelerators: self.count("accelerators", &file.accelerators, ACCELERATORS_MAX)?,
            policies: file
                .policies
                .iter()
                .map(|name| {
                    let parsed = name.get_ref().parse::<PolicyKind>();
                    parsed.or_else(|error| self.refuse(name.span(), error.to_string()))
                })
                .collect::<Result<_>>()?,
            seeds: self.seeds(file.seeds.as_ref())?,
            warmup: self.span_or("warmup_s", file.warmup_s.as_ref(), 2.0)?,
            measured: self.span_or("seconds", file.seconds.as_ref(), 20.0)?,
            models,
            load,
            network: self.network(file.network.as_ref())?,
            clock_error: self.clock_error(file.network.as_ref())?,
            execution_sigma: file
                .execution_sigma
                .as_ref()
                .map_or(Ok(0.0), |sigma| self.number("execution_sigma", sigma, 0.0, SIGMA_MAX))?,
            noise: self.noise(file.noise.as_ref(), file.split.as_ref())?,
            drift: self.drift(&file.drift, *file.accelerators.get_ref())?,
            adapt_profile: file.adapt_profile.unwrap_or(true),
            low_priority_share: file
                .low_priority_share
                .as_ref()
                .map_or(Ok(LOW_SHARE_DEFAULT), |share| {
                    self.number("low_priority_share", share, 0.0, 1.0)
                })?,
            split: file.split.as_ref().map(|split| self.split(split)).transpose()?,
            sweep: None,
        };
        setup.sweep = file.sweep.map(|sweep| self.sweep(sweep, &setup)).transpose()?;
        Ok(setup)
    }

    fn seeds(&self, seeds: Option<&Spanned<Vec<u64>>>) -> Result<Vec<u64>> {
        let Some(seeds) = seeds else { return Ok(vec![1, 2, 3]) };
        if (1..=SEEDS_MAX).contains(&seeds.get_ref().len()) {
            return Ok(seeds.get_ref().clone());
        }
        self.refuse(seeds.span(), format!("seeds: give 1 to {SEEDS_MAX} numbers"))
    }

    fn sweep(&self, file: SweepFile, setup: &Setup) -> Result<Sweep> {
        let values = file.values.get_ref();
        if !are_usable(values) {
            let problem = "sweep.values: give numbers from 0, in growing order";
            return self.refuse(file.values.span(), problem.to_owned());
        }
        for &value in values {
            if let Err(error) = setup.with(file.parameter, value) {
                return self.refuse(file.values.span(), format!("sweep.values: {error}"));
            }
        }
        Ok(Sweep {
            parameter: file.parameter,
            values: values.clone(),
            measures: vec![file.measure],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::profile_file;

    #[test]
    fn every_shipped_profile_is_one_and_names_its_source() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles");
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in files {
            profile_file::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(std::fs::read_to_string(&path).unwrap().starts_with("source = "), "{path:?}");
            count += 1;
        }
        assert!(count > 5, "{count} profiles in {}", folder.display());
    }

    /// Also with what it shows only as a comment.
    #[test]
    fn the_documented_scenario_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(root.join("docs/simulate.md")).unwrap();
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (scenario, _) = rest.split_once("```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("profiles")).unwrap();
        std::fs::create_dir_all(folder.path().join("scenarios")).unwrap();
        let profile = "profiles/resnet50.toml";
        std::fs::copy(root.join(profile), folder.path().join(profile)).unwrap();
        let path = folder.path().join("scenarios/s.toml");
        let by_rank = scenario.replace("\nweight =", "\n# weight =").replace("# zipf =", "zipf =");
        for text in [scenario, &by_rank] {
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_ne!(scenario, by_rank);
    }

    #[test]
    fn every_shipped_experiment_is_a_scenario() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in files {
            read(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
        assert!(count > 10, "{count} experiments in {}", folder.display());
    }
}
