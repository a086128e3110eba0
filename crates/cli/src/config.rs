//! The configuration: file and flags become one validated [`Config`], once.

use crate::args::{LogFormat, PoolArgs, RuleName, ServeArgs};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use symphony_backend::loader::{BackendFile, LoaderConfig};
use symphony_backend::repository::TomlSource;
use symphony_core::sched::Rule;
use symphony_wire::inflight::IN_FLIGHT_MAX_DEFAULT;
use tracing::level_filters::LevelFilter;

/// `symphony.toml` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    server: ServerFile,
    scheduler: SchedulerFile,
    backend: BackendFile,
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
    in_flight_max: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SchedulerFile {
    rule: Option<RuleName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogFile {
    format: Option<LogFormat>,
    level: Option<String>,
}

/// A pool in this process: engines, scheduler, log.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    pub(crate) rule: Rule,
    pub(crate) loader: LoaderConfig,
    pub(crate) in_flight_max: usize,
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
    pub(crate) host: IpAddr,
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) metrics_port: u16,
    pub(crate) body_max: usize,
    pub(crate) ports_file: Option<PathBuf>,
    pub(crate) skip_failed: bool,
    pub(crate) pool: PoolConfig,
}

const HTTP_PORT: u16 = 8000;
const GRPC_PORT: u16 = 8001;
const METRICS_PORT: u16 = 8002;
const BODY_MAX_MIB: u32 = 64;
/// A body is held in memory: more than this is no request.
const BODY_MAX_MIB_LIMIT: u32 = 2047;

impl ServeConfig {
    /// Reads the configuration file, if one is named, and lays the flags over it.
    pub(crate) fn resolve(args: ServeArgs) -> Result<ServeConfig> {
        let (file, source) = File::read(args.pool.config.as_deref())?;
        let server = file.server;
        let body_max_mib = server.body_max_mib.unwrap_or(BODY_MAX_MIB);
        if !(1..=BODY_MAX_MIB_LIMIT).contains(&body_max_mib) {
            bail!("server.body_max_mib = {body_max_mib}: give 1 to {BODY_MAX_MIB_LIMIT}");
        }
        let in_flight_max = server.in_flight_max();
        Ok(ServeConfig {
            models: args.models,
            host: args.host.or(server.host).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            http_port: args.http_port.or(server.http_port).unwrap_or(HTTP_PORT),
            grpc_port: args.grpc_port.or(server.grpc_port).unwrap_or(GRPC_PORT),
            metrics_port: args.metrics_port.or(server.metrics_port).unwrap_or(METRICS_PORT),
            body_max: body_max_mib as usize * 1024 * 1024,
            ports_file: args.ports_file,
            skip_failed: args.skip_failed,
            pool: PoolConfig::from_parts(
                args.pool,
                (file.scheduler, file.backend, file.log),
                &source,
                in_flight_max,
            )?,
        })
    }
}

impl PoolConfig {
    /// The pool of a command that serves nobody from outside.
    pub(crate) fn resolve(args: PoolArgs) -> Result<PoolConfig> {
        let (file, source) = File::read(args.config.as_deref())?;
        let in_flight_max = file.server.in_flight_max();
        let parts = (file.scheduler, file.backend, file.log);
        PoolConfig::from_parts(args, parts, &source, in_flight_max)
    }

    fn from_parts(
        args: PoolArgs,
        (scheduler, backend, log): (SchedulerFile, BackendFile, LogFile),
        source: &TomlSource,
        in_flight_max: usize,
    ) -> Result<PoolConfig> {
        if in_flight_max == 0 {
            bail!("server.in_flight_max = 0: no request could be served; give at least 1");
        }
        let cores = available_parallelism().map_or(1, usize::from);
        let backend = BackendFile {
            accelerators: args.accelerators.map(plain).or(backend.accelerators),
            threads: args.threads.map(plain).or(backend.threads),
            cache_dir: args.cache_dir.or(backend.cache_dir),
            onnxruntime: args.onnxruntime.or(backend.onnxruntime),
        };
        let level = args.log_level.or(log.level);
        Ok(PoolConfig {
            rule: match args.rule.or(scheduler.rule).unwrap_or(RuleName::Deferred) {
                RuleName::Deferred => Rule::Deferred,
                RuleName::Eager => Rule::Eager,
            },
            loader: LoaderConfig::resolve(backend, source, cores)?,
            in_flight_max,
            log: LogConfig {
                format: args.log_format.or(log.format).unwrap_or(LogFormat::Text),
                level: level.as_deref().map_or(Ok(LevelFilter::INFO), parse_level)?,
            },
        })
    }
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

impl ServerFile {
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
