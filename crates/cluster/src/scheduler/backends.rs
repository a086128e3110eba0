//! The backends of the cluster, as the owner of the models sees them.

use super::members::Members;
use super::streams::{Digests, ModelFiles, StreamedFiles};
use crate::files::fingerprint;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_backend::loader::{LoadError, LoadProblem, LoadedFiles, Stage};
use symphony_backend::repository::ModelSource;
use symphony_backend::worker::Unreachable;
use symphony_control::backends::{Backends, Costs, LoadedVersion};
use symphony_core::ModelId;
use symphony_wire::message::VersionKey;
use tokio::runtime::{Builder, Runtime};

/// How long backends may take to give a model up: longer than batches run, if they end at all.
const UNLOAD_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether a profile has become better.
const REFINE_EVERY: Duration = Duration::from_secs(1);

/// The backends that are connected now and those to come.
#[derive(Debug)]
pub struct RemoteBackends {
    members: Members,
    repository: PathBuf,
    /// Of files that are streamed; `None` where backends see the repository.
    digests: Option<Digests>,
    refine_at: Instant,
}

/// A version that backends are to load.
struct Wanted {
    key: VersionKey,
    /// Where they get it from.
    files: ModelFiles,
    /// The state of its files here.
    state: LoadedFiles,
}

impl RemoteBackends {
    pub(crate) fn new(members: Members, repository: &Path, stream_models: bool) -> RemoteBackends {
        // Backends open it from directories of their own.
        let repository = repository.canonicalize().unwrap_or_else(|_| repository.to_owned());
        let digests = stream_models.then(Digests::default);
        RemoteBackends { members, repository, digests, refine_at: Instant::now() + REFINE_EVERY }
    }

    /// What tells a version in its present state from others, and where backends get it from.
    fn wanted(&mut self, source: &ModelSource) -> Result<Wanted, LoadProblem> {
        let state = LoadedFiles::of(source)?;
        let (fingerprint, files) = match &mut self.digests {
            None => (state.fingerprint(), ModelFiles::Shared(self.repository.clone())),
            Some(digests) => {
                let directory = self.repository.join(&source.name);
                let files = digests.announce(source, &directory).map_err(|error| {
                    LoadProblem::Backends(format!("{}: {error}", directory.display()))
                })?;
                let streamed = StreamedFiles { directory, files };
                (fingerprint(&streamed.files), ModelFiles::Streamed(Arc::new(streamed)))
            }
        };
        let key = VersionKey { name: source.name.clone(), version: source.version, fingerprint };
        Ok(Wanted { key, files, state })
    }

    fn load_version(
        &mut self,
        source: &ModelSource,
    ) -> Result<(LoadedVersion, VersionKey), LoadProblem> {
        let Wanted { key, files, state } = self.wanted(source)?;
        let (reply, loaded) = tokio::sync::oneshot::channel();
        self.members.seek(key.clone(), files, Some(reply));
        let facts = match loaded.blocking_recv() {
            Ok(facts) => facts.map_err(LoadProblem::Backends)?,
            Err(_) => {
                return Err(LoadProblem::Backends("the scheduler is shutting down".to_owned()));
            }
        };
        Ok((LoadedVersion { facts, files: state }, key))
    }
}

impl Backends for RemoteBackends {
    type Copies = VersionKey;

    fn accelerators(&self) -> u32 {
        self.members.accelerators().max(1)
    }

    fn load_ahead(&mut self, sources: Vec<ModelSource>) {
        for source in sources {
            // What cannot be read says so when it is its turn.
            if let Ok(Wanted { key, files, .. }) = self.wanted(&source) {
                self.members.seek(key, files, None);
            }
        }
    }

    /// Backends keep what is served by now.
    fn end_loads_ahead(&mut self) {
        self.members.settled();
    }

    fn load(&mut self, source: ModelSource) -> Result<(LoadedVersion, VersionKey), LoadError> {
        self.load_version(&source).map_err(|problem| LoadError::new(&source.name, problem))
    }

    fn tell(&self, model: &str, stage: Stage) {
        tracing::debug!(model, ?stage, "loading");
    }

    /// Links have room, or end.
    fn wait_for_room(&mut self) -> Result<(), Unreachable> {
        Ok(())
    }

    fn hand_out(
        &mut self,
        lanes: &[ModelId],
        _version: &LoadedVersion,
        key: VersionKey,
    ) -> Result<(), Unreachable> {
        // A task that has ended tells nobody.
        let _ = self.members.bind(key, lanes.to_vec()).blocking_recv();
        Ok(())
    }

    fn take_back(&mut self, models: &[ModelId]) {
        let told: Vec<_> = models.iter().map(|model| self.members.unbind(*model)).collect();
        let Ok(runtime) = timer() else { return };
        let all = async {
            for done in told {
                // A task that has ended gives nothing back.
                let _ = done.await;
            }
        };
        if runtime.block_on(async { tokio::time::timeout(UNLOAD_WAIT, all).await }).is_err() {
            tracing::warn!(?models, "backends have not given models up in time; they do it later");
        }
    }

    fn take_back_owed(&mut self) {}

    fn refine_at(&self) -> Instant {
        self.refine_at
    }

    fn refined(&mut self, now: Instant) -> Vec<(ModelId, Costs)> {
        self.refine_at = now + REFINE_EVERY;
        let refined = self.members.take_refined().into_iter();
        let costs = refined.map(|(model, by_size)| {
            let plan = by_size.at(by_size.size_max());
            (model, Costs { by_size, plan })
        });
        costs.collect()
    }
}

fn timer() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().build()
}
