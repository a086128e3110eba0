//! The scheduler in a process of its own: the threads that decide are those of one process; what is here
//! stands in place of the frontends and the accelerators.
//!
//! - `membership`: which backends there are, what they have loaded, which serve. Pure.
//! - `members`, `keeper`: the task that owns the membership, and carries out its steps.
//! - `acting`: what the links of a scheduler that has the lease share.
//! - `backends`: the backends as the owner of the models sees them.
//! - `effects`: what decisions do to the other processes; the ledger of what was sent.
//! - `engines`: what backends run each model with.
//! - `frontends`, `workers`: the links to both.
//! - `publish`: tells frontends what is served.
//! - `routes`: the ways to every process.
//! - `tenure`: for how long this scheduler is the active one.
//! - `streams`: the files of models that backends get by their links.
//!
//! A scheduler takes links from the beginning, and is silent on them until it has the lease: a standby
//! needs only to say that it is the one from now on. Its *epoch* is in whatever it says, so that nobody
//! obeys a former one.

mod acting;
mod backends;
mod effects;
mod engines;
mod frontends;
mod keeper;
mod members;
mod membership;
mod publish;
mod routes;
mod streams;
mod tenure;
mod workers;

use crate::error::StartError;
use crate::life::life;
use acting::Acting;
pub use backends::RemoteBackends;

use effects::LinkEffects;
use routes::Routes;
use std::sync::Arc;
use streams::Streams;
use symphony_backend::repository::Repository;
use symphony_control::lanes::LanesThread;
use symphony_control::models::Models;
use symphony_core::recovery::Ledger;
use symphony_dispatch::{Settings, spawn, threads};
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::{
    Layout, RepositoryPort, RepositoryQuestion, SchedulerPort, SharedCatalog, commands, scheduler,
};
use symphony_wire::carrier::link::{
    Endpoint, Hello, Incoming, LinkPurpose, LinkSettings, Listener, RefusalLog, Role,
};
pub use tenure::Tenure;
use tokio::sync::{mpsc, watch};

/// What a scheduler is started with.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Its name, for logs.
    pub name: String,
    /// Where frontends and backends connect.
    pub listen: Endpoint,
    /// How links are kept.
    pub links: LinkSettings,
    /// How batches are scheduled. The pool begins without accelerators.
    pub settings: Settings,
    /// The scheduler's threads.
    pub layout: Layout,
    /// How long the scheduler's threads spin before they sleep.
    pub spin: Spin,
    /// Whether backends get the files of models by their links, instead of seeing the repository at
    /// the same path.
    pub stream_models: bool,
}

/// A scheduler that listens, and stands by.
#[derive(Debug)]
pub struct Standby {
    config: SchedulerConfig,
    address: Endpoint,
    taken_over: watch::Sender<Option<Arc<Acting>>>,
    refusals: RefusalLog,
}

/// A scheduler that has the lease.
#[derive(Debug)]
pub struct ActingScheduler {
    /// What it serves.
    pub catalog: SharedCatalog,
    /// The way to its threads.
    pub port: SchedulerPort,
    acting: Arc<Acting>,
    /// Closed when its threads have ended.
    running: watch::Receiver<()>,
    _lanes: LanesThread,
}

