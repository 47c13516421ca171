//! The keeper's end: listeners, connections, and the one proxy they are for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use landline_region::RegionCode;
use landline_sip::{Flow, FlowId, Transport};
use prometheus::Registry;
use rustc_hash::FxHashMap;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::descriptors;
use super::frame::{Frame, Frames};
use crate::admission::Admission;
use crate::inbox::{Incoming, Outbox};
use crate::journal::unix_now;
use crate::listen::{Kind, Listener};
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::tls::ForClients;
use crate::{ClientTls, Limits, ListenerConfig, Origins, StartError, udp, upkeep};

/// Frames on their way to the proxy.
const QUEUE: usize = 1024;
/// How often the proxy is told what was thrown away.
const REPORT: Duration = Duration::from_secs(1);

/// What a keeper holds for a proxy.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    pub region: RegionCode,
    /// The Unix socket where the proxy finds it; made anew.
    pub socket: PathBuf,
    pub listeners: Vec<ListenerConfig>,
    /// Needed by TLS and WSS listeners.
    pub client_tls: Option<ClientTls>,
    /// Pages that may open a WebSocket.
    pub origins: Origins,
    pub limits: Limits,
}

/// One proxy's client sockets: see [`Keeper::start`].
pub struct Keeper;

/// A running keeper. Dropping it closes every socket and connection.
pub struct KeeperHandle {
    listeners: Vec<(Transport, SocketAddr)>,
    _tasks: JoinSet<()>,
}

impl KeeperHandle {
    /// Every listener with the address it is bound to, as configured.
    pub fn addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.listeners
    }
}

impl Keeper {
    /// Binds every listener and waits for a proxy.
    pub async fn start(config: KeeperConfig) -> Result<KeeperHandle, StartError> {
        let certificate = config.client_tls.as_ref().map(ForClients::read).transpose()?;
        let mut bound = Bound::default();
        for wanted in &config.listeners {
            let (transport, address) = (wanted.transport, wanted.bind);
            let refused = |source| StartError::Listener { transport, address, source };
            let missing = || StartError::NoCertificate { transport, address };
            match Kind::for_clients(transport, certificate.as_ref()).ok_or_else(missing)? {
                None => bound.udp(udp::bind(address).map_err(refused)?).map_err(refused)?,
                Some(kind) => bound.stream(Listener::bind(address, kind).map_err(refused)?),
            }
        }
        let failed = |error: io::Error| StartError::Keeper {
            path: config.socket.clone(),
            problem: error.to_string(),
        };
        let door = open_door(&config.socket).map_err(failed)?;
        let metrics = Metrics::new(&Registry::new(), config.region.as_str(), "keeper")?;
        let (inbox, incoming) = mpsc::channel(config.limits.inbox);
        // What the driver hears from within a proxy; there is none here.
        let (answers, _) = mpsc::channel(1);
        let (limits, origins) = (config.limits.clone(), config.origins);
        let shared = Shared::new(limits, origins, metrics, inbox, answers, unix_now().0);
        let mut tasks = JoinSet::new();
        let clients =
            Admission::new(config.limits.connections, config.limits.connections_per_source);
        for listener in bound.streams {
            tasks.spawn(listener.run(Arc::clone(&shared), Arc::clone(&clients)));
        }
        if let Some(certificate) = certificate {
            let refresh: upkeep::Refresh = Box::new(move || certificate.refresh());
            tasks.spawn(upkeep::follow_certificates(vec![refresh]));
        }
        let listeners = bound.listeners.clone();
        let hub =
            Hub { shared, listeners: bound.listeners, udp: bound.udp, flows: FxHashMap::default() };
        tasks.spawn(hub.run(door, incoming));
        Ok(KeeperHandle { listeners, _tasks: tasks })
    }
}

#[derive(Default)]
struct Bound {
    listeners: Vec<(Transport, SocketAddr)>,
    udp: Vec<OwnedFd>,
    streams: Vec<Listener>,
}

impl Bound {
    fn udp(&mut self, socket: std::net::UdpSocket) -> io::Result<()> {
        self.listeners.push((Transport::Udp, socket.local_addr()?));
        self.udp.push(socket.into());
        Ok(())
    }

    fn stream(&mut self, listener: Listener) {
        self.listeners.push((listener.transport(), listener.local()));
        self.streams.push(listener);
    }
}

/// For this user's processes alone.
fn open_door(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let door = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(door)
}

struct Hub {
    shared: Arc<Shared>,
    listeners: Vec<(Transport, SocketAddr)>,
    udp: Vec<OwnedFd>,
    /// The connections that are up.
    flows: FxHashMap<FlowId, (Flow, Vec<String>, Outbox)>,
}

