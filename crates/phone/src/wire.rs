//! The phone's one path to its server: a UDP socket or a TCP or TLS connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use landline_sip::{Flow, FlowId, Frame, Framer, Limits, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::{PhoneConfig, PhoneError};

const QUEUE: usize = 256;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Path {
    Udp(UdpSocket),
    Stream { outgoing: mpsc::Sender<Bytes>, incoming: mpsc::Receiver<Bytes> },
}

pub(crate) struct Wire {
    path: Path,
    /// The flow to the server.
    pub flow: Flow,
}

impl Wire {
    pub async fn open(config: &PhoneConfig) -> Result<Self, PhoneError> {
        let flow = |local| Flow {
            id: FlowId(0),
            transport: config.transport,
            local,
            remote: config.server,
            peer: None,
        };
        if config.transport == Transport::Udp {
            let socket = UdpSocket::bind((config.bind, 0)).await.map_err(PhoneError::Socket)?;
            let local = socket.local_addr().map_err(PhoneError::Socket)?;
            return Ok(Self { path: Path::Udp(socket), flow: flow(local) });
        }
        let tcp = TcpStream::connect(config.server).await.map_err(PhoneError::Connect)?;
        tcp.set_nodelay(true).map_err(PhoneError::Connect)?;
        let local = tcp.local_addr().map_err(PhoneError::Socket)?;
        let path = match config.transport {
            Transport::Tls => Path::over(secure(config, tcp).await?),
            _ => Path::over(tcp),
        };
        Ok(Self { path, flow: flow(local) })
    }

    /// The next whole message. An error means that the path is gone.
    pub async fn receive(&mut self) -> io::Result<(Flow, Bytes)> {
        match &mut self.path {
            Path::Udp(socket) => {
                let mut buffer = BytesMut::zeroed(65_535);
                let (length, from) = socket.recv_from(&mut buffer).await?;
                buffer.truncate(length);
                Ok((Flow { remote: from, ..self.flow.clone() }, buffer.freeze()))
            }
            Path::Stream { incoming, .. } => match incoming.recv().await {
                Some(message) => Ok((self.flow.clone(), message)),
                None => Err(io::ErrorKind::ConnectionReset.into()),
            },
        }
    }

    pub async fn send(&self, to: SocketAddr, bytes: Bytes) -> io::Result<()> {
        match &self.path {
            Path::Udp(socket) => socket.send_to(&bytes, to).await.map(drop),
            Path::Stream { outgoing, .. } => {
                outgoing.send(bytes).await.map_err(|_| io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl Path {
    fn over<S: Stream + 'static>(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (outgoing, to_write) = mpsc::channel(QUEUE);
        let (read, incoming) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(writer, to_write));
        tokio::spawn(read_messages(reader, read));
        Self::Stream { outgoing, incoming }
    }
}

async fn secure(
    config: &PhoneConfig,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, PhoneError> {
    let mut roots = RootCertStore::empty();
    for authority in &config.authorities {
        roots.add(authority.clone()).map_err(|error| PhoneError::Tls(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PhoneError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(config.server_name.clone())
        .map_err(|error| PhoneError::Tls(error.to_string()))?;
    TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.map_err(PhoneError::Connect)
}

async fn write_all<S: Stream>(mut writer: WriteHalf<S>, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

async fn read_messages<S: Stream>(mut reader: ReadHalf<S>, messages: mpsc::Sender<Bytes>) {
    let mut framer = Framer::new(Limits::default());
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        framer.push(&buffer[..length]);
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(message))) => {
                    if messages.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
