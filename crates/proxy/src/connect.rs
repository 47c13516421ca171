//! Connections that we open: to carriers and phones, and to other regions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use landline_region::RegionCode;
use landline_sip::{Flow, Transport};
use landline_store::Store;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::inbox::{Incoming, Written};
use crate::listen::tune;
use crate::metrics::Drop as Cause;
use crate::resolve::Dns;
use crate::shared::Shared;
use crate::stream::{self, Side};
use crate::tls::{Reloading, Role};

/// Whom a connection of ours leads to; what is sent there goes over one
/// connection while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    Address { transport: Transport, addr: SocketAddr, server_name: Option<Arc<str>> },
    Region { region: Arc<str>, host: String, port: u16 },
}

/// What it takes to connect.
pub(crate) struct Connector {
    pub(crate) shared: Arc<Shared>,
    /// Has the gate that decides what goes to other regions.
    pub(crate) store: Store,
    pub(crate) dns: Arc<Dns>,
    pub(crate) carriers: Arc<Reloading<ClientConfig>>,
    pub(crate) regions: Arc<Reloading<ClientConfig>>,
}

impl Connector {
    /// Opens the connection and runs it to its end. The driver hears
    /// `Connected`, then what comes, then `Closed`; of a failure `Closed` alone.
    pub(crate) async fn run(self: Arc<Self>, peer: Peer, flow: Flow, written: Written) {
        let id = flow.id;
        let opened = timeout(self.shared.limits.handshake, self.open(&peer)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => {
                self.shared.metrics.drop(Cause::ConnectFailed);
                let _gone = self.shared.inbox.send(Incoming::Closed { id }).await;
                return;
            }
        };
        if self.shared.inbox.send(Incoming::Connected { id }).await.is_err() {
            return;
        }
        match stream {
            Opened::Tcp(stream) => {
                stream::serve(stream, Side::Opened, flow, written, &self.shared).await;
            }
            Opened::Tls(stream) => {
                stream::serve(*stream, Side::Opened, flow, written, &self.shared).await;
            }
        }
    }

    async fn open(&self, peer: &Peer) -> io::Result<Opened> {
        match peer {
            Peer::Address { transport: Transport::Tcp, addr, .. } => {
                Ok(Opened::Tcp(connect(*addr).await?))
            }
            Peer::Address { transport: Transport::Tls, addr, server_name } => {
                let name = match server_name {
                    Some(name) => ServerName::try_from(name.to_string())
                        .map_err(|_| invalid("the name to verify is no DNS name"))?,
                    None => ServerName::IpAddress(addr.ip().into()),
                };
                self.open_tls(&self.carriers.load(), *addr, name).await
            }
            Peer::Address { .. } => Err(invalid("WebSocket connections come from clients only")),
            Peer::Region { region, host, port } => self.open_region(region, host, *port).await,
        }
    }

    /// The certificate must be of the wanted region's proxy: a directory entry
    /// that leads elsewhere must not get an account's signalling.
    async fn open_region(&self, region: &str, host: &str, port: u16) -> io::Result<Opened> {
        let region: RegionCode = region.parse().map_err(|_| invalid("no region code"))?;
        let name = ServerName::try_from(Role::Proxy.name(region))
            .map_err(|_| invalid("no name for the region"))?;
        let config = self.regions.load();
        let nowhere = invalid("the host has no address");
        let open = |address| self.open_tls(&config, address, name.clone());
        self.dns.first_of(host, port, nowhere, open).await
    }

    async fn open_tls(
        &self,
        config: &Arc<ClientConfig>,
        addr: SocketAddr,
        name: ServerName<'static>,
    ) -> io::Result<Opened> {
        let stream = connect(addr).await?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(Opened::Tls(Box::new(stream)))
    }
}

enum Opened {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    tune(&stream);
    Ok(stream)
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}
