//! The section `[cluster]`: what the processes of a cluster have in common.

use crate::args::{BackendArgs, FrontendArgs, SchedulerArgs};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use symphony_backend::loader::memory_total;
use symphony_cluster::backend::BackendConfig;
use symphony_cluster::frontend::{FrontendConfig, own_socket};
use symphony_cluster::scheduler::SchedulerConfig;
use symphony_core::Span;
use symphony_core::sched::Mode;
use symphony_dispatch::Settings;
use symphony_exchange::Spin;
use symphony_lease::LeaseAddress;
use symphony_tls::{Identity, TlsFiles};
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::link::{Endpoint, LinkSettings, Security};
use symphony_wire::carrier::shared_memory::Arena;
use symphony_wire::clock::Clock;
use symphony_wire::message::AcceleratorFacts;

/// Where a scheduler listens if nobody says otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:7000";
/// Where a frontend's inputs are fetched from other hosts if nobody says otherwise.
const DATA_DEFAULT: &str = "127.0.0.1:0";
/// Memory for the tensors that backends of the frontend's host read, if nobody says otherwise. Only what
/// is used of it is taken.
const ARENA_MIB_DEFAULT: u32 = 1024;

/// Bound on the models that are streamed to a backend if nobody says otherwise.
const STREAMED_GIB_MAX_DEFAULT: u32 = 64;

/// `[cluster]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterFile {
    heartbeat_ms: Option<u32>,
    missed_max: Option<u32>,
    frame_max_mib: Option<u32>,
    plain_anywhere: Option<bool>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    lease: Option<String>,
    stream_models: Option<bool>,
    streamed_gib_max: Option<u32>,
    arena_mib: Option<u32>,
}

/// How a scheduler schedules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulingConfig {
    pub(crate) mode: Mode,
    pub(crate) low_share: f64,
    pub(crate) overdue_after: Span,
    pub(crate) layout: Layout,
    pub(crate) spin: Spin,
}

/// The name of a process that was given none: its host and its number there.
fn own_name(name: Option<String>) -> String {
    name.unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}", std::process::id())
    })
}

impl ClusterFile {
    fn links(&self) -> Result<LinkSettings> {
        let usual = LinkSettings::new(Clock::start());
        let heartbeat = match self.heartbeat_ms {
            None => usual.heartbeat,
            Some(ms @ 1..=10_000) => Duration::from_millis(ms.into()),
            Some(ms) => bail!("cluster.heartbeat_ms = {ms}: give 1 to 10000"),
        };
        let missed_max = match self.missed_max {
            None => usual.missed_max,
            Some(count @ 2..=1000) => count,
            Some(count) => bail!(
                "cluster.missed_max = {count}: give 2 to 1000; one late heartbeat is no failure"
            ),
        };
        let frame_max = match self.frame_max_mib {
            None => usual.frame_max,
            Some(mib @ 1..=2047) => (mib as usize) << 20,
            Some(mib) => bail!("cluster.frame_max_mib = {mib}: give 1 to 2047"),
        };
        let security = self.security()?;
        Ok(LinkSettings { heartbeat, missed_max, frame_max, security, ..usual })
    }

