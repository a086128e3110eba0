//! Who may ask what: by the key that a client shows, and by where it stands.
//!
//! Knows no protocol: `http` and `grpc` say what a call needs.

use crate::error::InferError;
use crate::keys::{Key, Keys};
use crate::metrics::Metrics;
use crate::strangers::Strangers;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a call needs of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: whether the server and its models are alive and ready.
    Nothing,
    /// Any key: what the server tells of itself and its models.
    Known,
    /// A key with the scope `infer`.
    Infer,
    /// A key with the scope `admin`, at a place where such calls are taken: it changes the server.
    Admin,
}

/// From where a port takes calls that change the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminCalls {
    Everywhere,
    /// From clients of this machine, because the port, here, can be reached from others.
    ThisMachine(SocketAddr),
    /// On another port.
    OnPort(u16),
}

/// A client's way in: who it is, and through which port it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) peer: IpAddr,
    pub(crate) admin: AdminCalls,
}

/// Decides who may ask what.
#[derive(Debug)]
pub(crate) struct Access {
    keys: Option<Keys>,
    metrics: Arc<Metrics>,
    strangers: Strangers,
}

impl Access {
    pub(crate) fn new(keys: Option<Keys>, metrics: Arc<Metrics>) -> Access {
        Access { keys, metrics, strangers: Strangers::default() }
    }

    /// Whether a client may do what it asks.
    ///
    /// # Errors
    /// It shows no key or a wrong one, its key does not allow it, or this is not the place.
    pub(crate) fn check(
        &self,
        door: Door,
        need: Need,
        headers: &HeaderMap,
    ) -> Result<(), InferError> {
        // All there is to do for an inference where no keys are asked for.
        let needs_key = self.keys.is_some() && need != Need::Nothing;
        if !needs_key && need != Need::Admin {
            return Ok(());
        }
        self.allowed(door, need, headers).inspect_err(|error| {
            self.metrics.refused(error.kind());
            self.strangers.tell(door.peer, "a call was refused", error);
        })
    }

    fn allowed(&self, door: Door, need: Need, headers: &HeaderMap) -> Result<(), InferError> {
        if let Some(keys) = &self.keys {
            check_scope(&shown(keys, headers)?, need)?;
        }
        if need == Need::Admin { door.check_admin() } else { Ok(()) }
    }

    /// A client could not be understood, and its connection was ended.
    pub(crate) fn malformed(&self, peer: IpAddr, reason: &dyn std::fmt::Display) {
        self.metrics.refused_connections.add(1);
        self.strangers.tell(peer, "a connection was refused", reason);
    }
}

/// The key that a client shows.
fn shown(keys: &Keys, headers: &HeaderMap) -> Result<Key, InferError> {
    let refused = |text: &str| InferError::Unauthenticated(text.to_owned());
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes(),
        (None, _) => {
            return Err(refused(
                "this server asks for a key: send it as `Authorization: Bearer KEY`",
            ));
        }
        (Some(_), Some(_)) => return Err(refused("there is more than one `Authorization`")),
    };
    let key =
        bearer(value).ok_or_else(|| refused("`Authorization` is not of the form `Bearer KEY`"))?;
    keys.find(key).ok_or_else(|| refused("this key is not, or no longer, known here"))
}

/// The key in `Bearer KEY`; the name of the scheme may be in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

fn check_scope(key: &Key, need: Need) -> Result<(), InferError> {
    let missing = match need {
        Need::Infer if !key.scopes.infer => "infer",
        Need::Admin if !key.scopes.admin => "admin",
        _ => return Ok(()),
    };
    Err(InferError::Forbidden(format!(
        "the key {:?} does not have the scope {missing:?} (scopes in keys_file)",
        key.name
    )))
}

impl Door {
    /// Whether this is a place for calls that change the server.
    fn check_admin(self) -> Result<(), InferError> {
        let text = match self.admin {
            AdminCalls::Everywhere => return Ok(()),
            AdminCalls::ThisMachine(_) if self.peer.is_loopback() => return Ok(()),
            AdminCalls::ThisMachine(address) => format!(
                "this call changes the server. It is taken from the server's own machine only, \
                 because {address} can be reached from others: call from there, or give such calls \
                 a port of their own (admin_host and admin_port under [server] in symphony.toml)"
            ),
            AdminCalls::OnPort(port) => format!(
                "this call changes the server. Such calls are taken at port {port} only \
                 (admin_port under [server] in symphony.toml)"
            ),
        };
        Err(InferError::Forbidden(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_follows_the_scheme() {
        for (value, key) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), key.map(str::as_bytes), "{value:?}");
        }
    }

    #[test]
    fn the_place_decides_of_calls_that_change_the_server() {
        let open: SocketAddr = "0.0.0.0:8000".parse().unwrap();
        let cases = [
            ("10.0.0.7", AdminCalls::Everywhere, None),
            ("127.0.0.1", AdminCalls::ThisMachine(open), None),
            ("::1", AdminCalls::ThisMachine(open), None),
            ("10.0.0.7", AdminCalls::ThisMachine(open), Some("admin_host and admin_port")),
            ("127.0.0.1", AdminCalls::OnPort(8003), Some("at port 8003 only")),
        ];
        for (peer, admin, part) in cases {
            let door = Door { peer: peer.parse().unwrap(), admin };
            let text = door.check_admin().err().map(|error| error.to_string());
            assert_eq!(text.is_some(), part.is_some(), "{peer} {admin:?}: {text:?}");
            let part = part.unwrap_or("");
            assert!(text.unwrap_or_default().contains(part), "{peer} {admin:?}");
        }
    }
}
