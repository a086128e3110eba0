//! How the ports of a frontend are guarded: which there are, what a client has to show at each, and
//! which calls each takes.

use crate::access::{Access, AdminCalls};
use crate::config::{Addresses, AdminPort, FrontendConfig, Security};
use crate::context::ApiContext;
use crate::entrance::{Entrance, HTTP1, HTTP2};
use crate::error::FrontendError;
use crate::grpc::GrpcServices;
use crate::http::HttpApi;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::serve::{Port, Protocol};
use std::net::SocketAddr;
use std::sync::Arc;
use symphony_tls::Identity;

/// Every port, bound.
#[derive(Debug)]
pub(crate) struct Sockets {
    http: Port,
    grpc: Port,
    metrics: Port,
    admin: Option<Port>,
}

impl Sockets {
    pub(crate) async fn bind(config: &FrontendConfig) -> Result<Sockets, FrontendError> {
        let host = config.host.as_str();
        let admin = match &config.security.admin {
            None => None,
            Some(AdminPort { host, port }) => {
                Some(Port::bind(host, *port, "admin calls", ADMIN_FLAGS).await?)
            }
        };
        Ok(Sockets {
            http: Port::bind(host, config.http_port, "HTTP", ("--host", "--http-port")).await?,
            grpc: Port::bind(host, config.grpc_port, "gRPC", ("--host", "--grpc-port")).await?,
            metrics: {
                let flags = ("--host", "--metrics-port");
                Port::bind(host, config.metrics_port, "metrics", flags).await?
            },
            admin,
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            http: self.http.address,
            grpc: self.grpc.address,
            metrics: self.metrics.address,
            admin: self.admin.as_ref().map(|port| port.address),
        }
    }
}

const ADMIN_FLAGS: (&str, &str) = ("admin_host under [server]", "--admin-port");

/// What guards the ports.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) access: Arc<Access>,
    identity: Option<Identity>,
    protects_metrics: bool,
}

impl Guards {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// They cannot be used; names the file.
    pub(crate) fn open(
        security: &Security,
        sockets: &Sockets,
        metrics: Arc<Metrics>,
    ) -> Result<Guards, FrontendError> {
        let identity = security.tls.clone().map(Identity::open).transpose()?;
        let keys = security.keys_file.clone().map(Keys::open).transpose()?;
        warn(sockets, identity.is_some(), keys.is_some());
        let access = Arc::new(Access::new(keys, metrics));
        Ok(Guards { access, identity, protects_metrics: security.protects_metrics })
    }

    /// The ports, each with its entrance and with what is spoken behind it.
    pub(crate) fn ports(
        &self,
        sockets: Sockets,
        context: &Arc<ApiContext>,
        http: &Arc<HttpApi>,
        grpc: &Arc<GrpcServices>,
    ) -> Vec<(Port, Entrance, Protocol)> {
        let admin = sockets.admin.as_ref().map(|port| port.address);
        let entrance = |protocols, admin| Entrance {
            identity: self.identity.clone(),
            protocols,
            admin,
            access: Arc::clone(&self.access),
        };
        let Sockets { http: http_port, grpc: grpc_port, metrics: metrics_port, admin: admin_port } =
            sockets;
        let by_http = Protocol::Http(Arc::clone(http));
        let by_grpc = Protocol::Grpc(Arc::clone(context), Arc::clone(grpc));
        let either = Protocol::Either(Arc::clone(http), Arc::clone(context), Arc::clone(grpc));
        let mut at_metrics = entrance(&[HTTP1], AdminCalls::Everywhere);
        if !self.protects_metrics {
            at_metrics.identity = None;
        }
        let metrics = Protocol::Metrics(Arc::clone(context), self.protects_metrics);
        let (at_http, at_grpc) = (taken(http_port.address, admin), taken(grpc_port.address, admin));
        let mut ports = vec![
            (http_port, entrance(&[HTTP1], at_http), by_http),
            (grpc_port, entrance(&[HTTP2], at_grpc), by_grpc),
            (metrics_port, at_metrics, metrics),
        ];
        let at_admin = entrance(&[HTTP2, HTTP1], AdminCalls::Everywhere);
        ports.extend(admin_port.map(|port| (port, at_admin, either)));
        ports
    }
}

/// From where a data port takes calls that change the server.
fn taken(data: SocketAddr, admin: Option<SocketAddr>) -> AdminCalls {
    match admin {
        Some(admin) => AdminCalls::OnPort(admin.port()),
        None if data.ip().to_canonical().is_loopback() => AdminCalls::Everywhere,
        None => AdminCalls::ThisMachine(data),
    }
}

/// Says in the log what is open to more people than it may seem.
fn warn(sockets: &Sockets, has_tls: bool, has_keys: bool) {
    let is_open = |port: &Port| !port.address.ip().is_loopback();
    let data = &sockets.http;
    let any_open = is_open(data) || sockets.admin.as_ref().is_some_and(is_open);
    if has_keys && !has_tls && any_open {
        tracing::warn!(
            "clients send their keys in the clear: whoever sees the network can use them (give \
             tls_certificate and tls_key under [server])"
        );
    }
    if let Some(admin) = sockets.admin.as_ref().filter(|port| is_open(port) && !has_keys) {
        tracing::warn!(
            "whoever reaches {} can load and unload models: no key is asked for (give keys_file \
             under [server])",
            admin.address
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_port_takes_what_changes_the_server_from_this_machine_at_most_when_it_is_open() {
        let at = |text: &str| text.parse().unwrap();
        for (data, admin, expected) in [
            ("127.0.0.1:8000", None, "Everywhere"),
            ("[::1]:8000", None, "Everywhere"),
            ("0.0.0.0:8000", None, "ThisMachine(0.0.0.0:8000)"),
            ("[::]:8000", None, "ThisMachine([::]:8000)"),
            ("10.0.0.7:8000", None, "ThisMachine(10.0.0.7:8000)"),
            ("0.0.0.0:8000", Some("0.0.0.0:8003"), "OnPort(8003)"),
            ("127.0.0.1:8000", Some("127.0.0.1:8003"), "OnPort(8003)"),
        ] {
            let taken = taken(at(data), admin.map(at));
            assert_eq!(format!("{taken:?}"), expected, "{data} {admin:?}");
        }
    }
}
