//! What is read and bound before anything runs: certificates, then listeners.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use landline_sip::{FlowId, Transport};
use rustls::{ClientConfig, ServerConfig};

use crate::advertise::Bound;
use crate::driver_thread::DriverRuntime;
use crate::keeper::KeptListeners;
use crate::listen::{Kind, Listener};
use crate::tls::{self, ForClients, Reloading};
use crate::udp::{self, UdpListener};
use crate::upkeep::Refresh;
use crate::{HostPort, InterRegionListener, ListenerConfig, ProxyConfig, StartError};

/// Every configuration of TLS, read before anything is bound.
pub(crate) struct Certificates {
    clients: Option<ForClients>,
    pub(crate) region_server: Arc<Reloading<ServerConfig>>,
    pub(crate) region_client: Arc<Reloading<ClientConfig>>,
    pub(crate) carriers: Arc<Reloading<ClientConfig>>,
}

impl Certificates {
    pub(crate) fn read(config: &ProxyConfig) -> Result<Self, StartError> {
        tls::check_identity(&config.identity.files, config.region, &config.name)?;
        Ok(Self {
            clients: config.client_tls.as_ref().map(ForClients::read).transpose()?,
            region_server: tls::for_regions(&config.identity)?,
            region_client: tls::as_region(&config.identity)?,
            carriers: tls::as_client(
                config.trunk_authorities.as_deref(),
                config.client_tls.as_ref().map(|it| &it.files),
            )?,
        })
    }

    pub(crate) fn refreshes(&self) -> Vec<Refresh> {
        let (server, client) = (Arc::clone(&self.region_server), Arc::clone(&self.region_client));
        let carriers = Arc::clone(&self.carriers);
        let mut all: Vec<Refresh> = vec![
            Box::new(move || server.refresh()),
            Box::new(move || client.refresh()),
            Box::new(move || carriers.refresh()),
        ];
        if let Some(clients) = self.clients.clone() {
            all.push(Box::new(move || clients.refresh()));
        }
        all
    }
}

pub(crate) struct Sockets {
    pub(crate) udp: Vec<UdpListener>,
    pub(crate) streams: Vec<Listener>,
    pub(crate) inter_region: Option<Listener>,
    /// The client listeners, in their configured order.
    pub(crate) bound: Vec<Bound>,
}

impl Sockets {
    /// Binds every listener; a keeper's are bound already.
    pub(crate) fn bind(
        config: &ProxyConfig,
        certificates: &Certificates,
        runtime: &DriverRuntime,
        mut kept: Option<KeptListeners>,
    ) -> Result<Self, StartError> {
        if config.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let mut sockets =
            Self { udp: Vec::new(), streams: Vec::new(), inter_region: None, bound: Vec::new() };
        for (index, wanted) in config.listeners.iter().enumerate() {
            // Small numbers, the same at every start: see `Shared::new`.
            let id = FlowId(index as u64 + 1);
            let local = match &mut kept {
                Some(kept) => sockets.take_over(id, wanted, runtime, kept)?,
                None => sockets.listen(id, wanted, certificates, runtime)?,
            };
            sockets.bound.push(Bound::new(wanted, local)?);
        }
        sockets.inter_region = bind_inter_region(config, certificates)?;
        Ok(sockets)
    }

    fn listen(
        &mut self,
        id: FlowId,
        &ListenerConfig { transport, bind: address, .. }: &ListenerConfig,
        certificates: &Certificates,
        runtime: &DriverRuntime,
    ) -> Result<SocketAddr, StartError> {
        let refused = |source| StartError::Listener { transport, address, source };
        let kind = Kind::for_clients(transport, certificates.clients.as_ref());
        match kind.ok_or(StartError::NoCertificate { transport, address })? {
            None => {
                let socket = udp::bind(address).map_err(refused)?;
                self.add_udp(id, socket, runtime).map_err(refused)
            }
            Some(kind) => {
                let listener = Listener::bind(address, kind).map_err(refused)?;
                let local = listener.local();
                self.streams.push(listener);
                Ok(local)
            }
        }
    }

    fn take_over(
        &mut self,
        id: FlowId,
        &ListenerConfig { transport, bind: address, .. }: &ListenerConfig,
        runtime: &DriverRuntime,
        kept: &mut KeptListeners,
    ) -> Result<SocketAddr, StartError> {
        let refused = |source| StartError::Listener { transport, address, source };
        match kept.next(transport, address)? {
            (_, Some(socket)) => self.add_udp(id, socket.into(), runtime).map_err(refused),
            (local, None) => Ok(local),
        }
    }

    fn add_udp(
        &mut self,
        id: FlowId,
        socket: std::net::UdpSocket,
        runtime: &DriverRuntime,
    ) -> io::Result<SocketAddr> {
        let listener = runtime.within(|| UdpListener::new(id, socket))?;
        let local = listener.local();
        self.udp.push(listener);
        Ok(local)
    }

    pub(crate) fn inter_region_advertised(
        &self,
        config: &ProxyConfig,
    ) -> Result<Option<HostPort>, StartError> {
        let (Some(wanted), Some(listener)) = (&config.inter_region, &self.inter_region) else {
            return Ok(None);
        };
        let InterRegionListener { bind, advertised } = wanted.clone();
        let wanted = ListenerConfig { transport: Transport::Tls, bind, advertised };
        Ok(Some(Bound::new(&wanted, listener.local())?.advertised))
    }
}

fn bind_inter_region(
    config: &ProxyConfig,
    certificates: &Certificates,
) -> Result<Option<Listener>, StartError> {
    let Some(InterRegionListener { bind: address, .. }) = config.inter_region else {
        return Ok(None);
    };
    let tls = Arc::clone(&certificates.region_server);
    let kind = Kind::InterRegion { tls };
    let refused = |source| StartError::InterRegionListener { address, source };
    Listener::bind(address, kind).map(Some).map_err(refused)
}
