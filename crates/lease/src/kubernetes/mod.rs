//! A lease that Kubernetes keeps: a Lease object, as the parts of Kubernetes itself use it.
//!
//! The API server only stores who says to hold it. It refuses to replace an object that changed
//! since it was read, so that of several that want it one gets it. A waiting process takes it when
//! nobody renewed it for the time that it says, by the clock of who waits, from when it saw the
//! newest change: no two clocks need to agree. The holder gives up earlier than that.

mod api;
mod object;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use crate::address::KubernetesAddress;
use crate::clock::{Moment, Pace};
use crate::error::{Failure, LeaseError};
use crate::held::{Grip, Held, Lease, LostReason, Slip, keep};
use crate::said::Said;

pub use api::ApiServer;
use api::{Answer, Api};
use object::{LeaseObject, Spec};

/// The longest that freeing may take.
const FREEING_MAX: Duration = Duration::from_secs(1);

/// A Lease object of Kubernetes.
#[derive(Debug)]
pub struct KubernetesLease {
    server: ApiServer,
    address: KubernetesAddress,
    holder: String,
    pace: Pace,
    said: Said,
}

impl KubernetesLease {
    /// The Lease at `address`, kept by `server`, for a process that calls itself `holder`.
    #[must_use]
    pub fn new(address: &KubernetesAddress, server: ApiServer, holder: &str) -> Self {
        Self {
            server,
            address: address.clone(),
            holder: holder.to_owned(),
            pace: Pace::of(address.ttl),
            said: Said::default(),
        }
    }

    async fn wait_and_take(&mut self) -> Result<Held, LeaseError> {
        let api = Api::new(self.server.clone(), self.address.clone(), self.pace.attempt);
        // Pods may have one name one after the other; whoever takes the lease is new each time.
        let identity = format!("{}_{:016x}", self.holder, RandomState::new().hash_one(0));
        let mut taking = Taking { api, identity, pace: self.pace, seen: None };
        loop {
            match taking.step().await {
                Ok(Step::Taken(object, expiry)) => return taking.hold(object, expiry),
                Ok(Step::HeldBy(holder)) => {
                    let lease = self.address.full_name();
                    self.said
                        .info(format!("waiting as standby: Lease {lease} is held by {holder}"));
                }
                Ok(Step::Beaten) => {}
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    self.said.warn(format!("the lease cannot be taken, trying again: {problem}"));
                }
            }
            sleep(self.pace.look).await;
        }
    }
}

impl Lease for KubernetesLease {
    fn acquire(&mut self) -> BoxFuture<'_, Result<Held, LeaseError>> {
        self.wait_and_take().boxed()
    }
}

/// What came of one try to take the lease.
enum Step {
    Taken(Box<LeaseObject>, Moment),
    HeldBy(String),
    /// Somebody else was faster.
    Beaten,
}

/// One process that waits for the lease.
struct Taking {
    api: Api,
    identity: String,
    pace: Pace,
    /// What its holder wrote last, and when this process first saw it.
    seen: Option<(Spec, Moment)>,
}

impl Taking {
    async fn step(&mut self) -> Result<Step, Failure> {
        let object = match self.api.read().await? {
            Answer::Object(object) => object,
            Answer::Missing(_) => return self.make().await,
            Answer::Conflict => return Ok(Step::Beaten),
        };
        let expired = self.is_expired(&object);
        match object.holder() {
            // This process may have taken it before without getting the answer.
            Some(holder) if holder != self.identity && !expired => {
                Ok(Step::HeldBy(holder.to_owned()))
            }
            _ => self.take(&object).await,
        }
    }

    /// Whether its holder has not renewed the lease for the time that it said.
    fn is_expired(&mut self, object: &LeaseObject) -> bool {
        match &self.seen {
            Some((spec, since)) if *spec == object.spec => {
                since.after(Duration::from_secs(object.duration_s())).left().is_none()
            }
            _ => {
                self.seen = Some((object.spec.clone(), Moment::now()));
                false
            }
        }
    }

