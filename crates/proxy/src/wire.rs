//! Every way out, as the driver sees it: UDP sockets and open connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_call::crossing::carried;
use landline_region::{RegionCode, egress};
use landline_sip::{ClientKey, Flow, FlowId, Message, SendTo, Transport};
use rustc_hash::FxHashMap;

use crate::connect::{Connector, Peer};
use crate::inbox::{Outbox, write_queue};
use crate::metrics::Drop as Cause;
use crate::shared::Shared;
use crate::udp::UdpListener;

/// How long a request may wait for its answer: 64·T1, RFC 3261 §17.1.
const RECENT: Duration = Duration::from_secs(32);
/// Requests remembered for one connection.
const MOST_RECENT: usize = 4096;

/// A send that went wrong, to be reported to the endpoint.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) key: Option<ClientKey>,
    pub(crate) to: SendTo,
}

pub(crate) struct Wire {
    shared: Arc<Shared>,
    connector: Arc<Connector>,
    pub(crate) udp: Vec<UdpListener>,
    /// Bound addresses of the connection listeners: the local end of what we
    /// open, so that it is known by the listener of its transport.
    stream_listeners: Vec<(Transport, SocketAddr)>,
    inter_region: Option<SocketAddr>,
    connections: FxHashMap<FlowId, Connection>,
    opened: FxHashMap<Peer, FlowId>,
}

struct Connection {
    outbox: Outbox,
    /// Whom we opened it to, or who may be reached by it again; `None` for any
    /// other connection that was accepted.
    peer: Option<Peer>,
    /// What the client's certificate speaks for, until it has said whether it
    /// may be reached by this connection.
    domains: Vec<String>,
    /// Requests sent over a connection of ours not long ago, which fail with
    /// it; the endpoint knows which of them are answered.
    recent: VecDeque<(Instant, ClientKey, SendTo)>,
    up: bool,
}

impl Connection {
    fn new(outbox: Outbox, peer: Option<Peer>) -> Self {
        let up = peer.is_none();
        Self { outbox, peer, domains: Vec::new(), recent: VecDeque::new(), up }
    }

    fn note(&mut self, key: ClientKey, to: SendTo) {
        let now = Instant::now();
        let old = |(sent, ..): &(Instant, ClientKey, SendTo)| now - *sent > RECENT;
        while self.recent.len() >= MOST_RECENT || self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, key, to));
    }
}

