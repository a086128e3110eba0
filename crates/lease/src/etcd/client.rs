//! What a lease asks of etcd, over its protocol, from one member at a time.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{StreamExt, iter, pending};
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use crate::address::EtcdAddress;
use crate::error::{Failure, LeaseError};

use proto::kv_client::KvClient;
use proto::lease_client::LeaseClient;
use proto::watch_client::WatchClient;

#[allow(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

/// The key, and the members that know it.
#[derive(Clone, Debug)]
pub(super) struct Store(Arc<Place>);

#[derive(Debug)]
struct Place {
    key: String,
    endpoints: Vec<Endpoint>,
    /// The longest that one question may take.
    attempt: Duration,
}

/// The key as it was found.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) holder: String,
    /// The revision in which it was made.
    pub(super) epoch: u64,
}

impl Store {
    pub(super) fn new(address: &EtcdAddress, attempt: Duration) -> Result<Self, LeaseError> {
        let tls = tls(address)?;
        let endpoint = |name: &String| {
            let endpoint = Endpoint::from_shared(name.clone())?.connect_timeout(attempt);
            match &tls {
                Some(tls) => endpoint.tls_config(tls.clone()),
                None => Ok(endpoint),
            }
        };
        let endpoints: Result<Vec<_>, tonic::transport::Error> =
            address.endpoints.iter().map(endpoint).collect();
        let endpoints = endpoints.map_err(|error| LeaseError::Etcd {
            key: address.key.clone(),
            problem: format!("its address cannot be used: {}", with_causes(&error)),
            remedy: "check the endpoints and the files of certificates",
        })?;
        Ok(Self(Arc::new(Place { key: address.key.clone(), endpoints, attempt })))
    }

    pub(super) fn key(&self) -> &str {
        &self.0.key
    }

    /// A client of one member; numbers beyond the last begin anew. It connects when it is asked.
    pub(super) fn connect(&self, number: usize) -> Client {
        let endpoint = number % self.0.endpoints.len();
        let channel = self.0.endpoints[endpoint].connect_lazy();
        Client { place: Arc::clone(&self.0), endpoint, channel }
    }
}

