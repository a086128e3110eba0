//! The configuration: file and flags become one validated [`ServeConfig`], once.

use crate::args::{
    AcceleratorArgs, BackendArgs, FrontendArgs, ListenArgs, LogFormat, PoolArgs, ProcessArgs,
    SchedulerArgs, ServeArgs,
};
use crate::cluster_config::{ClusterFile, SchedulingConfig};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;
use symphony_backend::loader::{BackendFile, LoaderConfig};
use symphony_backend::repository::TomlSource;
use symphony_control::config::PoolConfig;
use symphony_control::models_thread::StartPolicy;
use symphony_core::sched::{LOW_SHARE_DEFAULT, Mode, OVERDUE_AFTER};
use symphony_core::{Objective, Span};
use symphony_exchange::Spin;
use symphony_frontend::{AdminPort, FrontendConfig, Security, TlsFiles, request_bytes_max_default};
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::in_process::inflight::IN_FLIGHT_MAX_DEFAULT;
use tracing::level_filters::LevelFilter;

/// `symphony.toml` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    server: ServerFile,
    scheduler: SchedulerFile,
    backend: BackendFile,
    cluster: ClusterFile,
    log: LogFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServerFile {
    host: Option<IpAddr>,
    http_port: Option<u16>,
    grpc_port: Option<u16>,
    metrics_port: Option<u16>,
    body_max_mib: Option<u32>,
    request_bytes_max_mib: Option<u32>,
    body_timeout_s: Option<u32>,
    request_max_s: Option<u32>,
    request_rows_max: Option<u32>,
    connections_max: Option<u32>,
    connection_age_max_s: Option<u32>,
    in_flight_max: Option<u32>,
    threads: Option<u32>,
    drain_seconds: Option<u32>,
    shutdown_delay_s: Option<u32>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    keys_file: Option<PathBuf>,
    admin_host: Option<IpAddr>,
    admin_port: Option<u16>,
    metrics_protected: Option<bool>,
    /// What `request_bytes_max_mib` was called before: read to say so.
    tensor_bytes_max_mib: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SchedulerFile {
    low_priority_share: Option<f64>,
    mode: Option<String>,
    threads: Option<u32>,
    spin_us: Option<u64>,
    accelerator_overdue_ms: Option<u32>,
    /// What `mode` was called before, with other names: read to say so.
    rule: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogFile {
    format: Option<LogFormat>,
    level: Option<String>,
}

/// A pool in this process and its log.
#[derive(Clone, Debug)]
pub(crate) struct ProcessConfig {
    pub(crate) pool: PoolConfig,
    pub(crate) log: LogConfig,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
    pub(crate) level: LevelFilter,
}

/// Where and what to serve.
#[derive(Clone, Debug)]
pub(crate) struct ServeConfig {
    pub(crate) models: PathBuf,
    pub(crate) frontend: FrontendConfig,
    /// Threads that speak with clients.
    pub(crate) threads: usize,
    pub(crate) ports_file: Option<PathBuf>,
    pub(crate) start: StartPolicy,
    /// How long requests are still served once the server is told to end.
    pub(crate) shutdown_delay: Duration,
    pub(crate) process: ProcessConfig,
}

/// A body is held in memory: more than this is no request.
const BODY_MAX_MIB_LIMIT: u32 = 2047;

/// Nobody waits longer for an answer.
const REQUEST_MAX_S_LIMIT: u32 = 86_400;

/// More threads than this serve no machine.
const THREADS_MAX: u32 = 1024;

/// More threads would have no model to look after.
const SCHEDULER_THREADS_MAX: u32 = 256;

/// No load balancer takes longer to send requests elsewhere.
const SHUTDOWN_DELAY_S_MAX: u32 = 3600;

/// A thread that spins for longer may as well not sleep at all.
const SPIN_US_MAX: u64 = 1_000_000;

impl ServeConfig {
    /// Reads the configuration file, if one is named, and lays the flags over it.
    pub(crate) fn resolve(args: ServeArgs) -> Result<ServeConfig> {
        let (file, source) = File::read(args.pool.process.config.as_deref())?;
        let server = ServerBounds::of(&file.server)?;
        Ok(ServeConfig {
            frontend: file.server.frontend(&args.listen)?,
            threads: file.server.threads(cores())?,
            models: args.models,
            ports_file: args.listen.ports_file,
            start: StartPolicy { skip_failed: args.skip_failed, allow_empty: args.allow_empty },
            shutdown_delay: file.server.shutdown_delay()?,
            process: ProcessConfig::from_parts(
                args.pool,
                (file.scheduler, file.backend, file.log),
                &source,
                server,
            )?,
        })
    }
}

/// A frontend that is a process of its own.
#[derive(Clone, Debug)]
pub(crate) struct FrontendRole {
    pub(crate) cluster: symphony_cluster::frontend::FrontendConfig,
    pub(crate) frontend: FrontendConfig,
    pub(crate) threads: usize,
    pub(crate) ports_file: Option<PathBuf>,
    pub(crate) shutdown_delay: Duration,
    pub(crate) request_max: Span,
    pub(crate) log: LogConfig,
}

impl FrontendRole {
    pub(crate) fn resolve(args: FrontendArgs) -> Result<FrontendRole> {
        let (file, _) = File::read(args.role.process.config.as_deref())?;
        let server = ServerBounds::of(&file.server)?;
        let name = args.role.name.clone();
        Ok(FrontendRole {
            cluster: file.cluster.frontend(name, &args, server.in_flight_max)?,
            frontend: file.server.frontend(&args.listen)?,
            threads: file.server.threads(cores())?,
            ports_file: args.listen.ports_file,
            shutdown_delay: file.server.shutdown_delay()?,
            request_max: server.request_max,
            log: LogConfig::resolve(args.role.process, file.log)?,
        })
    }
}

/// A scheduler that is a process of its own.
#[derive(Clone, Debug)]
pub(crate) struct SchedulerRole {
    pub(crate) models: PathBuf,
    pub(crate) cluster: symphony_cluster::scheduler::SchedulerConfig,
    pub(crate) lease: symphony_lease::LeaseAddress,
    pub(crate) start: StartPolicy,
    pub(crate) ports_file: Option<PathBuf>,
    pub(crate) log: LogConfig,
}

impl SchedulerRole {
    pub(crate) fn resolve(args: SchedulerArgs) -> Result<SchedulerRole> {
        let (file, _) = File::read(args.role.process.config.as_deref())?;
        let scheduling = SchedulingConfig {
            mode: file.scheduler.mode(args.mode)?,
            low_share: file.scheduler.low_share()?,
            overdue_after: file.scheduler.overdue_after()?,
            layout: file.scheduler.layout()?,
            spin: file.scheduler.spin()?,
        };
        Ok(SchedulerRole {
            cluster: file.cluster.scheduler(&args, &scheduling)?,
            lease: file.cluster.lease(&args)?,
            // A model that cannot be loaded is no reason to leave the others without a scheduler.
            start: StartPolicy { skip_failed: true, allow_empty: args.allow_empty },
            models: args.models,
            ports_file: args.ports_file,
            log: LogConfig::resolve(args.role.process, file.log)?,
        })
    }
}

/// A backend that is a process of its own.
#[derive(Clone, Debug)]
pub(crate) struct BackendRole {
    pub(crate) cluster: symphony_cluster::backend::BackendConfig,
    pub(crate) loader: LoaderConfig,
    pub(crate) log: LogConfig,
}

impl BackendRole {
    pub(crate) fn resolve(args: BackendArgs) -> Result<BackendRole> {
        let (file, source) = File::read(args.role.process.config.as_deref())?;
        let loader = loader(args.accelerators.clone(), file.backend, &source)?;
        Ok(BackendRole {
            cluster: file.cluster.backend(&args, loader.cores.accelerators)?,
            loader,
            log: LogConfig::resolve(args.role.process, file.log)?,
        })
    }
}

impl LogConfig {
    fn resolve(args: ProcessArgs, file: LogFile) -> Result<LogConfig> {
        let (format, level) = (args.log_format, args.log_level.or(file.level));
        Ok(LogConfig {
            format: format.or(file.format).unwrap_or(LogFormat::Text),
            level: level.as_deref().map_or(Ok(LevelFilter::INFO), parse_level)?,
        })
    }
}

/// What the section `[server]` says of the pool.
#[derive(Clone, Copy, Debug)]
struct ServerBounds {
    in_flight_max: usize,
    request_max: Span,
}

impl ServerBounds {
    fn of(file: &ServerFile) -> Result<ServerBounds> {
        let in_flight_max = file.in_flight_max();
        if in_flight_max == 0 {
            bail!("server.in_flight_max = 0: no request could be served; give at least 1");
        }
        Ok(ServerBounds { in_flight_max, request_max: file.request_max()? })
    }
}

impl ProcessConfig {
    /// The configuration of a command that serves nobody from outside.
    #[cfg(feature = "lab")]
    pub(crate) fn resolve(args: PoolArgs) -> Result<ProcessConfig> {
        let (file, source) = File::read(args.process.config.as_deref())?;
        let server = ServerBounds::of(&file.server)?;
        let parts = (file.scheduler, file.backend, file.log);
        ProcessConfig::from_parts(args, parts, &source, server)
    }

    fn from_parts(
        args: PoolArgs,
        (scheduler, backend, log): (SchedulerFile, BackendFile, LogFile),
        source: &TomlSource,
        server: ServerBounds,
    ) -> Result<ProcessConfig> {
        Ok(ProcessConfig {
            pool: PoolConfig {
                mode: scheduler.mode(args.mode)?,
                low_priority_share: scheduler.low_share()?,
                overdue_after: scheduler.overdue_after()?,
                layout: scheduler.layout()?,
                spin: scheduler.spin()?,
                loader: loader(args.accelerators, backend, source)?,
                in_flight_max: server.in_flight_max,
                request_max: server.request_max,
            },
            log: LogConfig::resolve(args.process, log)?,
        })
    }
}

/// The accelerators that flags and file ask for, flags first.
fn loader(args: AcceleratorArgs, file: BackendFile, source: &TomlSource) -> Result<LoaderConfig> {
    let backend = BackendFile {
        accelerators: args.accelerators.map(plain).or(file.accelerators),
        threads: args.threads.map(plain).or(file.threads),
        cache_dir: args.cache_dir.or(file.cache_dir),
        onnxruntime: args.onnxruntime.or(file.onnxruntime),
        python: args.python.or(file.python),
    };
    Ok(LoaderConfig::resolve(backend, source, cores())?)
}

fn mebibytes(mib: u32) -> usize {
    mib as usize * 1024 * 1024
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// A value from a flag: it has no place in the file.
fn plain(count: u32) -> toml::Spanned<i64> {
    toml::Spanned::new(0..0, i64::from(count))
}

fn parse_level(level: &str) -> Result<LevelFilter> {
    level
        .parse()
        .with_context(|| format!("log level {level:?}: use error, warn, info, debug or trace"))
}

impl SchedulerFile {
    fn low_share(&self) -> Result<f64> {
        match self.low_priority_share {
            None => Ok(LOW_SHARE_DEFAULT),
            Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
            Some(share) => bail!(
                "scheduler.low_priority_share = {share}: give 0 (nothing is kept for requests of \
                 low priority) to 1"
            ),
        }
    }

    fn overdue_after(&self) -> Result<Span> {
        match self.accelerator_overdue_ms {
            None => Ok(OVERDUE_AFTER),
            Some(ms @ 1..) => Ok(Span::from_millis(ms.into())),
            Some(0) => bail!(
                "scheduler.accelerator_overdue_ms = 0: give at least 1, so that an accelerator has \
                 time to say that it has ended a batch"
            ),
        }
    }

    /// One thread where the file says nothing: a second one is worth its wake-ups only where one
    /// has more to do than it can.
    fn layout(&self) -> Result<Layout> {
        match self.threads.unwrap_or(1) {
            threads @ 1..=SCHEDULER_THREADS_MAX => Ok(Layout::on_threads(threads as usize)),
            threads => bail!("scheduler.threads = {threads}: give 1 to {SCHEDULER_THREADS_MAX}"),
        }
    }

    fn spin(&self) -> Result<Spin> {
        match self.spin_us.unwrap_or(0) {
            us @ 0..=SPIN_US_MAX => {
                let spin = Duration::from_micros(us);
                Ok(Spin { idle: spin, due: spin })
            }
            us => bail!("scheduler.spin_us = {us}: give 0, never, to {SPIN_US_MAX} microseconds"),
        }
    }

    /// The mode of the pool, the flag first. What the file says is checked all the same.
    fn mode(&self, flag: Option<Mode>) -> Result<Mode> {
        if self.rule.is_some() {
            bail!(
                "scheduler.rule is called scheduler.mode now: write mode = \"consolidate\" in \
                 place of rule = \"deferred\", mode = \"eager\" in place of rule = \"eager\", or \
                 leave it out for \"adaptive\""
            );
        }
        let file = self.mode.as_deref().map(|name| name.parse().context("scheduler.mode"));
        Ok(flag.or(file.transpose()?).unwrap_or_default())
    }
}

impl ServerFile {
    /// The frontend's configuration, flags first.
    fn frontend(&self, args: &ListenArgs) -> Result<FrontendConfig> {
        let usual = FrontendConfig::default();
        let host = args.host.or(self.host).map_or(usual.host, |host| host.to_string());
        let body_max = match self.body_max_mib {
            None => usual.body_max,
            Some(mib @ 1..=BODY_MAX_MIB_LIMIT) => mebibytes(mib),
            Some(mib) => bail!("server.body_max_mib = {mib}: give 1 to {BODY_MAX_MIB_LIMIT}"),
        };
        let connections_max = self.connections_max.unwrap_or(usual.connections_max);
        if connections_max == 0 {
            bail!("server.connections_max = 0: no client could connect; give at least 1");
        }
        Ok(FrontendConfig {
            host,
            http_port: args.http_port.or(self.http_port).unwrap_or(usual.http_port),
            grpc_port: args.grpc_port.or(self.grpc_port).unwrap_or(usual.grpc_port),
            metrics_port: args.metrics_port.or(self.metrics_port).unwrap_or(usual.metrics_port),
            body_max,
            request_bytes_max: self.request_bytes_max(body_max)?,
            body_timeout: match self.body_timeout_s {
                None => usual.body_timeout,
                Some(0) => bail!("server.body_timeout_s = 0: give at least 1 second"),
                Some(seconds) => Duration::from_secs(seconds.into()),
            },
            request_max: self.request_max()?,
            request_rows_max: self.request_rows_max.unwrap_or(usual.request_rows_max),
            connections_max,
            connection_age_max: match self.connection_age_max_s {
                None | Some(0) => None,
                Some(seconds) => Some(Duration::from_secs(seconds.into())),
            },
            drain: self.drain_seconds.map_or(usual.drain, |s| Duration::from_secs(s.into())),
            security: self.security(args.admin_port)?,
        })
    }

    /// Who may ask what; the flag first.
    fn security(&self, admin_port: Option<u16>) -> Result<Security> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                ca: self.tls_client_ca.clone(),
            }),
            (None, None) if self.tls_client_ca.is_some() => {
                bail!("server.tls_client_ca: give server.tls_certificate and server.tls_key too")
            }
            (None, None) => None,
            (Some(_), None) => bail!("server.tls_certificate: give its key too, server.tls_key"),
            (None, Some(_)) => bail!("server.tls_key: give its server.tls_certificate too"),
        };
        let admin = match (admin_port.or(self.admin_port), self.admin_host) {
            (Some(port), host) => {
                let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
                Some(AdminPort { host, port })
            }
            (None, Some(_)) => bail!("server.admin_host: give server.admin_port too"),
            (None, None) => None,
        };
        Ok(Security {
            tls,
            keys_file: self.keys_file.clone(),
            admin,
            protects_metrics: self.metrics_protected.unwrap_or(false),
        })
    }

    /// The longest that a request may take without an objective.
    fn request_max(&self) -> Result<Span> {
        match self.request_max_s {
            None => Ok(Objective::REQUEST_MAX_DEFAULT),
            Some(seconds @ 1..=REQUEST_MAX_S_LIMIT) => Ok(Span::from_secs(seconds.into())),
            Some(seconds) => bail!(
                "server.request_max_s = {seconds}: give 1 to {REQUEST_MAX_S_LIMIT} seconds (a day)"
            ),
        }
    }

    /// Enough for two bodies of the largest size, a compressed one and what comes out of it.
    fn request_bytes_max(&self, body_max: usize) -> Result<usize> {
        if self.tensor_bytes_max_mib.is_some() {
            bail!(
                "server.tensor_bytes_max_mib is called server.request_bytes_max_mib now, and bounds \
                 the bodies that arrive as well: write request_bytes_max_mib"
            );
        }
        let least = 2 * body_max;
        match self.request_bytes_max_mib.map(mebibytes) {
            None => Ok(request_bytes_max_default().max(least)),
            Some(bytes) if bytes >= least => Ok(bytes),
            Some(_) => bail!(
                "server.request_bytes_max_mib: give at least {}, twice body_max_mib",
                least >> 20
            ),
        }
    }

    /// Half of the cores where the file says nothing: the other half have accelerators to feed,
    /// and a thread too many is woken in vain with every request.
    fn threads(&self, cores: usize) -> Result<usize> {
        match self.threads {
            None => Ok((cores / 2).clamp(1, THREADS_MAX as usize)),
            Some(threads @ 1..=THREADS_MAX) => Ok(threads as usize),
            Some(threads) => bail!("server.threads = {threads}: give 1 to {THREADS_MAX}"),
        }
    }

    fn shutdown_delay(&self) -> Result<Duration> {
        match self.shutdown_delay_s.unwrap_or(0) {
            seconds @ 0..=SHUTDOWN_DELAY_S_MAX => Ok(Duration::from_secs(seconds.into())),
            seconds => bail!(
                "server.shutdown_delay_s = {seconds}: give 0, not at all, to {SHUTDOWN_DELAY_S_MAX}"
            ),
        }
    }

    fn in_flight_max(&self) -> usize {
        self.in_flight_max.map_or(IN_FLIGHT_MAX_DEFAULT, |max| max as usize)
    }
}

