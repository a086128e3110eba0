//! What a process decides of its ends of links.

use super::hello::Terms;
use super::socket::Socket;
use crate::carrier::shared_memory::Arena;
use crate::clock::Clock;
use std::io;
use std::time::Duration;
use symphony_tls::Identity;

/// How a process holds its ends of links.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// How often a heartbeat is sent.
    pub heartbeat: Duration,
    /// A link is dead when nothing came for so many heartbeats, of the rarer of both ends.
    pub missed_max: u32,
    /// The longest frame body that is taken, in bytes.
    pub frame_max: usize,
    /// Nothing more is taken for sending while so many bytes wait for the peer to read. What waits is
    /// at most this and one frame.
    pub out_max: usize,
    /// How long connecting may take, and a peer that has connected may take for its hello.
    pub hello_timeout: Duration,
    /// The clock of the process.
    pub clock: Clock,
    /// What protects a link.
    pub security: Security,
    /// Memory for tensors that peers on this host read where they lie, over links whose endpoint is a
    /// socket in the file system.
    pub arena: Option<Arena>,
}

/// What protects a link against those who can reach its network.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Nothing, so only this host is spoken to.
    #[default]
    Plain,
    /// Nothing, and any host is spoken to: somebody has said that the network is safe.
    PlainAnywhere,
    /// TLS on every TCP connection, and both ends show a certificate of an authority that the other
    /// trusts. A socket in the file system of this host is plain: the rights to its path protect it.
    Tls(Identity),
}

impl LinkSettings {
    /// What holds where nobody says anything else.
    #[must_use]
    pub fn new(clock: Clock) -> LinkSettings {
        LinkSettings {
            heartbeat: Duration::from_millis(100),
            missed_max: 3,
            frame_max: 64 << 20,
            out_max: 16 << 20,
            hello_timeout: Duration::from_secs(2),
            clock,
            security: Security::Plain,
            arena: None,
        }
    }

    /// What the peer of such a socket is told.
    pub(crate) fn terms(&self, socket: &Socket) -> Terms {
        let arena = self.arena.as_ref().filter(|_| socket.is_local()).map_or(0, Arena::bytes);
        Terms { heartbeat: self.heartbeat, frame_max: self.frame_max, arena: arena as u64 }
    }

    /// Gives the peer of a socket of this host the memory of the arena, along with the hello.
    pub(crate) fn pass_arena(&self, socket: &Socket) -> io::Result<()> {
        if let Some(arena) = self.arena.as_ref().filter(|_| socket.is_local()) {
            socket.pass(arena.descriptor()?);
        }
        Ok(())
    }

    /// For how long nothing may come from a peer with such terms.
    pub(crate) fn silence_max(&self, peer: Terms) -> Duration {
        // A peer cannot ask to be waited for without end.
        let rarer = self.heartbeat.max(peer.heartbeat.min(SLOWEST));
        rarer.saturating_mul(self.missed_max.max(1))
    }
}

/// The rarest heartbeat that a peer is granted.
const SLOWEST: Duration = Duration::from_secs(10);
