//! `symphony frontend`: clients on one side, a scheduler and backends on the other.

use crate::args::FrontendArgs;
use crate::config::FrontendRole;
use crate::console::say;
use crate::logging;
use crate::ports::PortsFile;
use crate::runtime;
use crate::signals::Signals;
use anyhow::Result;
use std::time::Duration;
use symphony_cluster::frontend::FrontendEnd;
use symphony_frontend::{Frontend, Services};
use symphony_wire::clock;
use symphony_wire::message::Intake;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How often to look whether the scheduler has said what it serves, and whether requests are left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn command(args: FrontendArgs) -> Result<()> {
    let config = FrontendRole::resolve(args)?;
    logging::start(config.log);
    runtime::run(config.threads, "frontend", serve(config))
}

async fn serve(config: FrontendRole) -> Result<()> {
    let mut signals = Signals::listen()?;
    let ports_file = config.ports_file.clone().map(PortsFile::prepare).transpose()?;
    let name = config.cluster.name.clone();
    let clock = config.cluster.links.clock;
    let end = FrontendEnd::start(config.cluster).await?;
    let services = Services {
        catalog: end.catalog.clone(),
        inflight: end.in_flight.clone(),
        scheduler: end.scheduler.clone(),
        repository: end.repository.clone(),
        clock,
    };
    let frontend = Frontend::bind(config.frontend, services).await?;
    let addresses = frontend.addresses();
    say(format_args!(
        "frontend {name}: HTTP {}, gRPC {}, metrics http://{}/metrics, inputs at {}",
        addresses.http,
        addresses.grpc,
        addresses.metrics,
        end.data.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    ));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(frontend.serve(async {
        let _ = stopped.await;
    }));
    let ready = async {
        while !end.catalog.load().ready || !end.scheduler.serving().is_ok_and(|count| count > 0) {
            sleep(LOOK_EVERY).await;
        }
        let (models, epoch) = (end.catalog.load().models.len(), end.epoch().unwrap_or(0));
        say(format_args!("frontend {name}: ready, {models} models, in epoch {epoch}"));
        ports_file.map_or(Ok(()), |file| file.publish(addresses))
    };
    tokio::select! {
        announced = ready => {
            announced?;
            signals.until_shutdown(&end.repository).await;
        }
        () = signals.until_shutdown(&end.repository) => {}
    }
    end.catalog.update(|catalog| catalog.intake = catalog.intake.max(Intake::Leaving));
    let delay = timeout(config.shutdown_delay, signals.again());
    let _ = delay.await;
    end.catalog.update(|catalog| catalog.intake = Intake::Closed);
    tracing::info!("shutting down: new requests are refused, those that wait get their answers");
    let empty = async {
        while end.outstanding() > 0 {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(clock::duration(config.request_max), empty).await.is_err() {
        tracing::warn!("some requests have no answer yet: stopped without them");
    }
    let _ = stop.send(());
    if task.await.is_err() {
        tracing::error!("the frontend's task panicked");
    }
    Ok(())
}
