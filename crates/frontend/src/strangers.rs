//! The log of peers that were refused: a line per peer and minute, whatever they send.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A peer is told of at most this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Peers that are kept apart; more of them within a minute share one entry.
const PEERS_MAX: usize = 1024;

/// When peers were last told of.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Told>);

impl Strangers {
    /// Writes a line about a peer, unless there was one within the last minute.
    pub(crate) fn tell(&self, peer: IpAddr, what: &str, reason: &dyn Display) {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(peer, Instant::now());
        match turn {
            None => {}
            Some(Turn { peer: Some(peer), silent: 0 }) => tracing::warn!(%peer, "{what}: {reason}"),
            Some(Turn { peer: Some(peer), silent }) => {
                tracing::warn!(%peer, "{what}: {reason} ({silent} more times since it was told of)");
            }
            Some(Turn { peer: None, silent }) => {
                tracing::warn!(
                    "{what}: {reason} (of one of more than {PEERS_MAX} peers that were refused \
                     lately; {silent} more times since they were told of)"
                );
            }
        }
    }
}

/// A line that is to be written.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    /// `None` for the many that are not kept apart.
    peer: Option<IpAddr>,
    /// What was not told since the last line.
    silent: u64,
}

#[derive(Debug)]
struct Entry {
    told: Instant,
    silent: u64,
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.told) < TELL_EVERY
    }
}

#[derive(Debug, Default)]
struct Told {
    peers: HashMap<Option<IpAddr>, Entry>,
}

impl Told {
    fn turn(&mut self, peer: IpAddr, now: Instant) -> Option<Turn> {
        let mut peer = Some(peer);
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, entry| entry.is_fresh(now));
            if self.peers.len() >= PEERS_MAX {
                peer = None;
            }
        }
        let Some(entry) = self.peers.get_mut(&peer) else {
            self.peers.insert(peer, Entry { told: now, silent: 0 });
            return Some(Turn { peer, silent: 0 });
        };
        if entry.is_fresh(now) {
            entry.silent += 1;
            return None;
        }
        let silent = std::mem::take(&mut entry.silent);
        entry.told = now;
        Some(Turn { peer, silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_peer_is_told_of_once_a_minute() {
        let mut told = Told::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let line = |number, silent| Some(Turn { peer: Some(peer(number)), silent });
        assert_eq!(told.turn(peer(1), at(0)), line(1, 0));
        assert_eq!(told.turn(peer(1), at(1)), None);
        assert_eq!(told.turn(peer(2), at(2)), line(2, 0));
        assert_eq!(told.turn(peer(1), at(59)), None);
        assert_eq!(told.turn(peer(1), at(60)), line(1, 2));
        assert_eq!(told.turn(peer(1), at(61)), None);
    }

    #[test]
    fn any_number_of_peers_takes_bounded_room_and_bounded_lines() {
        let mut told = Told::default();
        let start = Instant::now();
        let lines = (0..100_000).filter_map(|number| told.turn(peer(number), start)).count();
        assert_eq!(lines, PEERS_MAX + 1);
        assert_eq!(told.peers.len(), PEERS_MAX + 1);
        let later = start + TELL_EVERY;
        assert_eq!(
            told.turn(peer(7_000_000), later),
            Some(Turn { peer: Some(peer(7_000_000)), silent: 0 })
        );
        assert_eq!(told.peers.len(), 1, "what is old makes room");
    }
}
