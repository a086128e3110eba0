//! What is shown while models are loaded: on a terminal a bar for each load under way and one for
//! all, otherwise a line of the log for each that has ended.

use crate::console::{bars, shows_bars};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use symphony_backend::loader::{Stage, Watcher};

/// How often a bar shows the time that has passed.
const TICK: Duration = Duration::from_millis(250);

/// The loads of a start, and later ones, which are only logged.
#[derive(Clone, Debug)]
pub(super) struct LoadProgress(Arc<Mutex<Loads>>);

#[derive(Debug)]
struct Loads {
    /// The bar for all; gone when the start is over.
    all: Option<ProgressBar>,
    under_way: BTreeMap<String, ProgressBar>,
    expected: u64,
    ended: u64,
}

impl LoadProgress {
    pub(super) fn start() -> LoadProgress {
        let all = shows_bars().then(|| {
            let bar = bars().add(ProgressBar::new(0));
            bar.with_style(style("{bar:24} {pos} of {len} models, about {eta} left"))
        });
        let (under_way, expected, ended) = (BTreeMap::new(), 0, 0);
        LoadProgress(Arc::new(Mutex::new(Loads { all, under_way, expected, ended })))
    }

    /// What is told of loads.
    pub(super) fn watcher(&self) -> Watcher {
        let loads = Arc::clone(&self.0);
        Arc::new(move |model, stage| {
            loads.lock().unwrap_or_else(PoisonError::into_inner).tell(model, stage);
        })
    }

    /// The start is over: nothing is shown any more.
    pub(super) fn end(&self) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = loads.all.take() {
            bar.finish_and_clear();
        }
    }
}

impl Loads {
    fn tell(&mut self, model: &str, stage: Stage) {
        match stage {
            Stage::Waiting => self.expect(1),
            Stage::Reading => {
                tracing::debug!(model, "reading");
                self.show(model, "is read".to_owned());
            }
            Stage::Preparing(engine) => {
                tracing::debug!(model, engine, "preparing");
                self.show(model, format!("is prepared on {engine}"));
            }
            Stage::Measuring => {
                tracing::debug!(model, "measuring");
                self.show(model, "is measured, for 2 s at most".to_owned());
            }
            Stage::Serving | Stage::Failed => self.ended(model, stage),
        }
    }

    fn expect(&mut self, more: u64) {
        self.expected += more;
        if let Some(all) = &self.all {
            all.set_length(self.expected);
        }
    }

    fn show(&mut self, model: &str, what: String) {
        if self.all.is_none() {
            return;
        }
        let new = || {
            let bar = bars().add(ProgressBar::new_spinner());
            bar.enable_steady_tick(TICK);
            bar.with_style(style("  {prefix} {msg} ({elapsed})")).with_prefix(model.to_owned())
        };
        self.under_way.entry(model.to_owned()).or_insert_with(new).set_message(what);
    }

    fn ended(&mut self, model: &str, stage: Stage) {
        self.ended += 1;
        // A load that nobody had to wait for was not announced.
        self.expect(self.ended.saturating_sub(self.expected));
        if let Some(bar) = self.under_way.remove(model) {
            bar.finish_and_clear();
        }
        match &self.all {
            Some(all) => all.inc(1),
            None => {
                let (ended, expected, is_loaded) =
                    (self.ended, self.expected, stage == Stage::Serving);
                tracing::info!(model, is_loaded, "{ended} of {expected} loads have ended");
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_counted_whether_or_not_it_was_announced() {
        let progress = LoadProgress::start();
        let tell = progress.watcher();
        for (model, stage) in [
            ("a", Stage::Waiting),
            ("b", Stage::Waiting),
            ("a", Stage::Reading),
            ("a", Stage::Preparing("rten")),
            ("a", Stage::Measuring),
            ("a", Stage::Serving),
            ("b", Stage::Failed),
            ("c", Stage::Reading),
            ("c", Stage::Serving),
        ] {
            tell(model, stage);
        }
        progress.end();
        let loads = progress.0.lock().unwrap();
        assert_eq!((loads.expected, loads.ended, loads.under_way.len()), (3, 3, 0));
        assert!(loads.all.is_none());
    }
}
