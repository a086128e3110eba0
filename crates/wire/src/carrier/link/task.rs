//! What a link does by itself: it sends heartbeats, writes what the socket had no room for, and ends.

use super::sending::Shared;
use rustix::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

/// For how long the last messages of a link may take to leave, and the peer to take note of its end.
const LINGER: Duration = Duration::from_secs(1);

/// Drives a link until it has ended.
pub(crate) async fn run(shared: Arc<Shared>, heartbeat: Duration) {
    let mut beats = interval(heartbeat.max(Duration::from_millis(1)));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = None;
    let mut until = None;
    loop {
        left = left.or_else(|| shared.take_left());
        if until.is_none() && shared.is_closed() {
            until = Some(Instant::now() + LINGER);
        }
        // The thread that closed it may still be writing its last words.
        if until.is_some() && left.is_none() && shared.is_written() {
            break;
        }
        tokio::select! {
            () = shared.news.notified() => {}
            () = returned(&shared) => shared.return_tensors(),
            ready = shared.stream.writable(), if left.is_some() => match ready {
                Ok(()) => left = left.take().and_then(|frames| shared.write(frames)),
                Err(_) => break,
            },
            _ = beats.tick(), if until.is_none() => shared.ping(),
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
        }
    }
    end(&shared, until.unwrap_or_else(Instant::now)).await;
    if let Some(lending) = &shared.lending {
        lending.let_go_of_all();
    }
}

/// Waits until this process has let go of tensors of the peer.
async fn returned(shared: &Shared) {
    match &shared.arena {
        Some(arena) => arena.returns().news.notified().await,
        None => std::future::pending().await,
    }
}

/// Ends the stream so that the peer can still read the last words: a stream that is closed while
/// something is unread is reset, and they may be lost.
async fn end(shared: &Shared, until: Instant) {
    let stream = &shared.stream;
    stream.shut(Shutdown::Write);
    let mut rest = [0; 4096];
    while let Ok(Ok(())) = timeout_at(until, stream.readable()).await {
        match stream.try_read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    stream.shut(Shutdown::Both);
}
