//! `symphony serve --check`: what can be said of a repository without serving it.

use crate::config::ServeConfig;
use crate::console::say;
use anyhow::{Result, bail};
use symphony_backend::loader::{Checked, LoadError, Loader, Ran};
use symphony_backend::repository::{Note, Repository, Scan};

/// How thoroughly to check, and how much to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// Load each model and run it.
    pub(super) run: bool,
    /// Say everything that is wrong with a model.
    pub(super) verbose: bool,
}

impl Check {
    /// Checks every model of a repository.
    pub(super) fn repository(self, config: &ServeConfig, repository: &Repository) -> Result<()> {
        config.frontend.security.check()?;
        let loader = Loader::new(config.process.pool.loader.clone());
        let Scan { models, skipped } = repository.scan()?;
        for directory in &skipped {
            say(format_args!("skip  {directory}"));
        }
        let mut failed = 0;
        for directory in &models {
            let checked =
                if self.run { loader.try_out(directory) } else { loader.check(directory) };
            match checked {
                Ok(versions) => {
                    for checked in &versions {
                        say(format_args!("ok    {}", told(checked)));
                    }
                    say_notes(&versions);
                }
                Err(error) => {
                    self.say_error(&error);
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} models cannot be served", models.len());
        }
        say(format_args!("{} models can be served", models.len()));
        Ok(())
    }

    fn say_error(self, error: &LoadError) {
        say(format_args!("error {error}"));
        if self.verbose {
            for detail in error.details() {
                say(format_args!("      {detail}"));
            }
        }
    }
}

/// Says once for a model what is done in place of what its `config.pbtxt` asks for.
fn say_notes(versions: &[Checked]) {
    let Some(Checked { name, notes, .. }) = versions.first() else { return };
    for Note { key, instead } in notes {
        say(format_args!("note  {name}: config.pbtxt: {key}: {instead}"));
    }
}

fn told(checked: &Checked) -> String {
    let Checked { name, version, ran, .. } = checked;
    let Some(Ran { engine, rows_max, unbatched }) = ran else { return format!("{name} {version}") };
    match unbatched {
        Some(reason) => {
            format!("{name} {version}: runs on {engine}, one request per batch: {reason}")
        }
        None => format!("{name} {version}: runs on {engine}, up to {rows_max} rows per batch"),
    }
}