impl Wire {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connector: Arc<Connector>,
        udp: Vec<UdpListener>,
        stream_listeners: Vec<(Transport, SocketAddr)>,
        inter_region: Option<SocketAddr>,
    ) -> Self {
        Self {
            shared,
            connector,
            udp,
            stream_listeners,
            inter_region,
            connections: FxHashMap::default(),
            opened: FxHashMap::default(),
        }
    }

    pub(crate) fn poll_udp(&self, context: &mut Context<'_>) -> Poll<()> {
        // Each socket must be polled: what is skipped wakes nobody.
        let ready =
            self.udp.iter().fold(false, |ready, udp| udp.poll_ready(context).is_ready() | ready);
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The driver had nothing to take until now.
    pub(crate) fn found_empty(&mut self, now: Instant) {
        for udp in &mut self.udp {
            udp.found_empty(now);
        }
    }

    pub(crate) fn flush_udp(&mut self) {
        for udp in &mut self.udp {
            udp.flush(&self.shared.metrics);
        }
    }

    pub(crate) fn send(
        &mut self,
        to: SendTo,
        bytes: Bytes,
        key: Option<ClientKey>,
    ) -> Result<(), Failed> {
        if let Err(cause) = self.may_leave(&to, &bytes) {
            self.shared.metrics.drop(cause);
            return Err(Failed { key, to });
        }
        self.shared.metrics.sent(&bytes);
        let sent = match &to {
            SendTo::Flow(flow) if flow.transport == Transport::Udp => {
                self.send_udp(Some(flow), flow.remote, bytes)
            }
            SendTo::Flow(flow) => self.send_over(flow.id, bytes),
            SendTo::Address { transport: Transport::Udp, addr, .. } => {
                self.send_udp(None, *addr, bytes)
            }
            SendTo::Address { transport, addr, server_name } => {
                let peer = Peer::Address {
                    transport: *transport,
                    addr: *addr,
                    server_name: server_name.clone(),
                };
                self.send_to(peer, &to, bytes, key)
            }
            SendTo::Region { region, host, port } => {
                let peer =
                    Peer::Region { region: Arc::clone(region), host: host.clone(), port: *port };
                self.send_to(peer, &to, bytes, key)
            }
        };
        sent.map_err(|cause| {
            self.shared.metrics.drop(cause);
            Failed { key, to }
        })
    }

    /// What goes to another region, over a connection of ours or of theirs,
    /// passes the egress gate, which judges each of its header fields and its
    /// body. A call between two accounts of one region does not leave it.
    fn may_leave(&self, to: &SendTo, bytes: &Bytes) -> Result<(), Cause> {
        let region = match to {
            SendTo::Flow(Flow { peer: Some(region), .. }) | SendTo::Region { region, .. } => region,
            SendTo::Flow(_) | SendTo::Address { .. } => return Ok(()),
        };
        let region: RegionCode = region.parse().map_err(|_| Cause::KeptInRegion)?;
        let gate = self.connector.store.gate();
        if region == gate.region() {
            return Ok(());
        }
        let destination = egress::Destination::Region(region);
        gate.decide(egress::Flow::InterRegionSip, &destination, &carried(bytes))
            .map(drop)
            .map_err(|_| Cause::KeptInRegion)
    }

    /// By the flow's own listener; for a flow of a former process, by the one
    /// that is bound to the same address now; else by the first of the family.
    fn send_udp(&mut self, flow: Option<&Flow>, to: SocketAddr, bytes: Bytes) -> Result<(), Cause> {
        let own = |udp: &UdpListener| {
            flow.is_some_and(|flow| udp.id() == flow.id && udp.local() == flow.local)
        };
        let same = |udp: &UdpListener| flow.is_some_and(|flow| udp.local() == flow.local);
        let family = |udp: &UdpListener| udp.local().is_ipv4() == to.is_ipv4();
        let index = (self.udp.iter().position(own))
            .or_else(|| self.udp.iter().position(same))
            .or_else(|| self.udp.iter().position(family))
            .ok_or(Cause::NoRoute)?;
        let udp = self.udp.get_mut(index).ok_or(Cause::NoRoute)?;
        // The socket counted why.
        udp.send(to, bytes, &self.shared.metrics).map_err(|_| Cause::NoRoute)
    }

    fn send_over(&mut self, id: FlowId, bytes: Bytes) -> Result<(), Cause> {
        let connection = self.connections.get(&id).ok_or(Cause::NoFlow)?;
        if connection.outbox.push(bytes).is_ok() {
            return Ok(());
        }
        if connection.up {
            // Its peer does not read; a connection with a gap is no use to it.
            self.forget(id);
        }
        Err(Cause::SlowReader)
    }

    fn send_to(
        &mut self,
        peer: Peer,
        to: &SendTo,
        bytes: Bytes,
        key: Option<ClientKey>,
    ) -> Result<(), Cause> {
        let id = match self.opened.get(&peer) {
            Some(id) => *id,
            None => self.open(peer)?,
        };
        self.send_over(id, bytes)?;
        if let (Some(key), Some(connection)) = (key, self.connections.get_mut(&id)) {
            connection.note(key, to.clone());
        }
        Ok(())
    }

    fn open(&mut self, peer: Peer) -> Result<FlowId, Cause> {
        if self.opened.len() >= self.shared.limits.outgoing_connections {
            return Err(Cause::OutgoingLimit);
        }
        let flow = self.flow_towards(&peer).ok_or(Cause::NoRoute)?;
        let id = flow.id;
        let (outbox, written) = write_queue(&self.shared.limits);
        self.connections.insert(id, Connection::new(outbox, Some(peer.clone())));
        self.opened.insert(peer.clone(), id);
        self.shared.tasks.spawn(Arc::clone(&self.connector).run(peer, flow, written));
        Ok(id)
    }

    fn flow_towards(&self, peer: &Peer) -> Option<Flow> {
        let (transport, remote, name) = match peer {
            Peer::Address { transport, addr, .. } => (*transport, *addr, None),
            Peer::Region { region, host, port } => {
                let ip = host.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
                (Transport::Tls, SocketAddr::new(ip, *port), Some(Arc::clone(region)))
            }
        };
        if matches!(transport, Transport::Ws | Transport::Wss) {
            return None;
        }
        let listener = |(kind, local): &&(Transport, SocketAddr)| {
            *kind == transport && local.is_ipv4() == remote.is_ipv4()
        };
        let local = match name {
            Some(_) => self.inter_region,
            None => self.stream_listeners.iter().find(listener).map(|(_, local)| *local),
        };
        let local = local.unwrap_or_else(|| unspecified(remote));
        Some(Flow { id: self.shared.next_flow(), transport, local, remote, peer: name })
    }

    pub(crate) fn accepted(&mut self, id: FlowId, domains: Vec<String>, outbox: Outbox) {
        let connection = Connection { domains, ..Connection::new(outbox, None) };
        self.connections.insert(id, connection);
    }

    /// Its first request may ask that ours come by the same connection (RFC 5923
    /// §5): heard of who proved to be the host that its Via names (§9.1), or
    /// anybody could have a carrier's calls sent to him.
    pub(crate) fn heard(&mut self, flow: &Flow, message: &Bytes) {
        if flow.transport != Transport::Tls || flow.peer.is_some() {
            return;
        }
        let Some(connection) = self.connections.get_mut(&flow.id) else { return };
        if connection.domains.is_empty() {
            return;
        }
        let domains = std::mem::take(&mut connection.domains);
        let limits = &self.shared.limits.message;
        let Ok(Message::Request(request)) = landline_sip::parse(message, limits) else { return };
        let Some(via) = request.top_via().ok().filter(|via| via.params.contains("alias")) else {
            return;
        };
        let host = via.host.to_string().to_ascii_lowercase();
        let addr = SocketAddr::new(flow.remote.ip(), via.port.unwrap_or(5061));
        let server_name = Some(Arc::from(host.as_str()));
        let peer = Peer::Address { transport: Transport::Tls, addr, server_name };
        if domains.contains(&host) && !self.opened.contains_key(&peer) {
            self.shared.metrics.connections_reused.inc();
            connection.peer = Some(peer.clone());
            self.opened.insert(peer, flow.id);
        }
    }

    pub(crate) fn connected(&mut self, id: FlowId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.up = true;
        }
    }

    /// The connection's end, and with it of what was sent over it.
    pub(crate) fn closed(&mut self, id: FlowId) -> Option<Vec<Failed>> {
        let connection = self.forget(id)?;
        let failed =
            connection.recent.into_iter().map(|(_, key, to)| Failed { key: Some(key), to });
        Some(failed.collect())
    }

    /// Closes every connection after what is queued was written.
    pub(crate) fn close_all(&mut self) {
        self.connections.clear();
        self.opened.clear();
    }

    fn forget(&mut self, id: FlowId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(peer) = &connection.peer {
            self.opened.remove(peer);
        }
        Some(connection)
    }
}

fn unspecified(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
