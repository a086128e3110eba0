//! The backends that are connected to a frontend, and those whose lives are over.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::FrontendToBackend;

/// So many lives that are over are remembered: more than backends come and go within minutes.
const GONE_MAX: usize = 4096;

/// Bound on links of backends.
const LINKS_MAX: usize = 8192;

/// The backends that are connected, and the lives that are over.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    links: HashMap<u64, LinkSender<FrontendToBackend>>,
    /// Since when there is no link to a life that is not over.
    cut: HashMap<u64, Instant>,
    gone: VecDeque<u64>,
}

impl Backends {
    /// Takes a backend's link.
    ///
    /// # Errors
    /// Its life is over, or there are too many; says which.
    pub(crate) fn arrived(
        &mut self,
        life: u64,
        sender: LinkSender<FrontendToBackend>,
    ) -> Result<(), String> {
        if self.gone.contains(&life) {
            return Err("this life of the backend is over".to_owned());
        }
        if self.links.len() >= LINKS_MAX {
            return Err(format!("{LINKS_MAX} backends are connected, the most there may be"));
        }
        if let Some(before) = self.links.insert(life, sender) {
            before.close("the backend has connected again");
        }
        self.cut.remove(&life);
        Ok(())
    }

    /// A life is over.
    pub(crate) fn gone(&mut self, life: u64, name: &str) {
        if let Some(link) = self.links.remove(&life) {
            tracing::warn!(backend = name, "the backend is gone: its results are refused");
            link.close("this life of the backend is over");
        }
        self.cut.remove(&life);
        self.gone.push_back(life);
        while self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    pub(crate) fn is_gone(&self, life: u64) -> bool {
        self.gone.contains(&life)
    }

    /// A link has ended. Returns whether it was that of this life, and not an earlier one of it.
    pub(crate) fn ended(&mut self, life: u64, sender: &LinkSender<FrontendToBackend>) -> bool {
        let is_last = self.links.get(&life).is_some_and(|link| link.is_same(sender));
        if is_last {
            self.links.remove(&life);
            self.cut.insert(life, Instant::now());
        }
        is_last
    }

    /// The lives that are not over and have had no link for so long. Each is told once.
    pub(crate) fn unheard_for(&mut self, long: Duration) -> Vec<u64> {
        self.cut.extract_if(|_, since| since.elapsed() >= long).map(|(life, _)| life).collect()
    }
}
