//! What a waiting process says in the log: each thing once, not at every try.

use std::time::{Duration, Instant};

use tracing::{info, warn};

/// After so long the same is said again, for those who look only at the newest lines.
const AGAIN: Duration = Duration::from_secs(60);

/// What was said last, and when.
#[derive(Debug, Default)]
pub(crate) struct Said(Option<(String, Instant)>);

impl Said {
    pub(crate) fn info(&mut self, what: String) {
        if self.is_new(&what) {
            info!("{what}");
            self.0 = Some((what, Instant::now()));
        }
    }

    pub(crate) fn warn(&mut self, what: String) {
        if self.is_new(&what) {
            warn!("{what}");
            self.0 = Some((what, Instant::now()));
        }
    }

    fn is_new(&self, what: &str) -> bool {
        self.0.as_ref().is_none_or(|(said, when)| said != what || when.elapsed() > AGAIN)
    }
}
