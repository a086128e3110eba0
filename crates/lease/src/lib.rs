//! Who is the active scheduler. Of the processes that ask for one lease, at most one holds it; the
//! others wait and take over when it is free. Each holding has an epoch, greater than that of every
//! holding before: whoever receives a message of a lower epoch refuses it.
//!
//! A lease alone cannot keep a former holder from acting: it may have been stopped in the middle of
//! a step. The epoch does that. So this crate promises two things: epochs grow strictly, and a
//! holder knows that it has lost the lease before anybody else can get it, as soon as it runs.
//!
//! There are three kinds, named by a [`LeaseAddress`]: the lock of a file, for schedulers on one
//! host; a key in etcd; and a Lease of Kubernetes. This crate knows nothing of scheduling.

mod address;
mod clock;
mod error;
mod etcd;
mod file;
mod held;
mod kubernetes;
mod said;

pub use address::{AddressError, EtcdAddress, KubernetesAddress, LeaseAddress};
pub use error::LeaseError;
pub use held::{Held, Lease, LostReason};
pub use kubernetes::{ApiServer, KubernetesLease};

impl LeaseAddress {
    /// The lease at this address, for a process that calls itself `holder` towards people.
    ///
    /// # Errors
    /// The certificates of etcd cannot be used, or this process is not in a pod of Kubernetes.
    pub fn open(&self, holder: &str) -> Result<Box<dyn Lease>, LeaseError> {
        Ok(match self {
            LeaseAddress::File(path) => Box::new(file::FileLease::new(path, holder)),
            LeaseAddress::Etcd(address) => Box::new(etcd::EtcdLease::new(address, holder)?),
            LeaseAddress::Kubernetes(address) => {
                Box::new(KubernetesLease::new(address, ApiServer::in_cluster(address)?, holder))
            }
        })
    }
}