impl Standby {
    /// Takes links from now on. Runs on the tokio runtime that it is called on.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(config: SchedulerConfig) -> Result<Standby, StartError> {
        let listener = Listener::bind(&config.listen, &config.links)
            .await
            .map_err(|source| StartError::Listen { at: config.listen.clone(), source })?;
        let address = listener.address().clone();
        let (taken_over, standing_by) = watch::channel(None);
        let refusals = listener.refusals().clone();
        let own = Hello {
            role: Role::Scheduler,
            purpose: LinkPurpose::Scheduling,
            name: config.name.clone(),
            life: life(),
            capabilities: 0,
            details: bytes::Bytes::new(),
        };
        tokio::spawn(accept(listener, own, standing_by));
        Ok(Standby { config, address, taken_over, refusals })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.address
    }

    /// Schedules from now on, in the epoch of this tenure, what backends load of the repository.
    ///
    /// Returns the models, for a thread that owns them, with the commands that it is to carry out.
    ///
    /// # Errors
    /// The system has no room for the threads.
    pub fn take_over(
        &self,
        tenure: Tenure,
        repository: Repository,
    ) -> Result<(ActingScheduler, Models<RemoteBackends>, Commands), StartError> {
        let SchedulerConfig { links, settings, layout, spin, stream_models, .. } = &self.config;
        let (clock, epoch) = (links.clock, tenure.epoch());
        let (port, inboxes) = scheduler(*layout);
        let routes = Arc::new(Routes::default());
        let sent = Arc::new(effects::SentBatches::new(Ledger::default()));
        let (ending, running) = watch::channel(());
        let effects = LinkEffects {
            tenure,
            clock,
            port: port.clone(),
            routes: Arc::clone(&routes),
            sent: Arc::clone(&sent),
            _running: Arc::new(ending),
        };
        let parties = threads(settings, inboxes, |_| effects.clone());
        drop(effects);
        let failed = |what| move |error| StartError::Thread(what, error);
        drop(spawn(parties, clock, *spin).map_err(failed("scheduler"))?);
        let catalog = SharedCatalog::default();
        let lanes = LanesThread::start(catalog.clone(), port.clone(), clock);
        let lanes = lanes.map_err(failed("lanes"))?;
        let (members, work) = members::port();
        let (repository_port, questions) = commands();
        let acting = Arc::new(Acting {
            epoch,
            clock,
            port: port.clone(),
            catalog: catalog.clone(),
            repository: repository_port,
            members: members.clone(),
            routes,
            effects: sent,
            streams: Streams::default(),
            refusals: self.refusals.clone(),
        });
        tokio::spawn(keeper::run(work, Arc::clone(&acting)));
        tokio::spawn(publish::run(Arc::clone(&acting)));
        let backends = RemoteBackends::new(members, repository.path(), *stream_models);
        let models = Models::new(repository, backends, catalog.clone(), port.clone());
        let models = models.numbered_from(first_generation(epoch));
        tracing::info!(epoch, "the scheduler has taken over");
        self.taken_over.send_replace(Some(Arc::clone(&acting)));
        Ok((ActingScheduler { catalog, port, acting, running, _lanes: lanes }, models, questions))
    }
}

/// The commands for the owner of the models.
pub type Commands = mpsc::Receiver<RepositoryQuestion>;

impl ActingScheduler {
    /// The way to the owner of the models.
    #[must_use]
    pub fn repository(&self) -> RepositoryPort {
        self.acting.repository.clone()
    }

    /// Waits until a thread of the scheduler ends though nobody has stopped it.
    pub async fn broken(&mut self) {
        while self.running.changed().await.is_ok() {}
    }

    /// How many frontends and backends are connected.
    #[must_use]
    pub fn members(&self) -> (usize, usize) {
        (self.acting.routes.frontends(), self.acting.routes.backends())
    }
}

/// Identities of one epoch are not given in another: a request that was on its way to the scheduler
/// before never reaches another model. A place's first generation has to be later than zero, and those
/// beyond the middle are earlier.
#[expect(clippy::cast_possible_truncation, reason = "epochs count modulo 2^15 here")]
fn first_generation(epoch: u64) -> u32 {
    ((epoch as u32) & 0x7fff) << 16
}

/// Takes links from now on.
async fn accept(listener: Listener, own: Hello, standing_by: watch::Receiver<Option<Arc<Acting>>>) {
    loop {
        let incoming = listener.accept().await;
        tokio::spawn(serve(incoming, own.clone(), standing_by.clone()));
    }
}

async fn serve(incoming: Incoming, own: Hello, standing_by: watch::Receiver<Option<Arc<Acting>>>) {
    let hello = incoming.hello();
    match (hello.role, hello.purpose) {
        (Role::Frontend, LinkPurpose::Scheduling) => {
            frontends::serve(incoming, &own, standing_by).await;
        }
        (Role::Backend, LinkPurpose::Scheduling) => {
            workers::serve(incoming, &own, standing_by).await;
        }
        _ => incoming.refuse("only frontends and backends are scheduled here"),
    }
}