impl File {
    fn read(path: Option<&Path>) -> Result<(File, TomlSource)> {
        let source = match path {
            Some(path) => TomlSource::read(path)?,
            None => TomlSource::from_text(Path::new("the command line"), ""),
        };
        Ok((source.parse()?, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_the_flags_or_the_files_or_adaptive() {
        let mode = |text: &str, flag| toml::from_str::<SchedulerFile>(text).unwrap().mode(flag);
        for (text, flag, expected) in [
            ("", None, Mode::Adaptive),
            ("mode = \"consolidate\"", None, Mode::Consolidate),
            ("mode = \"consolidate\"", Some(Mode::Eager), Mode::Eager),
        ] {
            assert_eq!(mode(text, flag).unwrap(), expected, "{text:?} {flag:?}");
        }
        for (text, part) in [
            ("mode = \"deferred\"", "scheduler.mode: there is no mode \"deferred\": write"),
            ("rule = \"deferred\"", "write mode = \"consolidate\""),
            ("rule = 1", "called scheduler.mode now"),
        ] {
            let error = format!("{:#}", mode(text, Some(Mode::Eager)).unwrap_err());
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_scheduler_has_one_thread_that_sleeps_unless_the_file_says_otherwise() {
        let file = |text: &str| toml::from_str::<SchedulerFile>(text).unwrap();
        assert_eq!(file("").layout().unwrap(), Layout::TOGETHER);
        assert_eq!(file("").spin().unwrap(), Spin::NEVER);
        assert_eq!(file("threads = 3").layout().unwrap().shards(), 2);
        let spin = file("spin_us = 50").spin().unwrap();
        assert_eq!((spin.idle, spin.due), (Duration::from_micros(50), Duration::from_micros(50)));
        for nonsense in [0, 257] {
            let error = file(&format!("threads = {nonsense}")).layout().unwrap_err().to_string();
            assert_eq!(error, format!("scheduler.threads = {nonsense}: give 1 to 256"));
        }
        let error = file("spin_us = 2000000").spin().unwrap_err().to_string();
        assert!(error.starts_with("scheduler.spin_us = 2000000: give 0, never, to"), "{error}");
    }

    #[test]
    fn requests_are_served_for_a_while_at_the_end_if_the_file_says_so() {
        let delay = |text: &str| toml::from_str::<ServerFile>(text).unwrap().shutdown_delay();
        assert_eq!(delay("").unwrap(), Duration::ZERO);
        assert_eq!(delay("shutdown_delay_s = 5").unwrap(), Duration::from_secs(5));
        let error = delay("shutdown_delay_s = 3601").unwrap_err().to_string();
        assert_eq!(error, "server.shutdown_delay_s = 3601: give 0, not at all, to 3600");
    }

    #[test]
    fn what_guards_the_server_is_whole_or_refused() {
        let security = |text: &str, flag| {
            toml::from_str::<ServerFile>(text).unwrap().security(flag).map_err(|e| e.to_string())
        };
        let none = security("", None).unwrap();
        assert!(none.tls.is_none() && none.keys_file.is_none() && none.admin.is_none());
        assert!(!none.protects_metrics);
        let all = "tls_certificate = \"c\"\ntls_key = \"k\"\ntls_client_ca = \"ca\"\n\
                   keys_file = \"keys\"\nadmin_host = \"0.0.0.0\"\nadmin_port = 9\n\
                   metrics_protected = true";
        let all = security(all, None).unwrap();
        assert_eq!(all.tls.unwrap().ca.unwrap(), Path::new("ca"));
        assert_eq!(all.admin.unwrap(), AdminPort { host: "0.0.0.0".to_owned(), port: 9 });
        assert!(all.protects_metrics);
        let admin = security("admin_port = 9", Some(0)).unwrap().admin.unwrap();
        assert_eq!(admin, AdminPort { host: "127.0.0.1".to_owned(), port: 0 });
        for (text, part) in [
            ("tls_certificate = \"c\"", "give its key too"),
            ("tls_key = \"k\"", "give its server.tls_certificate"),
            ("tls_client_ca = \"ca\"", "give server.tls_certificate and server.tls_key"),
            ("admin_host = \"::1\"", "give server.admin_port too"),
        ] {
            let error = security(text, None).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn accelerators_have_a_second_unless_the_file_says_otherwise() {
        let after = |text: &str| toml::from_str::<SchedulerFile>(text).unwrap().overdue_after();
        assert_eq!(after("").unwrap(), Span::from_secs(1));
        assert_eq!(after("accelerator_overdue_ms = 50").unwrap(), Span::from_millis(50));
        let error = after("accelerator_overdue_ms = 0").unwrap_err().to_string();
        assert!(error.starts_with("scheduler.accelerator_overdue_ms = 0: give"), "{error}");
    }

    #[test]
    fn requests_may_hold_two_bodies_at_least() {
        let bytes = |text: &str, body_max| {
            let file: ServerFile = toml::from_str(text).unwrap();
            file.request_bytes_max(body_max).map_err(|error| error.to_string())
        };
        assert_eq!(bytes("", 64 << 20).unwrap(), request_bytes_max_default());
        assert_eq!(bytes("", 1 << 50).unwrap(), 1 << 51);
        assert_eq!(bytes("request_bytes_max_mib = 200", 64 << 20).unwrap(), 200 << 20);
        for (text, part) in [
            ("request_bytes_max_mib = 127", "give at least 128, twice body_max_mib"),
            ("tensor_bytes_max_mib = 512", "called server.request_bytes_max_mib now"),
        ] {
            let error = bytes(text, 64 << 20).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn half_of_the_cores_speak_with_clients_unless_the_file_says_otherwise() {
        let threads =
            |threads, cores| ServerFile { threads, ..ServerFile::default() }.threads(cores);
        for (given, cores, expected) in
            [(None, 1, 1), (None, 2, 1), (None, 3, 1), (None, 16, 8), (Some(3), 2, 3)]
        {
            assert_eq!(threads(given, cores).unwrap(), expected, "{given:?} on {cores}");
        }
        for nonsense in [0, 1025] {
            let error = threads(Some(nonsense), 2).unwrap_err().to_string();
            assert_eq!(error, format!("server.threads = {nonsense}: give 1 to 1024"));
        }
    }
}
