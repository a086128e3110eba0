//! The carriers, each with the endpoint that it listens at.

use super::authority::Authority;
use std::sync::LazyLock;
use std::time::Duration;
use symphony_tls::Identity;
use symphony_wire::carrier::link::{
    Endpoint, Hello, Link, LinkPurpose, LinkSettings, Listener, Role, Security, connect,
};
use symphony_wire::carrier::shared_memory::Arena;
use symphony_wire::clock::Clock;
use symphony_wire::message::link::{
    BackendToFrontend, FrontendToBackend, FrontendToScheduler, SchedulerToFrontend,
};
use tempfile::TempDir;

/// A carrier to test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    Tcp,
    /// The same under TLS.
    Tls,
    /// A socket of this host.
    Unix,
    /// The same, and memory for tensors that both ends have.
    Arena,
}

/// Where a test listens, and what has to live as long.
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    _directory: TempDir,
}

impl Carrier {
    pub(crate) fn place(self) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = match self {
            Carrier::Tcp | Carrier::Tls => Endpoint::Tcp("127.0.0.1:0".to_owned()),
            Carrier::Unix | Carrier::Arena => Endpoint::Unix(directory.path().join("link")),
        };
        Place { endpoint, _directory: directory }
    }
}

impl Carrier {
    /// Settings that let a loaded machine take its time.
    pub(crate) fn settings(self) -> LinkSettings {
        let security = match self {
            Carrier::Tcp | Carrier::Unix | Carrier::Arena => Security::Plain,
            Carrier::Tls => Security::Tls(identity()),
        };
        let arena = matches!(self, Carrier::Arena).then(|| Arena::new(64 << 20).unwrap());
        LinkSettings { security, arena, ..settings() }
    }
}

/// Every role of a test has the same certificate.
fn identity() -> Identity {
    static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
        let (authority, files) = (Authority::new("the test's"), tempfile::tempdir().unwrap());
        authority.role(&authority, files.path(), "role")
    });
    IDENTITY.clone()
}

/// The same without protection.
pub(crate) fn settings() -> LinkSettings {
    LinkSettings {
        heartbeat: Duration::from_millis(50),
        missed_max: 100,
        out_max: 64 << 20,
        hello_timeout: Duration::from_secs(10),
        ..LinkSettings::new(Clock::start())
    }
}

pub(crate) fn hello(name: &str) -> Hello {
    Hello {
        role: Role::Frontend,
        purpose: LinkPurpose::Data,
        name: name.to_owned(),
        life: 7,
        capabilities: 5,
        details: vec![1, 2, 3].into(),
    }
}

pub(crate) type Frontend = Link<BackendToFrontend, FrontendToBackend>;
pub(crate) type Backend = Link<FrontendToBackend, BackendToFrontend>;
pub(crate) type Asking = Link<SchedulerToFrontend, FrontendToScheduler>;
pub(crate) type Scheduling = Link<FrontendToScheduler, SchedulerToFrontend>;

/// Both ends of a link, of which the first has connected.
pub(crate) async fn pair<A, B, C, D>(
    carrier: Carrier,
    settings: &LinkSettings,
) -> (Link<A, B>, Link<C, D>, Listener)
where
    A: symphony_wire::codec::Frame,
    B: symphony_wire::codec::Frame,
    C: symphony_wire::codec::Frame,
    D: symphony_wire::codec::Frame,
{
    let place = carrier.place();
    let listener = Listener::bind(&place.endpoint, settings).await.unwrap();
    let connecting = connect(listener.address(), hello("frontend"), settings);
    let welcoming = async { listener.accept().await.welcome(&hello("backend")) };
    let (connected, welcomed) = tokio::join!(connecting, welcoming);
    (connected.unwrap(), welcomed, listener)
}
