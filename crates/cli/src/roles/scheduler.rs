//! `symphony scheduler`: stands by until it has the lease, then schedules until it loses it.

use crate::args::SchedulerArgs;
use crate::config::SchedulerRole;
use crate::console::say;
use crate::logging;
use crate::ports::PortsFile;
use crate::runtime;
use crate::signals::Signals;
use anyhow::{Context, Result, anyhow, bail};
use symphony_backend::repository::Repository;
use symphony_cluster::scheduler::{ActingScheduler, Standby, Tenure};
use symphony_control::models_thread::ModelsThread;
use symphony_lease::Held;
use symphony_wire::carrier::in_process::commands;

/// Threads that keep the links: what they do for a message is little.
const THREADS: usize = 2;

pub(crate) fn command(args: SchedulerArgs) -> Result<()> {
    let config = SchedulerRole::resolve(args)?;
    logging::start(config.log);
    runtime::run(THREADS, "links", serve(config))
}

async fn serve(config: SchedulerRole) -> Result<()> {
    let mut signals = Signals::listen()?;
    let ports_file = config.ports_file.clone().map(PortsFile::prepare).transpose()?;
    let repository = Repository::open(&config.models)?;
    let name = config.cluster.name.clone();
    let mut lease = config.lease.open(&name)?;
    let standby = Standby::start(config.cluster).await?;
    say(format_args!("scheduler {name}: links at {}, stands by", standby.address()));
    if let Some(file) = ports_file {
        file.publish_value(&serde_json::json!({ "links": standby.address().to_string() }))?;
    }
    // Nobody carries out commands yet.
    let (nobody, _) = commands();
    let held = tokio::select! {
        held = lease.acquire() => held.context("the lease cannot be had")?,
        () = signals.until_shutdown(&nobody) => return Ok(()),
    };
    let epoch = held.epoch();
    let (acting, models, questions) =
        standby.take_over(Tenure::new(epoch, held.watch()), repository)?;
    say(format_args!("scheduler {name}: active in epoch {epoch}"));
    let report = |_: &_| {};
    let models = ModelsThread::start(models, questions, config.start, report)
        .context("cannot start the thread that loads models")?;
    act(&name, acting, models, held, &mut signals).await
}

/// Schedules until somebody ends it, or the lease is lost.
async fn act(
    name: &str,
    mut acting: ActingScheduler,
    mut models: ModelsThread,
    mut held: Held,
    signals: &mut Signals,
) -> Result<()> {
    let repository = acting.repository();
    let serve = async {
        let started = models.started().await;
        let count = started.map_err(|error| match error {
            Some(error) => anyhow!(error),
            None => anyhow!("the thread that loads models has ended"),
        })?;
        say(format_args!("scheduler {name}: {count} models in the repository"));
        if !models.ready().await {
            bail!("the thread that loads models has ended");
        }
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        ended = serve => ended,
        () = signals.until_shutdown(&repository) => {
            let (frontends, backends) = acting.members();
            tracing::info!(frontends, backends, "shutting down: a standby takes over");
            held.release().await;
            Ok(())
        }
        why = held.lost() => bail!("the lease is lost ({why}): another scheduler may be active"),
        () = acting.broken() => bail!("a thread of the scheduler has ended: the log says why"),
    }
}
