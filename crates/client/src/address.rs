//! Where a server is.

use std::fmt;
use std::str::FromStr;

/// Where a server answers HTTP: a host, a port, and the path that its routes are under; and whether
/// it does so under TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    is_tls: bool,
    host: String,
    port: u16,
    /// Empty, or a path with a slash before it and none behind it.
    prefix: String,
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadAddress(String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadAddress {}

impl ServerAddress {
    /// A server on this machine.
    pub(crate) fn local(port: u16) -> ServerAddress {
        let host = "127.0.0.1".to_owned();
        ServerAddress { is_tls: false, host, port, prefix: String::new() }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What to connect to.
    pub(crate) fn socket(&self) -> (&str, u16) {
        // An IPv6 address stands in brackets where a port follows.
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// The `Host` header of a request.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The path of a route of the server, such as `/v2`.
    pub(crate) fn path(&self, route: &str) -> String {
        format!("{}{route}", self.prefix)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl FromStr for ServerAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<ServerAddress, BadAddress> {
        let bad = |why: &str| {
            BadAddress(format!("{text:?} {why}: give an address such as http://127.0.0.1:8000"))
        };
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: http::Uri = whole.parse().map_err(|_| bad("is no address"))?;
        let (is_tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(bad("is neither HTTP nor HTTPS")),
        };
        if uri.query().is_some() {
            return Err(bad("has a query"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("has no host"))?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let port = uri.port_u16().unwrap_or(port);
        Ok(ServerAddress { is_tls, host: host.to_owned(), port, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (text, read) in [
            ("http://127.0.0.1:8000", Ok("http://127.0.0.1:8000")),
            ("localhost:9000/", Ok("http://localhost:9000")),
            ("http://models.example", Ok("http://models.example:80")),
            ("http://[::1]:8000/serving", Ok("http://[::1]:8000/serving")),
            ("https://127.0.0.1:8000", Ok("https://127.0.0.1:8000")),
            ("https://models.example/x", Ok("https://models.example:443/x")),
            ("grpc://127.0.0.1:8001", Err("is neither HTTP nor HTTPS")),
            ("http://127.0.0.1:8000?x=1", Err("has a query")),
            ("http://:8000", Err("address")),
            ("", Err("address")),
        ] {
            match (text.parse::<ServerAddress>(), read) {
                (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        let address: ServerAddress = "http://[::1]:8000/serving".parse().unwrap();
        assert_eq!(address.socket(), ("::1", 8000));
        assert_eq!(address.path("/v2"), "/serving/v2");
    }
}
