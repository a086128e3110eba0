//! A lease that etcd keeps: a key that is there as long as a lease of etcd's lives.
//!
//! Who makes the key holds it, and renews etcd's lease. The epoch is the revision of the store in
//! which the key was made: etcd counts it up with every change and never down, also when it is
//! restarted. A holder that cannot renew gives up after two thirds of the time to live, before etcd
//! removes the key and somebody else makes it anew.

mod client;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use crate::address::EtcdAddress;
use crate::clock::{Moment, Pace};
use crate::error::{Failure, LeaseError};
use crate::held::{Grip, Held, Lease, LostReason, Slip, keep};
use crate::said::Said;

use client::{Client, Store};

/// The longest that freeing may take.
const FREEING_MAX: Duration = Duration::from_secs(1);

/// A key in etcd.
#[derive(Debug)]
pub(crate) struct EtcdLease {
    store: Store,
    holder: String,
    pace: Pace,
    said: Said,
}

impl EtcdLease {
    pub(crate) fn new(address: &EtcdAddress, holder: &str) -> Result<Self, LeaseError> {
        let pace = Pace::of(address.ttl);
        let store = Store::new(address, pace.attempt)?;
        Ok(Self { store, holder: holder.to_owned(), pace, said: Said::default() })
    }

    async fn wait_and_take(&mut self) -> Result<Held, LeaseError> {
        let mut client = self.store.connect(0);
        loop {
            match self.step(&mut client).await {
                Ok(Some(held)) => return Ok(held),
                Ok(None) => {}
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    self.said.warn(format!("the lease cannot be taken, trying again: {problem}"));
                    client = self.store.connect(client.endpoint() + 1);
                    sleep(self.pace.retry).await;
                }
            }
        }
    }

    /// Takes the key if it is free, or waits until it may be.
    async fn step(&mut self, client: &mut Client) -> Result<Option<Held>, Failure> {
        let (found, revision) = client.read().await?;
        if let Some(key) = found {
            let (name, holder) = (self.store.key(), key.holder);
            self.said
                .info(format!("waiting as standby: lease key {name} in etcd is held by {holder}"));
            // A connection may be cut without anybody noticing: read again after a while.
            client.removed_since(revision, self.pace.ttl).await?;
            return Ok(None);
        }
        let begin = Moment::now();
        let lease = client.grant(self.pace.ttl).await?;
        let created = client.create(&self.holder, lease).await;
        let Ok(Some(epoch)) = created else {
            // Somebody was faster, or nobody knows whether the key was made.
            let _ = client.revoke(lease).await;
            return created.map(|_| None);
        };
        let store = self.store.clone();
        let grip = KeyGrip { client: client.clone(), store, lease, epoch, pace: self.pace };
        Ok(Some(keep(epoch, Some(begin.after(self.pace.trusted)), self.pace, grip)))
    }
}

impl Lease for EtcdLease {
    fn acquire(&mut self) -> BoxFuture<'_, Result<Held, LeaseError>> {
        self.wait_and_take().boxed()
    }
}

/// The key while it is held.
#[derive(Debug)]
struct KeyGrip {
    client: Client,
    store: Store,
    lease: i64,
    epoch: u64,
    pace: Pace,
}

impl KeyGrip {
    async fn renew_once(&self) -> Result<Result<Moment, LostReason>, Failure> {
        let begin = Moment::now();
        if !self.client.renew(self.lease).await? {
            return Ok(Err(LostReason::NotRenewed("etcd ended it".to_owned())));
        }
        // Somebody may have removed the key by hand, while etcd's lease goes on.
        Ok(match self.client.read().await?.0 {
            Some(key) if key.epoch == self.epoch => Ok(begin.after(self.pace.trusted)),
            Some(key) => Err(LostReason::Taken(key.holder)),
            None => Err(LostReason::Removed(format!("lease key {} in etcd", self.store.key()))),
        })
    }
}

impl Grip for KeyGrip {
    async fn renew(&mut self) -> Result<Option<Moment>, Slip> {
        match self.renew_once().await {
            Ok(Ok(expiry)) => Ok(Some(expiry)),
            Ok(Err(reason)) => Err(Slip::Lost(reason)),
            Err(failure) => {
                self.client = self.store.connect(self.client.endpoint() + 1);
                Err(Slip::Again(failure.to_string()))
            }
        }
    }

    async fn free(self) {
        // If it fails, etcd removes the key after the time to live.
        let _ = timeout(FREEING_MAX, self.client.revoke(self.lease)).await;
    }
}
