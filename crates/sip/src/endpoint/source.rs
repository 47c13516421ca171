//! Where a request came from and where its responses go.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::flow::{Flow, SendTo};
use crate::{HeaderError, HeaderName, Host, Request, Transport, Via};

/// Writes `received` and `rport` into the top Via, whatever the sender had put
/// there, and returns it (RFC 3261 §18.2.1, RFC 3581 §4).
pub(crate) fn note_source(
    request: &mut Request,
    flow: &Flow,
    force_rport: bool,
) -> Result<Via, HeaderError> {
    let via = request.top_via()?;
    let noted = with_source(&via, flow, force_rport);
    if noted != via {
        request.headers.replace_first_value(&HeaderName::Via, &noted);
    }
    Ok(noted)
}

/// `received` wherever the host is not the address the request came from, and
/// always beside `rport`.
pub(crate) fn with_source(via: &Via, flow: &Flow, force_rport: bool) -> Via {
    let mut via = via.clone();
    let ip = flow.remote.ip();
    let wants_port = via.rport().is_some() || force_rport;
    if via.host.ip() != Some(ip) || wants_port || via.received().is_some() {
        via.set_received(ip);
    }
    if wants_port {
        via.set_rport(Some(flow.remote.port()));
    }
    via
}

/// Where the responses to one request go.
pub(crate) struct Route {
    pub to: SendTo,
    /// When the connection is gone, RFC 3261 §18.2.2: a new one to where the
    /// sender says it listens. A browser listens nowhere.
    pub fallback: Option<SendTo>,
}

impl Route {
    /// Over UDP without `rport` the port is the one in the Via. The address is
    /// always the one the request came from: `maddr` would let anybody aim our
    /// responses at somebody else.
    pub fn new(flow: &Flow, via: &Via, force_rport: bool) -> Self {
        let transport = flow.transport;
        let sent_by_port = via.port.unwrap_or(transport.default_port());
        let sent_by = SocketAddr::new(flow.remote.ip(), sent_by_port);
        let mut flow = flow.clone();
        let fallback = match transport {
            Transport::Udp => {
                if via.rport().is_none() && !force_rport {
                    flow.remote.set_port(sent_by_port);
                }
                None
            }
            Transport::Tls if flow.peer.is_some() => {
                let host = server_name(&via.host);
                flow.peer.clone().map(|region| SendTo::Region { region, host, port: sent_by_port })
            }
            Transport::Tcp | Transport::Tls => Some(SendTo::Address {
                transport,
                addr: sent_by,
                server_name: transport.is_secure().then(|| Arc::from(server_name(&via.host))),
            }),
            Transport::Ws | Transport::Wss => None,
        };
        Self { to: SendTo::Flow(flow), fallback }
    }
}

/// A host as TLS names it: an IPv6 address without brackets.
pub(crate) fn server_name(host: &Host) -> String {
    host.ip().map_or_else(|| host.to_string(), |ip| ip.to_string())
}
