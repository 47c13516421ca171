//! A relay without threads, sockets, TLS and a clock of its own: one shard and
//! the proxies it works for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use landline_control::{FromRelay, Hello, ToRelay};
use landline_media::Identity;
use landline_region::Entropy;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use crate::config::{RelayConfig, StartError};
use crate::ice_ports;
use crate::owner::{Attached, ConnectionId, Outgoing, Owner, Owners, Reply};
use crate::shard::{Command, Network, Shard};
use crate::shared::Shared;

/// What a [`Relay`](crate::Relay) does, for one who has a network and a clock to
/// give: the same sessions, legs, ports and owners, stepped by hand.
pub struct RelayCore<N: Network> {
    shared: Arc<Shared>,
    owners: Owners,
    shard: Shard<N>,
    last_connection: u64,
}

/// A proxy's control connection, as the core sees it.
pub struct ProxyLink {
    owner: Arc<Owner>,
    connection: ConnectionId,
    outgoing: Outgoing,
    messages: mpsc::Receiver<FromRelay>,
    /// The incarnation before this one.
    former: Option<Arc<Owner>>,
}

impl ProxyLink {
    /// What goes to the proxy next.
    pub fn poll(&mut self) -> Option<FromRelay> {
        self.messages.try_recv().ok()
    }
}

impl<N: Network> RelayCore<N> {
    /// The ends of recordings are awaited on the runtime.
    pub fn new(
        config: RelayConfig,
        network: N,
        identity: Arc<Identity>,
        entropy: &mut Entropy,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let bind = |address, port| Ok((network.bind(address, port)?, port));
        let mut ice = ice_ports::bind(&config, 1, bind)?;
        let shared = Shared::new(config, Vec::new(), &ice, identity, entropy, runtime)?;
        let (shared, ice) = (Arc::new(shared), ice.pop().unwrap_or_default());
        let owners = Owners::new(shared.config.limits.proxies);
        let entropy = Entropy::new(entropy.seed());
        let shard = Shard::new(Arc::clone(&shared), 0, network, ice, entropy);
        let shard = shard.map_err(StartError::Shard)?;
        Ok(Self { shared, owners, shard, last_connection: 0 })
    }

    /// A proxy's greeting was accepted. `None` when there are too many.
    pub fn connect(&mut self, _now: Instant, hello: &Hello) -> Option<ProxyLink> {
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let limit = self.shared.config.limits.messages_per_connection;
        let (queue, messages) = mpsc::channel(limit);
        let outgoing = Outgoing::new(queue, Arc::new(Notify::new()));
        let Attached { owner, former } = self.owners.attach(hello, connection, outgoing.clone())?;
        if self.shared.is_draining() {
            outgoing.send(FromRelay::Draining);
        }
        Some(ProxyLink { owner, connection, outgoing, messages, former })
    }

    /// Closes what the proxy did not adopt of its former incarnation's sessions:
    /// call it once, the grace time after the connection came.
    pub fn expire_former(&mut self, now: Instant, link: &mut ProxyLink) {
        if let Some(former) = link.former.take() {
            self.shard.command(now, Command::CloseOwner(former.key));
        }
    }

    pub fn handle(&mut self, now: Instant, link: &ProxyLink, message: ToRelay) {
        match message {
            ToRelay::Ping(number) => link.outgoing.send(FromRelay::Pong(number)),
            // A second greeting ends a real connection.
            ToRelay::Hello(_) => {}
            ToRelay::Request(id, request) => {
                let reply = Reply { request: id, outgoing: link.outgoing.clone() };
                let owner = Arc::clone(&link.owner);
                self.shard.command(now, Command::Request { owner, request, reply });
            }
        }
    }

    /// The connection is over. True when the proxy has no other by now: call
    /// [`RelayCore::expire`] once the grace time is over.
    pub fn disconnect(&mut self, link: &ProxyLink) -> bool {
        self.owners.detach(&link.owner, link.connection)
    }

    /// Closes the sessions of a proxy that did not come back.
    pub fn expire(&mut self, now: Instant, link: &ProxyLink) {
        if self.owners.expire(&link.owner, link.connection) {
            self.shard.command(now, Command::CloseOwner(link.owner.key));
        }
    }

    /// Something came by the socket that is watched by this token.
    pub fn receive(&mut self, now: Instant, token: u64) {
        self.shard.receive(now, token);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.shard.next_timer()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.shard.fire_timers(now);
    }

    /// Takes no new sessions from now on and tells the proxies so.
    pub fn drain(&self) {
        self.shared.drain(&self.owners);
    }

    /// The port that legs with ICE share, on each media address.
    pub fn ice_addrs(&self) -> &[SocketAddr] {
        &self.shared.ice
    }

    /// Sessions that are open, and port pairs in use.
    pub fn under_way(&self, now: Instant) -> (usize, usize) {
        (self.shared.open_sessions(), self.shared.ports(now).used)
    }
}
