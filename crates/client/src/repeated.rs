//! One request, sent again and again: by a benchmark, or to see what a server's latency is.

use crate::connections::{Connections, HttpReply};
use crate::payload::{Encoding, HttpPayload};
use crate::tally::{Outcome, Tally};
use crate::target::Target;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Sends one request again and again, to one model.
pub trait Client: Send + Sync + 'static {
    /// Sends it and waits for its end.
    fn infer(&self) -> impl Future<Output = Outcome> + Send;
}

/// A request over HTTP, on connections of its own.
#[derive(Debug)]
pub struct RepeatedRequest {
    connections: Connections,
    request: Request<Full<Bytes>>,
}

impl RepeatedRequest {
    /// # Errors
    /// A connection cannot be had, or the tensors cannot be written so.
    pub async fn connect(
        target: &Target,
        connections: usize,
        payload: &HttpPayload,
        encoding: Encoding,
    ) -> Result<RepeatedRequest> {
        Ok(RepeatedRequest {
            connections: Connections::open(target, connections).await?,
            request: payload.request(&target.address, encoding)?,
        })
    }

    /// Sends it once; the whole answer.
    ///
    /// # Errors
    /// The connection is not to be had, or broke.
    pub(crate) async fn send(&self) -> Result<HttpReply> {
        self.connections.send(self.request.clone()).await
    }
}

impl Client for RepeatedRequest {
    async fn infer(&self) -> Outcome {
        match self.send().await {
            Ok(reply) => outcome(&reply),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }
}

/// What a server's answer says became of the request.
pub(crate) fn outcome(reply: &HttpReply) -> Outcome {
    match reply.status {
        StatusCode::OK => Outcome::Answered,
        StatusCode::GATEWAY_TIMEOUT => Outcome::Dropped,
        StatusCode::TOO_MANY_REQUESTS => Outcome::Refused,
        status => Outcome::Failed(format!("{status}: {}", String::from_utf8_lossy(&reply.body))),
    }
}

/// Sends `count` requests, `concurrency` of them at a time.
///
/// # Errors
/// A task panicked.
pub(crate) async fn repeat<C: Client>(
    client: &Arc<C>,
    count: u64,
    concurrency: u64,
) -> Result<Tally> {
    let left = Arc::new(AtomicU64::new(count));
    let tally = Arc::new(Mutex::new(Tally::new(Duration::MAX)));
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency.min(count) {
        let (client, left, tally) = (Arc::clone(client), Arc::clone(&left), Arc::clone(&tally));
        tasks.spawn(async move {
            let take = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let sent = Instant::now();
                let outcome = client.infer().await;
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.record(outcome, Duration::ZERO, sent.elapsed());
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("the task of a request panicked")?;
    }
    Ok(tally.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every third request, and counts how many are under way at most.
    #[derive(Default)]
    struct EveryThird {
        asked: AtomicU64,
        under_way: AtomicU64,
        most: AtomicU64,
    }

    impl Client for EveryThird {
        async fn infer(&self) -> Outcome {
            let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::task::yield_now().await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            match self.asked.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => Outcome::Answered,
                1 => Outcome::Dropped,
                _ => Outcome::Refused,
            }
        }
    }

    #[tokio::test]
    async fn so_many_are_sent_and_so_many_at_a_time() {
        for (count, concurrency, most) in [(9, 4, 4), (2, 8, 2), (5, 1, 1)] {
            let client = Arc::new(EveryThird::default());
            let tally = repeat(&client, count, concurrency).await.unwrap();
            assert_eq!(tally.counts.offered(), count);
            assert_eq!(tally.counts.good, count.div_ceil(3));
            assert_eq!(client.most.load(Ordering::Relaxed), most);
        }
    }
}
