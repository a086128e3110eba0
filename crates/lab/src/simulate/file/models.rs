//! The `[[model]]` sections of a scenario file.

use super::reader::Reader;
use super::schema::{ModelFile, PriorityName, TightFile};
use crate::simulate::limits::{MILLIS_MAX, MODELS_MAX, ROWS_MAX, ROWS_USUAL};
use crate::simulate::model::SimulatedModel;
use crate::simulate::profile_file;
use anyhow::Result;
use std::sync::Arc;
use symphony_core::{Objective, Profile, Span};
use symphony_sim::{Mix, Tight};

impl Reader<'_> {
    pub(super) fn models(
        &self,
        file: &ModelFile,
        models: &mut Vec<SimulatedModel>,
        weights: &mut Vec<f64>,
    ) -> Result<()> {
        let name = file.name.get_ref();
        let profile = Arc::new(self.profile(file)?);
        let objective = self.objective(file, &profile)?;
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
            models.push(SimulatedModel { name, profile, objective, mix, loss_weight });
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

    fn profile(&self, file: &ModelFile) -> Result<Profile> {
        let rows_max = file
            .max_batch
            .as_ref()
            .map_or(Ok(ROWS_USUAL), |rows| self.count("model.max_batch", rows, ROWS_MAX))?;
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