    async fn take(&mut self, object: &LeaseObject) -> Result<Step, Failure> {
        let Some(taken) = object.taken(&self.identity, self.pace.ttl.as_secs()) else {
            let problem = "its leaseTransitions cannot be counted further";
            return Err(self.api.lasting(problem, "delete the Lease; it is made anew"));
        };
        let begin = Moment::now();
        Ok(match self.api.replace(&taken).await? {
            Answer::Object(object) => Step::Taken(object, begin.after(self.pace.trusted)),
            Answer::Missing(_) | Answer::Conflict => Step::Beaten,
        })
    }

    async fn make(&mut self) -> Result<Step, Failure> {
        let new = LeaseObject::new(self.api.name()).taken(&self.identity, self.pace.ttl.as_secs());
        let Some(new) = new else { return Ok(Step::Beaten) };
        let begin = Moment::now();
        match self.api.create(&new).await? {
            Answer::Object(object) => Ok(Step::Taken(object, begin.after(self.pace.trusted))),
            Answer::Conflict => Ok(Step::Beaten),
            Answer::Missing(problem) => {
                Err(self.api.lasting(&problem, "create the namespace, or name another"))
            }
        }
    }

    fn hold(self, object: Box<LeaseObject>, expiry: Moment) -> Result<Held, LeaseError> {
        let Some(epoch) = object.epoch() else {
            let (lease, remedy) = (self.api.full_name(), "check what answers as the API server");
            let problem = "it has no creationTimestamp, which its epoch is made of".to_owned();
            return Err(LeaseError::Kubernetes { lease, problem, remedy });
        };
        let Self { api, identity, pace, .. } = self;
        Ok(keep(epoch, Some(expiry), pace, ObjectGrip { api, identity, pace, object, epoch }))
    }
}

/// The object while it is held.
struct ObjectGrip {
    api: Api,
    identity: String,
    pace: Pace,
    /// The object as it was written last.
    object: Box<LeaseObject>,
    epoch: u64,
}

impl ObjectGrip {
    async fn renew_once(&mut self) -> Result<Moment, Slip> {
        let begin = Moment::now();
        let renewed = self.object.renewed(self.pace.ttl.as_secs());
        match self.api.replace(&renewed).await.map_err(again)? {
            Answer::Object(object) => {
                self.object = object;
                Ok(begin.after(self.pace.trusted))
            }
            Answer::Missing(_) => Err(self.removed()),
            Answer::Conflict => Err(self.look_again().await?),
        }
    }

    /// Somebody changed the object: its holder, or only what does not matter here.
    async fn look_again(&mut self) -> Result<Slip, Slip> {
        match self.api.read().await.map_err(again)? {
            Answer::Object(object) if object.epoch() != Some(self.epoch) => {
                let holder = object.holder().unwrap_or("somebody who freed it").to_owned();
                Ok(Slip::Lost(LostReason::Taken(holder)))
            }
            Answer::Object(object) if object.holder() == Some(&self.identity) => {
                self.object = object;
                Ok(Slip::Again("somebody changed the Lease meanwhile".to_owned()))
            }
            Answer::Object(_) | Answer::Missing(_) => Ok(self.removed()),
            Answer::Conflict => Ok(Slip::Again("the API server answered 409 to a read".to_owned())),
        }
    }

    fn removed(&self) -> Slip {
        Slip::Lost(LostReason::Removed(format!("Lease {} of Kubernetes", self.api.full_name())))
    }
}

impl Grip for ObjectGrip {
    async fn renew(&mut self) -> Result<Option<Moment>, Slip> {
        self.renew_once().await.map(Some)
    }

    async fn free(mut self) {
        // If it fails, or if it was lost, others take it after its time.
        let _ = timeout(FREEING_MAX, self.api.replace(&self.object.freed())).await;
    }
}

/// While the lease is held, what would otherwise last may pass before it runs out.
fn again(failure: Failure) -> Slip {
    Slip::Again(failure.to_string())
}
