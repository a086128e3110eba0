//! A frontend in a process of its own: its ports are those of one process, and what is here stands
//! behind them in place of a scheduler.
//!
//! - `outstanding`: the requests that have no outcome yet.
//! - `relay`: the task that reads what the ports take, and sends it on.
//! - `scheduling`: what is known of the schedulers. `schedulers`: the links to them.
//! - `names`: what requests are called by the next scheduler.
//! - `questions`: what was asked and is not answered yet.
//! - `backends`: who is connected. `data`: their links, which fetch inputs and bring outcomes.
//! - `shared`: what all of these share.

mod backends;
mod data;
mod names;
mod outstanding;
mod questions;
mod relay;
mod schedulers;
mod scheduling;
mod shared;

use crate::dial::{Dialled, keep};
use crate::error::StartError;
use crate::life::{life, random};
use bytes::Bytes;
pub(crate) use questions::QUESTIONS_MAX;
use questions::Questions;
use schedulers::serve;
use shared::Shared;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use symphony_core::Origin;
use symphony_wire::carrier::in_process::{
    InFlight, Layout, RepositoryPort, SchedulerPort, SharedCatalog, commands, scheduler,
};
use symphony_wire::carrier::link::{Endpoint, Hello, LinkPurpose, LinkSettings, Listener, Role};
use symphony_wire::message::link::FrontendAddress;

/// How often requests are looked for that nobody waits for any more, and sizes are told.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long outcomes are waited for from a backend whose link has ended and whose life has not.
const CUT_MAX: Duration = Duration::from_secs(1);

/// What a frontend needs to take part in a cluster.
#[derive(Clone, Debug)]
pub struct FrontendConfig {
    /// Its name, for logs.
    pub name: String,
    /// Every scheduler, active or standing by.
    pub schedulers: Vec<Endpoint>,
    /// Where backends fetch inputs.
    pub listen: Vec<Endpoint>,
    /// What backends are told to connect to, the best first; empty for where it listens, in that order.
    pub advertised: Vec<Endpoint>,
    /// How links are kept. The arena is for backends of this host, which it lets read tensors where
    /// they wait.
    pub links: LinkSettings,
    /// Bound on requests in flight.
    pub in_flight_max: usize,
}

/// The rest of the cluster, as the ports of a frontend show it.
#[derive(Debug)]
pub struct FrontendEnd {
    /// What is served.
    pub catalog: SharedCatalog,
    /// Where admitted requests wait.
    pub in_flight: Arc<InFlight>,
    /// The way to the scheduler that is active.
    pub scheduler: SchedulerPort,
    /// The way to its loader of models.
    pub repository: RepositoryPort,
    /// Where backends fetch inputs.
    pub data: Vec<Endpoint>,
    shared: Arc<Shared>,
}

impl FrontendEnd {
    /// Listens for backends, and keeps a link to every scheduler from now on. Runs on the tokio
    /// runtime that it is called on.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(mut config: FrontendConfig) -> Result<FrontendEnd, StartError> {
        let clock = config.links.clock;
        let listeners = bind(&config.listen, &config.links).await?;
        let data: Vec<_> = listeners.iter().map(|listener| listener.address().clone()).collect();
        // Only backends read tensors.
        let arena = config.links.arena.take();
        let origin = origin();
        let (port, mut inboxes) = scheduler(Layout::TOGETHER);
        let inbox = inboxes.remove(0);
        let (repository, questions) = commands();
        let shared = Arc::new(Shared {
            clock,
            origin,
            catalog: SharedCatalog::default(),
            in_flight: Arc::new(InFlight::of(origin, config.in_flight_max).with_arena(arena)),
            serving: inbox.serving.clone(),
            scheduling: Mutex::default(),
            questions: Questions::default(),
            backends: Mutex::default(),
        });
        tokio::spawn(relay::run(inbox, Arc::clone(&shared)));
        tokio::spawn(relay::relay_commands(questions, Arc::clone(&shared)));
        for listener in listeners {
            tokio::spawn(data::accept(listener, config.name.clone(), Arc::clone(&shared)));
        }
        tokio::spawn(keep_house(Arc::clone(&shared)));
        let advertised =
            if config.advertised.is_empty() { data.clone() } else { config.advertised };
        let (name, life) = (config.name, life());
        let addresses = advertised.iter().map(ToString::to_string).collect();
        let address = FrontendAddress { origin, name: name.clone(), life, addresses };
        let hello = Hello {
            role: Role::Frontend,
            purpose: LinkPurpose::Scheduling,
            name,
            life,
            capabilities: 0,
            details: details(&address),
        };
        for to in config.schedulers {
            let (shared, hello) = (Arc::clone(&shared), hello.clone());
            let dialled = Dialled { to, settings: config.links.clone(), what: "scheduler" };
            let each = move |link| serve(link, Arc::clone(&shared));
            tokio::spawn(keep(dialled, move || hello.clone(), each));
        }
        let (catalog, in_flight) = (shared.catalog.clone(), Arc::clone(&shared.in_flight));
        Ok(FrontendEnd { catalog, in_flight, scheduler: port, repository, data, shared })
    }

    /// Requests that have no outcome yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.shared.scheduling().outstanding().len()
    }

    /// The epoch of the scheduler that is active; `None` while none is.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.shared.scheduling().active_epoch()
    }
}

/// A socket for backends of this host that no other frontend has, among the temporary files.
#[must_use]
pub fn own_socket() -> Endpoint {
    let (process, life) = (std::process::id(), life());
    Endpoint::Unix(std::env::temp_dir().join(format!("symphony-inputs-{process}-{life:x}.sock")))
}

/// Listens at each of these.
async fn bind(at: &[Endpoint], links: &LinkSettings) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::with_capacity(at.len());
    for at in at {
        let listener = Listener::bind(at, links).await;
        listeners.push(listener.map_err(|source| StartError::Listen { at: at.clone(), source })?);
    }
    Ok(listeners)
}

/// Frees what nobody waits for any more, and tells the scheduler of the sizes that came.
async fn keep_house(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        let freed = shared.in_flight.sweep();
        shared.scheduling().tell(&freed, &shared.catalog);
        let unheard = shared.backends().unheard_for(CUT_MAX);
        for life in unheard {
            tracing::warn!(life, "a backend does not connect again: what it ran is run elsewhere");
            shared.left_behind(|outstanding| outstanding.unheard(life));
        }
    }
}

/// What a frontend says of itself in its hello.
fn details(address: &FrontendAddress) -> Bytes {
    postcard::to_allocvec(address).expect("texts and numbers can be written").into()
}

/// Where this process's requests come from. Chosen at random, so that no scheduler has to hand
/// numbers out that its successor would have to know of.
#[expect(clippy::cast_possible_truncation, reason = "each part is below its bound")]
fn origin() -> Origin {
    let bound = u64::from(Origin::NUMBERS);
    let random = random();
    Origin::new((random % bound) as u16, ((random / bound) % (bound - 1)) as u16 + 1)
}
