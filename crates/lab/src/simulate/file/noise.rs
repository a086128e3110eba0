//! The section of a scenario file about what machines do to execution times and timers.

use super::reader::Reader;
use super::schema::{DelayFile, NoiseFile, ShareFile, SpellsFile, SplitFile, StrikesName};
use crate::simulate::limits::{
    DRIFT_MAX, FIRST_BATCH_MAX, MILLIS_MAX, SPELLS_MAX, SPELLS_PER_S_MAX,
};
use crate::simulate::noise::{bimodal, tail};
use anyhow::Result;
use symphony_core::Span;
use symphony_sim::{Noise, Spells, Strikes};
use toml::Spanned;

impl Reader<'_> {
    pub(super) fn noise(
        &self,
        file: Option<&NoiseFile>,
        split: Option<&SplitFile>,
    ) -> Result<Noise> {
        let Some(file) = file else { return Ok(Noise::default()) };
        if let Some(spells) = file.spells.get(SPELLS_MAX) {
            let problem = format!("noise.spells: give at most {SPELLS_MAX} kinds");
            return self.refuse(spells.per_s.span(), problem);
        }
        let first_batch = file.first_batch.as_ref();
        let first_batch = first_batch.map(|factor| {
            self.number("noise.first_batch", factor, 1.0 / FIRST_BATCH_MAX, FIRST_BATCH_MAX)
        });
        Ok(Noise {
            tail: self.shared("noise.tail", file.tail.as_ref(), tail)?,
            bimodal: self.shared("noise.bimodal", file.bimodal.as_ref(), bimodal)?,
            spells: file.spells.iter().map(|spells| self.spells(spells)).collect::<Result<_>>()?,
            first_batch: first_batch.transpose()?,
            timer: self.delay("noise.timer", self.timer(file, split)?)?,
        })
    }

    fn shared<T>(
        &self,
        key: &str,
        file: Option<&Spanned<ShareFile>>,
        read: fn(f64, f64) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let read = |file: &Spanned<ShareFile>| {
            let &ShareFile { share, factor } = file.get_ref();
            let problem = |problem| self.refuse(file.span(), format!("{key}: {problem}"));
            read(share, factor).or_else(problem)
        };
        file.map(read).transpose()
    }

    fn spells(&self, file: &SpellsFile) -> Result<Spells> {
        let number = |key, value, low, high| self.number(key, value, low, high);
        let (rare, short) = (1.0 / SPELLS_PER_S_MAX, 0.001);
        Ok(Spells {
            per_second: number("noise.spells.per_s", &file.per_s, rare, SPELLS_PER_S_MAX)?,
            length: Span::from_millis_f64(number(
                "noise.spells.length_ms",
                &file.length_ms,
                short,
                MILLIS_MAX,
            )?),
            factor: number("noise.spells.factor", &file.factor, 1.0, DRIFT_MAX)?,
            strikes: match file.strikes {
                StrikesName::One => Strikes::One,
                StrikesName::All => Strikes::All,
            },
        })
    }

    fn timer<'a>(
        &self,
        file: &'a NoiseFile,
        split: Option<&SplitFile>,
    ) -> Result<Option<&'a Spanned<DelayFile>>> {
        match (&file.timer, split) {
            (Some(timer), Some(_)) => {
                let problem = "noise.timer: take it out or [split], whose messages come by timers";
                self.refuse(timer.span(), problem.to_owned())
            }
            (timer, _) => Ok(timer.as_ref()),
        }
    }
}