    /// What protects links. Half of a protection is none.
    fn security(&self) -> Result<Security> {
        let plain_anywhere = self.plain_anywhere.unwrap_or(false);
        let files = (&self.tls_certificate, &self.tls_key, &self.tls_ca);
        match files {
            (None, None, None) if plain_anywhere => Ok(Security::PlainAnywhere),
            (None, None, None) => Ok(Security::Plain),
            (Some(_), Some(_), Some(_)) if plain_anywhere => bail!(
                "cluster.plain_anywhere = true beside cluster.tls_certificate: links are protected \
                 or they are not; leave one of them out"
            ),
            (Some(certificate), Some(key), Some(ca)) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                let files = TlsFiles { certificate, key, ca: Some(ca.clone()) };
                Ok(Security::Tls(Identity::open(files)?))
            }
            _ => bail!(
                "cluster.tls_certificate, cluster.tls_key and cluster.tls_ca belong together: every \
                 process shows a certificate, and trusts those of one authority"
            ),
        }
    }

    pub(crate) fn frontend(
        &self,
        name: Option<String>,
        args: &FrontendArgs,
        in_flight_max: usize,
    ) -> Result<FrontendConfig> {
        let listen = match &args.listen_data[..] {
            [] => vec![own_socket(), DATA_DEFAULT.parse()?],
            given => given.to_vec(),
        };
        // It is passed along by a socket of this host.
        let is_local = listen.iter().any(|endpoint| matches!(endpoint, Endpoint::Unix(_)));
        let arena = if is_local { self.arena()? } else { None };
        Ok(FrontendConfig {
            name: own_name(name),
            schedulers: args.scheduler.clone(),
            listen,
            advertised: args.advertise_data.clone(),
            links: LinkSettings { arena, ..self.links()? },
            in_flight_max,
        })
    }

    pub(crate) fn scheduler(
        &self,
        args: &SchedulerArgs,
        scheduling: &SchedulingConfig,
    ) -> Result<SchedulerConfig> {
        let &SchedulingConfig { mode, low_share, overdue_after, layout, spin } = scheduling;
        Ok(SchedulerConfig {
            name: own_name(args.role.name.clone()),
            listen: listen(args)?,
            links: self.links()?,
            settings: Settings { mode, accelerators: 0, low_share, overdue_after },
            layout,
            spin,
            stream_models: args.stream_models || self.stream_models.unwrap_or(false),
        })
    }

    /// The lease: the flag's, the file's, or a file that no other scheduler has.
    pub(crate) fn lease(&self, args: &SchedulerArgs) -> Result<LeaseAddress> {
        if let Some(lease) = &args.lease {
            return Ok(lease.clone());
        }
        if let Some(lease) = &self.lease {
            return Ok(lease.parse()?);
        }
        let own = std::env::temp_dir().join(format!("symphony-{}.lease", std::process::id()));
        Ok(LeaseAddress::File(own))
    }

    pub(crate) fn backend(&self, args: &BackendArgs, accelerators: usize) -> Result<BackendConfig> {
        let memory = memory_total() / accelerators.max(1) as u64;
        let facts = AcceleratorFacts { kind: "cpu".to_owned(), memory };
        Ok(BackendConfig {
            name: own_name(args.role.name.clone()),
            schedulers: args.scheduler.clone(),
            links: self.links()?,
            accelerators: vec![facts; accelerators],
            // What the loader finds when it opens them.
            engines: Vec::new(),
            streamed_bytes_max: u64::from(self.streamed_gib_max()?) << 30,
        })
    }
}

impl ClusterFile {
    /// Memory for tensors that backends of the same host read.
    fn arena(&self) -> Result<Option<Arena>> {
        let mib = match self.arena_mib {
            None => ARENA_MIB_DEFAULT,
            Some(0) => return Ok(None),
            Some(mib @ 1..=1_048_576) => mib,
            Some(mib) => bail!("cluster.arena_mib = {mib}: give 0 (none) to 1048576"),
        };
        let cannot = || {
            format!(
                "cannot have {mib} MiB of shared memory (cluster.arena_mib; 0 sends tensors by the \
                 socket)"
            )
        };
        Arena::new((mib as usize) << 20).map(Some).with_context(cannot)
    }

    fn streamed_gib_max(&self) -> Result<u32> {
        match self.streamed_gib_max {
            None => Ok(STREAMED_GIB_MAX_DEFAULT),
            Some(gib @ 1..=1_000_000) => Ok(gib),
            Some(gib) => bail!("cluster.streamed_gib_max = {gib}: give 1 to 1000000"),
        }
    }
}

fn listen(args: &SchedulerArgs) -> Result<Endpoint> {
    Ok(args.listen.clone().map_or_else(|| LISTEN_DEFAULT.parse(), Ok)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let file: ClusterFile = toml::from_str(text).unwrap();
        format!("{:#}", file.links().unwrap_err())
    }

    #[test]
    fn links_are_plain_on_this_host_unless_the_file_says_otherwise() {
        let links = |text: &str| toml::from_str::<ClusterFile>(text).unwrap().links().unwrap();
        assert!(matches!(links("").security, Security::Plain));
        assert!(matches!(links("plain_anywhere = true").security, Security::PlainAnywhere));
        let set = links("heartbeat_ms = 20\nmissed_max = 5\nframe_max_mib = 1");
        assert_eq!((set.heartbeat, set.missed_max), (Duration::from_millis(20), 5));
        assert_eq!(set.frame_max, 1 << 20);
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_key() {
        for (text, part) in [
            ("heartbeat_ms = 0", "cluster.heartbeat_ms = 0: give 1 to 10000"),
            ("missed_max = 1", "cluster.missed_max = 1: give 2 to 1000"),
            ("frame_max_mib = 4096", "cluster.frame_max_mib = 4096: give 1 to 2047"),
            ("tls_key = \"/k\"", "tls_key and cluster.tls_ca belong together"),
            ("tls_certificate = \"/c\"\ntls_key = \"/k\"\ntls_ca = \"/a\"", "/c"),
            (
                "plain_anywhere = true\ntls_certificate = \"/c\"\ntls_key = \"/k\"\ntls_ca = \"/a\"",
                "leave one of them out",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
