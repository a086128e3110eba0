//! What is logged of peers that are refused: of each, once a minute. A peer that tries again all the
//! time, or a stranger, does not fill the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a peer is not mentioned again.
const QUIET: Duration = Duration::from_mins(1);
/// Bound on peers that are remembered.
const PEERS_MAX: usize = 1024;

/// Remembers who was mentioned; clones share it.
#[derive(Clone, Debug, Default)]
pub struct RefusalLog(Arc<Mutex<HashMap<String, Mentioned>>>);

#[derive(Debug)]
struct Mentioned {
    at: Instant,
    /// Refusals since.
    more: u64,
}

impl RefusalLog {
    /// A peer was refused. It is logged, unless it was within the last minute.
    pub fn refused(&self, peer: &str, why: &str) {
        if let Some(more) = self.to_mention(peer, Instant::now()) {
            tracing::warn!(peer, more_since_last = more, "refused a connection: {why}");
        }
    }

    /// How often the peer was refused since it was mentioned last; `None` while it is not to be
    /// mentioned.
    fn to_mention(&self, peer: &str, now: Instant) -> Option<u64> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |mentioned: &Mentioned| now.duration_since(mentioned.at) < QUIET;
        if let Some(mentioned) = peers.get_mut(peer) {
            if is_quiet(mentioned) {
                mentioned.more += 1;
                return None;
            }
            mentioned.at = now;
            return Some(std::mem::take(&mut mentioned.more));
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, mentioned| is_quiet(mentioned));
        }
        if peers.len() >= PEERS_MAX {
            return None;
        }
        peers.insert(peer.to_owned(), Mentioned { at: now, more: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_mentioned_once_a_minute() {
        let log = RefusalLog::default();
        let now = Instant::now();
        assert_eq!(log.to_mention("a", now), Some(0));
        assert_eq!(log.to_mention("b", now), Some(0));
        assert_eq!(log.to_mention("a", now + QUIET / 2), None);
        assert_eq!(log.to_mention("a", now + QUIET), Some(1));
        assert_eq!(log.to_mention("a", now + QUIET), None);
    }

    #[test]
    fn no_more_peers_are_remembered_than_the_bound() {
        let log = RefusalLog::default();
        let now = Instant::now();
        let mentioned = |at| {
            let names = (0..2 * PEERS_MAX).map(|number| number.to_string());
            names.filter(|name| log.to_mention(name, at).is_some()).count()
        };
        assert_eq!(mentioned(now), PEERS_MAX);
        assert_eq!(mentioned(now + QUIET), PEERS_MAX);
    }
}