/// Where a proxy's frames go, and which of them it is; `None` for its end.
type Asked = (u64, mpsc::Sender<(u64, Option<Frame>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serves,
    /// It hands over, and waits for the word that there is no more for it.
    Pauses,
    Paused,
}

/// The proxy that is there; the newest, where one comes before the former is
/// gone.
struct Proxy {
    frames: mpsc::Sender<Frame>,
    stage: Stage,
    tasks: [AbortHandle; 2],
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Hub {
    async fn run(mut self, door: UnixListener, mut incoming: mpsc::Receiver<Incoming>) {
        let mut proxy: Option<Proxy> = None;
        let (asked, mut asks) = mpsc::channel(QUEUE);
        let mut generation = 0;
        let mut reports = interval(REPORT);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dropped = Vec::new();
        loop {
            tokio::select! {
                accepted = door.accept() => match accepted {
                    Ok((stream, _)) => {
                        // The former one's link ends; what it still asks is not heard.
                        proxy = None;
                        generation += 1;
                        match self.greet(stream, (generation, asked.clone())).await {
                            Ok(greeted) => proxy = Some(greeted),
                            Err(error) => tracing::warn!(%error, "a proxy could not be greeted"),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a proxy could not be let in");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some((of, ask)) = asks.recv() => match ask {
                    _ if of != generation => {}
                    Some(Frame::Pause) => {
                        if let Some(proxy) = &mut proxy {
                            proxy.stage = Stage::Pauses;
                        }
                    }
                    Some(frame) => self.asked(frame),
                    None => {
                        tracing::warn!(connections = self.flows.len(), "the proxy is gone; its connections are kept");
                        proxy = None;
                    }
                },
                _ = reports.tick(), if proxy.is_some() => {
                    if let Some(proxy) = &proxy {
                        self.report(&mut dropped, &proxy.frames);
                    }
                }
                // Nothing is taken in while nobody is there to have it: clients
                // feel that by TCP's flow control.
                Some((permit, heard)) = next(proxy.as_ref(), &mut incoming) => match heard {
                    Some(heard) => {
                        if let Some(frame) = self.heard(heard) {
                            permit.send(frame);
                        }
                    }
                    None => {
                        permit.send(Frame::Paused);
                        if let Some(proxy) = &mut proxy {
                            proxy.stage = Stage::Paused;
                        }
                    }
                }
            }
        }
    }

    /// Hands over the UDP sockets, then says what there is.
    async fn greet(&self, stream: UnixStream, asked: Asked) -> io::Result<Proxy> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::getuid().as_raw() {
            return Err(io::Error::other(format!("it is user {peer}'s")));
        }
        let stream = stream.into_std()?;
        let sockets: Vec<BorrowedFd<'_>> = self.udp.iter().map(AsFd::as_fd).collect();
        descriptors::send(&stream, &sockets)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let mut octets = BytesMut::new();
        Frame::Hello(self.listeners.clone()).encode(&mut octets);
        for (flow, domains, _) in self.flows.values() {
            Frame::Opened(flow.clone(), domains.clone()).encode(&mut octets);
        }
        let (frames, to_write) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_frames(write, octets, to_write));
        let reader = tokio::spawn(read_frames(read, asked));
        tracing::info!(connections = self.flows.len(), "a proxy is there");
        Ok(Proxy {
            frames,
            stage: Stage::Serves,
            tasks: [writer.abort_handle(), reader.abort_handle()],
        })
    }

    fn asked(&mut self, frame: Frame) {
        match frame {
            Frame::Write(id, bytes) => {
                let is_slow = self.flows.get(&id).is_some_and(|(.., out)| out.push(bytes).is_err());
                if is_slow {
                    self.shared.metrics.drop(crate::metrics::Drop::SlowReader);
                    // Its task ends with its queue, and says so.
                    self.flows.remove(&id);
                }
            }
            Frame::LetGo(id) => drop(self.flows.remove(&id)),
            _ => {}
        }
    }

    fn heard(&mut self, heard: Incoming) -> Option<Frame> {
        match heard {
            Incoming::Opened { flow, domains, outbox } => {
                let opened = Frame::Opened(flow.clone(), domains.clone());
                self.flows.insert(flow.id, (flow, domains, outbox));
                Some(opened)
            }
            Incoming::Received { flow, bytes, .. } => Some(Frame::Received(flow.id, bytes)),
            Incoming::Closed { id } => {
                self.flows.remove(&id);
                Some(Frame::Closed(id))
            }
            _ => None,
        }
    }

    /// What was thrown away since the last report.
    fn report(&self, told: &mut Vec<u64>, proxy: &mpsc::Sender<Frame>) {
        let now = self.shared.metrics.drops();
        told.resize(now.len(), 0);
        for (cause, (now, told)) in now.into_iter().zip(told).enumerate() {
            // Told with the next where there is no room.
            if now > *told && proxy.try_send(Frame::Dropped(cause as u64, now - *told)).is_ok() {
                *told = now;
            }
        }
    }
}

/// What a connection has for the proxy, and room to pass it on; nothing more, and
/// room to say so, when the proxy pauses.
async fn next(
    proxy: Option<&Proxy>,
    incoming: &mut mpsc::Receiver<Incoming>,
) -> Option<(mpsc::OwnedPermit<Frame>, Option<Incoming>)> {
    let proxy = proxy.filter(|proxy| proxy.stage != Stage::Paused);
    let room = match proxy {
        Some(proxy) => proxy.frames.clone().reserve_owned().await.ok(),
        None => None,
    };
    match (room, proxy.map(|proxy| proxy.stage)) {
        (Some(permit), Some(Stage::Serves)) => {
            incoming.recv().await.map(|heard| (permit, Some(heard)))
        }
        (Some(permit), Some(_)) => Some((permit, None)),
        _ => std::future::pending().await,
    }
}

async fn write_frames(
    mut write: OwnedWriteHalf,
    mut octets: BytesMut,
    mut frames: mpsc::Receiver<Frame>,
) {
    let mut batch = Vec::new();
    loop {
        if write.write_all(&octets).await.is_err() {
            return;
        }
        octets.clear();
        if frames.recv_many(&mut batch, 64).await == 0 {
            return;
        }
        batch.drain(..).for_each(|frame| frame.encode(&mut octets));
    }
}

/// Passes on what the proxy asks; `None` once it is gone.
async fn read_frames(mut read: OwnedReadHalf, (generation, asked): Asked) {
    let mut frames = Frames::default();
    loop {
        match frames.read(&mut read).await {
            Ok(frame) => {
                if asked.send((generation, Some(frame))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // A frame that cannot be read; else the proxy is just gone.
                if error.kind() == io::ErrorKind::Other {
                    tracing::error!(%error, "the proxy's link is closed");
                }
                break;
            }
        }
    }
    let _ended = asked.send((generation, None)).await;
}
