//! The `[[model]]` sections of a scenario file.

use super::reader::Reader;
use super::schema::{ModelFile, PriorityName, SizesFile, TightFile};
use crate::simulate::limits::{
    MILLIS_MAX, MODELS_MAX, ROWS_MAX, ROWS_USUAL, SIZE_MAX, SIZES_RECORDED_MAX,
};
use crate::simulate::model::SimulatedModel;
use crate::simulate::profile_file;
use anyhow::Result;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use symphony_core::{Objective, Profile, ProfileError, SizedProfile, Span};
use symphony_sim::{DrawnSizes, Mix, Sizes, Tight};
use toml::Spanned;

impl Reader<'_> {
    pub(super) fn models(
        &self,
        file: &ModelFile,
        models: &mut Vec<SimulatedModel>,
        weights: &mut Vec<f64>,
    ) -> Result<()> {
        let name = file.name.get_ref();
        let costs = self.costs(file)?;
        let profile = Arc::new(costs.at(costs.size_max()));
        let objective = self.objective(file, &profile)?;
        let sizes = file.sizes.as_ref().map(|sizes| self.sizes(sizes, costs)).transpose()?;
        let loss_weight = file
            .loss_weight
            .as_ref()
            .map_or(Ok(1.0), |weight| self.number("model.loss_weight", weight, 0.01, 100.0))?;
        let weight = file
            .weight
            .as_ref()
            .map_or(Ok(1.0), |weight| self.number("model.weight", weight, 1e-9, 1e9))?;
        let copies = file
            .copies
            .as_ref()
            .map_or(Ok(1), |copies| self.count("model.copies", copies, MODELS_MAX))?;
        let mix = self.mix(file, objective.span())?;
        for copy in 0..copies {
            let name = if copies == 1 { name.clone() } else { format!("{name}-{copy}") };
            if name.is_empty() || models.iter().any(|model: &SimulatedModel| model.name == name) {
                return self.refuse(
                    file.name.span(),
                    format!("model.name = {name:?}: give each model a name of its own"),
                );
            }
            let profile = Arc::clone(&profile);
            models.push(SimulatedModel {
                name,
                profile,
                objective,
                mix,
                loss_weight,
                sizes: sizes.clone(),
            });
            weights.push(weight);
        }
        Ok(())
    }

    /// What the file promises, or the objective of best effort.
    fn objective(&self, file: &ModelFile, profile: &Profile) -> Result<Objective> {
        let alone = profile.exec(1);
        let Some(given) = &file.slo_ms else { return Ok(Objective::soft(alone)) };
        let slo = Span::from_millis_f64(self.number("model.slo_ms", given, 0.001, MILLIS_MAX)?);
        if slo < alone {
            let (slo, alone) = (slo.as_millis_f64(), alone.as_millis_f64());
            let name = file.name.get_ref();
            return self.refuse(
                given.span(),
                format!(
                    "model.slo_ms = {slo}: model {name:?} takes {alone} ms alone, l(1): \
                     no request could be in time; give at least that"
                ),
            );
        }
        Ok(Objective::Slo(slo))
    }

    fn mix(&self, file: &ModelFile, slo: Span) -> Result<Mix> {
        let low_share = match (file.priority, &file.low_share) {
            (None, Some(share)) => self.number("model.low_share", share, 0.0, 1.0)?,
            (Some(_), Some(share)) => self.refuse(
                share.span(),
                "model.low_share: the model has a priority, which is that of all its requests; \
                 give one or the other"
                    .to_owned(),
            )?,
            (Some(PriorityName::Low), None) => 1.0,
            (Some(PriorityName::High) | None, None) => 0.0,
        };
        let Some(tight) = &file.tight else { return Ok(Mix { low_share, tight: None }) };
        let &TightFile { share, deadline_ms } = tight.get_ref();
        let due = Span::from_millis_f64(deadline_ms);
        if !(0.0..=1.0).contains(&share) || due == Span::ZERO || due > slo {
            return self.refuse(
                tight.span(),
                format!(
                    "model.tight: give share from 0 to 1 and deadline_ms above 0, at most slo_ms = {}",
                    slo.as_millis_f64()
                ),
            );
        }
        Ok(Mix { low_share, tight: Some(Tight { share, due }) })
    }

    /// What its batches cost, by size where sizes differ.
    fn costs(&self, file: &ModelFile) -> Result<SizedProfile> {
        let Some(sizes) = &file.sizes else {
            return Ok(SizedProfile::fixed(1, self.profile(file)?));
        };
        let rows_max = self.rows_max(file)?;
        match (sizes.get_ref(), &file.profile, &file.alpha_ms, &file.beta_ms) {
            (SizesFile { alpha_us: None, bound: None, .. }, Some(path), None, None) => {
                profile_file::read_sized(&self.folder.join(path.get_ref()), rows_max)
                    .or_else(|error| self.refuse(path.span(), format!("model.profile: {error}")))
            }
            (SizesFile { alpha_us: Some(element), bound: Some(bound), .. }, None, Some(row), Some(beta)) => {
                let element = self.part("model.sizes.alpha_us", *element, MILLIS_MAX, sizes.span())?;
                let bound = self.size_bound(*bound, sizes.span())?;
                let row = self.number("model.alpha_ms", row, 0.0, MILLIS_MAX)?;
                let base = self.number("model.beta_ms", beta, 0.0, MILLIS_MAX)?;
                let line = |size: u64| {
                    let alpha = Span::from_millis_f64(row + element * size as f64 / 1e3);
                    Ok((size, Profile::linear(alpha, Span::from_millis_f64(base), rows_max)?))
                };
                let lines = [1, bound].into_iter().map(line).collect::<Result<_, ProfileError>>();
                let lines = lines.or_else(|error| self.refuse(beta.span(), error.to_string()))?;
                SizedProfile::new(lines).or_else(|error| self.refuse(sizes.span(), error.to_string()))
            }
            _ => self.refuse(
                sizes.span(),
                format!(
                    "model {:?}: a model with sizes needs its latency by size: alpha_ms and beta_ms \
                     with sizes.alpha_us (per element) and sizes.bound, or profile = \"FILE\" whose \
                     [[size]] sections say how many elements",
                    file.name.get_ref()
                ),
            ),
        }
    }

    /// Which sizes come.
    fn sizes(&self, place: &Spanned<SizesFile>, costs: SizedProfile) -> Result<Sizes> {
        let drawn = match place.get_ref() {
            SizesFile { median: Some(median), p99: Some(p99), trace: None, .. } => {
                let most = costs.size_max() as f64;
                let median = self.part("model.sizes.median", *median, most, place.span())?;
                if *p99 <= median || *p99 > 1e3 * median {
                    let problem = "model.sizes.p99: give more than the median, up to 1000 times";
                    return self.refuse(place.span(), problem.to_owned());
                }
                DrawnSizes::log_normal(median, *p99)
            }
            SizesFile { median: None, p99: None, trace: Some(path), .. } => {
                let recorded = recorded_sizes(&self.folder.join(path));
                DrawnSizes::Recorded(recorded.or_else(|problem| {
                    self.refuse(place.span(), format!("model.sizes.trace: {problem}"))
                })?)
            }
            _ => self.refuse(
                place.span(),
                "model.sizes: give median and p99, or trace = \"FILE\" with a size a line"
                    .to_owned(),
            )?,
        };
        Ok(Sizes { costs: Arc::new(costs), drawn })
    }

    fn size_bound(&self, bound: u64, at: Range<usize>) -> Result<u64> {
        if (2..=SIZE_MAX).contains(&bound) {
            return Ok(bound);
        }
        self.refuse(at, format!("model.sizes.bound = {bound}: give a number from 2 to {SIZE_MAX}"))
    }

    /// A number of a section that has one place.
    fn part(&self, key: &str, number: f64, most: f64, at: Range<usize>) -> Result<f64> {
        if number > 0.0 && number <= most {
            return Ok(number);
        }
        self.refuse(at, format!("{key} = {number}: give a number above 0, up to {most}"))
    }

    fn rows_max(&self, file: &ModelFile) -> Result<u32> {
        let rows = file.max_batch.as_ref();
        rows.map_or(Ok(ROWS_USUAL), |rows| self.count("model.max_batch", rows, ROWS_MAX))
    }

    fn profile(&self, file: &ModelFile) -> Result<Profile> {
        let rows_max = self.rows_max(file)?;
        let millis = |key, value| self.number(key, value, 0.0, MILLIS_MAX);
        match (&file.profile, &file.alpha_ms, &file.beta_ms, &file.table_ms) {
            (Some(path), None, None, None) => {
                let read = profile_file::read(&self.folder.join(path.get_ref()))
                    .or_else(|error| self.refuse(path.span(), format!("model.profile: {error}")))?;
                match &file.max_batch {
                    None => Ok(read),
                    Some(max) => profile_file::cut(&read, rows_max)
                        .or_else(|error| self.refuse(max.span(), error.to_string())),
                }
            }
            (None, Some(alpha), Some(beta), None) => {
                let alpha = Span::from_millis_f64(millis("model.alpha_ms", alpha)?);
                let line = Span::from_millis_f64(millis("model.beta_ms", beta)?);
                Profile::linear(alpha, line, rows_max)
                    .or_else(|error| self.refuse(beta.span(), error.to_string()))
            }
            (None, None, None, Some(table)) => {
                let spans = table.get_ref().iter().map(|&ms| Span::from_millis_f64(ms)).collect();
                Profile::from_table(spans)
                    .or_else(|error| self.refuse(table.span(), error.to_string()))
            }
            _ => self.refuse(
                file.name.span(),
                format!(
                    "model {:?}: give its latency as one of profile = \"FILE\", alpha_ms with \
                     beta_ms, or table_ms",
                    file.name.get_ref()
                ),
            ),
        }
    }
}

/// The sizes of a file, one a line.
fn recorded_sizes(path: &Path) -> Result<Arc<[u64]>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let size = |(number, line): (usize, &str)| {
        let size = line.trim().parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
        size.ok_or_else(|| {
            format!("{shown}: line {}: give a number from 1 to {SIZE_MAX}", number + 1)
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let sizes = lines.map(size).collect::<Result<Vec<u64>, String>>()?;
    if sizes.is_empty() || sizes.len() > SIZES_RECORDED_MAX {
        return Err(format!("{shown}: give 1 to {SIZES_RECORDED_MAX} sizes, one a line"));
    }
    Ok(sizes.into())
}
