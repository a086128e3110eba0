//! Where a process is found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a process takes links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// By TCP: `host:port`.
    Tcp(String),
    /// By a socket in the file system of one host: `unix:/path`.
    Unix(PathBuf),
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a process: write host:port, or unix:/path on the same host")]
pub struct NoEndpoint(String);

/// What an endpoint on the same host begins with.
const UNIX: &str = "unix:";

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NoEndpoint> {
        let none = || NoEndpoint(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix(UNIX) {
            let is_path = path.starts_with('/') && path.len() > 1;
            return if is_path { Ok(Endpoint::Unix(path.into())) } else { Err(none()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(none)?;
        let is_host = !host.is_empty() && !host.contains('/');
        match port.parse::<u16>() {
            Ok(_) if is_host => Ok(Endpoint::Tcp(text.to_owned())),
            _ => Err(none()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => f.write_str(address),
            Endpoint::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_back_and_other_texts_are_refused() {
        for text in ["127.0.0.1:0", "[::1]:9000", "scheduler-0.pool:9000", "unix:/run/s.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", ":1", "host", "host:", "host:70000", "unix:", "unix:s.sock", "http://a:1"]
        {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("write host:port"), "{error}");
        }
    }
}
