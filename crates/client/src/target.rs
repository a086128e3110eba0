//! The server that is asked: where it is, whom it is trusted by, and what is shown to it.

use crate::address::ServerAddress;
use anyhow::{Context, Result, anyhow};
use http::HeaderValue;
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use symphony_tls::rustls::pki_types::ServerName;
use symphony_tls::{trusting, trusting_as};
use tokio_rustls::TlsConnector;

/// The environment's name for the key.
const KEY_VARIABLE: &str = "SYMPHONY_KEY";

/// Options of every command that asks a running server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Where the server answers HTTP or, with https://, under TLS.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: ServerAddress,
    /// A key that the server knows. Others on this machine can see it in the list of processes,
    /// and cannot see SYMPHONY_KEY [default: SYMPHONY_KEY of the environment].
    #[arg(long, value_name = "KEY")]
    key: Option<Secret>,
    /// The CA certificates, in PEM form, that vouch for the server [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate of this client, for servers that ask for one.
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// A text that nothing shows.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Secret, Infallible> {
        Ok(Secret(text.to_owned()))
    }
}

/// A server, and all that is needed to ask it.
#[derive(Clone)]
pub struct Target {
    pub(crate) address: ServerAddress,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) tls: Option<Arc<TlsEnd>>,
}

/// How to speak with it under TLS.
pub(crate) struct TlsEnd {
    pub(crate) connector: TlsConnector,
    /// What its certificate has to be for.
    pub(crate) name: ServerName<'static>,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Target {
    /// A server on this machine, without TLS and keys.
    #[must_use]
    pub fn local(port: u16) -> Target {
        Target { address: ServerAddress::local(port), authorization: None, tls: None }
    }

    /// # Errors
    /// The key or the authorities cannot be used.
    pub(crate) fn open(args: &ServerArgs) -> Result<Target> {
        let given = args.key.as_ref().map(|key| (key.0.clone(), "--key"));
        let of_environment = || std::env::var(KEY_VARIABLE).ok().map(|key| (key, KEY_VARIABLE));
        let key = given.or_else(of_environment).filter(|(key, _)| !key.is_empty());
        let authorization = key.map(|(key, from)| authorization(&key, from)).transpose()?;
        let address = args.url.clone();
        let tls = if address.is_tls() {
            let (host, _) = address.socket();
            let name = ServerName::try_from(host.to_owned())
                .with_context(|| format!("{host:?} is no name that a certificate can be for"))?;
            let ca = args.ca.as_deref();
            let config = match (&args.cert, &args.cert_key) {
                (Some(certificate), Some(key)) => trusting_as(ca, certificate, key)?,
                _ => trusting(ca)?,
            };
            Some(Arc::new(TlsEnd { connector: config.into(), name }))
        } else {
            None
        };
        Ok(Target { address, authorization, tls })
    }
}

fn authorization(key: &str, from: &str) -> Result<HeaderValue> {
    // The error of the value itself is not told: it could show the key.
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| anyhow!("{from}: the key holds characters that no header can"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, key: &str) -> ServerArgs {
        let key = Some(Secret(key.to_owned()));
        ServerArgs { url: url.parse().unwrap(), key, ca: None, cert: None, cert_key: None }
    }

    #[test]
    fn a_key_is_sent_and_never_shown() {
        let args = args("http://127.0.0.1:1", "a-secret-of-mine");
        let target = Target::open(&args).unwrap();
        let value = target.authorization.clone().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer a-secret-of-mine");
        let shown = format!("{args:?} {target:?} {value:?}");
        assert!(!shown.contains("secret-of"), "{shown}");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        let error = format!("{:#}", Target::open(&args("http://h", "se\ncret")).unwrap_err());
        assert!(error.contains("--key") && !error.contains("se\n"), "{error}");
        let mut missing = args("https://h", "a-secret-of-mine");
        missing.ca = Some(PathBuf::from("missing.pem"));
        let error = format!("{:#}", Target::open(&missing).unwrap_err());
        assert!(error.contains("missing.pem") && !error.contains("secret-of"), "{error}");
    }
}
