//! What a connection can make a process hold. A test of its own: others would hold memory beside it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

#[path = "links/authority.rs"]
mod authority;
#[path = "links/carriers.rs"]
#[expect(dead_code, reason = "shared with the suite of all carriers")]
mod carriers;
#[path = "links/raw.rs"]
#[expect(dead_code, reason = "shared with the suite of all carriers")]
mod raw;

use carriers::{Backend, Carrier, hello, settings};
use raw::{RawPeer, claiming, frame};
use std::fs;
use symphony_wire::carrier::link::{LinkSettings, Listener};

const PING: u8 = 3;
const INPUTS: u8 = 96;

/// Memory of this process in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() << 10
}

/// A peer that asks for all it can: it reads no answer to a thousand heartbeats, and then claims a
/// frame of sixty megabytes, of which it sends the beginning.
async fn greedy(listener: &Listener) -> (RawPeer, Backend) {
    let mut peer = RawPeer::greeted(Carrier::Tcp, listener).await;
    let link: Backend = listener.accept().await.welcome(&hello("backend"));
    let beats: Vec<u8> = (0..1000).flat_map(|_| frame(PING, &[0; 8])).collect();
    peer.write(&beats).await;
    peer.write(&claiming(INPUTS, 60 << 20, &[0; 100])).await;
    (peer, link)
}

#[tokio::test]
async fn a_connection_holds_little_memory_whatever_its_peer_claims() {
    let settings = LinkSettings { out_max: 64 << 10, ..settings() };
    let place = Carrier::Tcp.place();
    let listener = Listener::bind(&place.endpoint, &settings).await.unwrap();
    let mut links = vec![greedy(&listener).await];
    let before = resident();
    for _ in 0..200 {
        let (peer, mut link) = greedy(&listener).await;
        // Everything that has come is read, and no message is among it.
        let quiet = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(quiet, link.receiver.next()).await.is_err());
        links.push((peer, link));
    }
    let each = resident().saturating_sub(before) / 200;
    assert!(each < 192 << 10, "{each} bytes for each connection");
    assert!(links.iter().all(|(_, link)| !link.sender.is_closed()));
}