fn tls(address: &EtcdAddress) -> Result<Option<ClientTlsConfig>, LeaseError> {
    let Some(ca) = &address.ca else { return Ok(None) };
    let read = |path: &Path| {
        fs::read(path).map_err(|error| LeaseError::Etcd {
            key: address.key.clone(),
            problem: format!("{} cannot be read: {error}", path.display()),
            remedy: "check the path and who may read the file",
        })
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    Ok(Some(match &address.identity {
        Some((certificate, key)) => {
            tls.identity(Identity::from_pem(read(certificate)?, read(key)?))
        }
        None => tls,
    }))
}

/// A client of one member.
#[derive(Clone, Debug)]
pub(super) struct Client {
    place: Arc<Place>,
    endpoint: usize,
    channel: Channel,
}

impl Client {
    /// The number of the member.
    pub(super) fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The key, if it is there, and the revision of the store.
    pub(super) async fn read(&self) -> Result<(Option<Key>, i64), Failure> {
        let request = proto::RangeRequest { key: self.key() };
        let answer = self.bounded(KvClient::new(self.channel.clone()).range(request)).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let key = answer.kvs.into_iter().next().map(|pair| Key {
            holder: String::from_utf8_lossy(&pair.value).into_owned(),
            epoch: epoch_of(pair.create_revision),
        });
        Ok((key, revision))
    }

    /// Has etcd grant a lease of its own.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, Failure> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let request = proto::LeaseGrantRequest { ttl: seconds };
        let mut client = LeaseClient::new(self.channel.clone());
        let answer = self.bounded(client.lease_grant(request)).await?;
        if answer.ttl < seconds {
            return Err(self.passing(&format!("it granted only {} s of {seconds} s", answer.ttl)));
        }
        Ok(answer.id)
    }

    /// Makes the key unless it is there. Returns the epoch of who made it.
    pub(super) async fn create(&self, holder: &str, lease: i64) -> Result<Option<u64>, Failure> {
        let missing = proto::Compare {
            result: proto::compare::CompareResult::Equal.into(),
            target: proto::compare::CompareTarget::Create.into(),
            key: self.key(),
            target_union: Some(proto::compare::TargetUnion::CreateRevision(0)),
        };
        let put = proto::PutRequest { key: self.key(), value: holder.into(), lease };
        let put = proto::RequestOp { request: Some(proto::request_op::Request::RequestPut(put)) };
        let request = proto::TxnRequest { compare: vec![missing], success: vec![put] };
        let answer = self.bounded(KvClient::new(self.channel.clone()).txn(request)).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(answer.succeeded.then(|| epoch_of(revision)))
    }

    /// Renews etcd's lease. Returns whether it still lives.
    pub(super) async fn renew(&self, lease: i64) -> Result<bool, Failure> {
        let request = iter([proto::LeaseKeepAliveRequest { id: lease }]);
        let mut client = LeaseClient::new(self.channel.clone());
        let answer = async { client.lease_keep_alive(request).await?.into_inner().message().await };
        match self.bounded(async { answer.await.map(tonic::Response::new) }).await? {
            Some(answer) => Ok(answer.ttl > 0),
            None => Err(self.passing("it did not answer a renewal")),
        }
    }

    /// Ends etcd's lease, and with it the key.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), Failure> {
        let request = proto::LeaseRevokeRequest { id: lease };
        let mut client = LeaseClient::new(self.channel.clone());
        self.bounded(client.lease_revoke(request)).await.map(drop)
    }

    /// Waits until the key has been removed after `revision`, but no longer than `limit`.
    pub(super) async fn removed_since(
        &self,
        revision: i64,
        limit: Duration,
    ) -> Result<(), Failure> {
        match timeout(limit, self.watch(revision)).await {
            Ok(watched) => watched,
            Err(_) => Ok(()),
        }
    }

    async fn watch(&self, revision: i64) -> Result<(), Failure> {
        let create = proto::WatchCreateRequest {
            key: self.key(),
            start_revision: revision + 1,
            filters: vec![proto::watch_create_request::FilterType::Noput.into()],
        };
        let create = proto::watch_request::RequestUnion::CreateRequest(create);
        // The stream stays open as long as somebody watches.
        let request = iter([proto::WatchRequest { request_union: Some(create) }]).chain(pending());
        let mut client = WatchClient::new(self.channel.clone());
        let mut answers = self.bounded(client.watch(request)).await?;
        loop {
            let answer = answers.message().await.map_err(|status| self.failure(&status))?;
            let Some(answer) = answer else {
                return Err(self.passing("it ended a watch"));
            };
            if answer.compact_revision > 0 || !answer.events.is_empty() {
                return Ok(());
            }
            if answer.canceled {
                return Err(self.passing(&format!("it ended a watch: {}", answer.cancel_reason)));
            }
        }
    }

    fn key(&self) -> Vec<u8> {
        self.place.key.clone().into_bytes()
    }

    async fn bounded<T>(
        &self,
        asking: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(self.place.attempt, asking).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(self.passing(&format!("no answer within {:?}", self.place.attempt))),
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        let problem = with_causes(status.source().unwrap_or(status));
        let refused = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => true,
            // etcd's way to say that it wants a user.
            Code::InvalidArgument => status.message().contains("user name"),
            _ => false,
        };
        if !refused {
            return self.passing(&problem);
        }
        Failure::Lasting(LeaseError::Etcd {
            key: self.place.key.clone(),
            problem: format!("{} refuses: {}", self.name(), status.message()),
            remedy: "name a certificate whose user may read and write the key: ?cert=FILE&key=FILE",
        })
    }

    fn passing(&self, problem: &str) -> Failure {
        Failure::Passing(format!("etcd at {}: {problem}", self.name()))
    }

    fn name(&self) -> String {
        self.place.endpoints[self.endpoint].uri().to_string()
    }
}

/// Revisions are never negative.
fn epoch_of(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// The error with what caused it: the outermost often says nothing.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
