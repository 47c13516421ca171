//! The proxy's end: what a keeper holds for it, and the link to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use landline_sip::{FlowId, Transport};
use rustc_hash::FxHashMap;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::descriptors;
use super::frame::{Frame, Frames};
use crate::StartError;
use crate::inbox::{Incoming, Outbox};
use crate::metrics::Counted;
use crate::shared::Shared;

/// Messages on their way to the keeper, of all connections.
const WRITES: usize = 16 * 1024;
/// How long a keeper may take to greet.
const GREETING: Duration = Duration::from_secs(5);
/// How long it may take to hear the last messages.
const FLUSH: Duration = Duration::from_secs(2);

/// The link, up and greeted.
pub(crate) struct Kept {
    stream: UnixStream,
    frames: Frames,
}

/// What the keeper bound, in the configured order.
pub(crate) struct KeptListeners {
    listeners: std::vec::IntoIter<(Transport, SocketAddr)>,
    udp: std::vec::IntoIter<OwnedFd>,
}

impl Kept {
    pub(crate) async fn connect(path: &Path) -> Result<(Self, KeptListeners), StartError> {
        let failed = |problem: String| StartError::Keeper { path: path.to_owned(), problem };
        let greeted = tokio::time::timeout(GREETING, Self::greet(path)).await;
        greeted
            .map_err(|_| failed("it does not greet".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    }

    async fn greet(path: &Path) -> io::Result<(Self, KeptListeners)> {
        let path = path.to_owned();
        let greeted = tokio::task::spawn_blocking(move || {
            let stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_read_timeout(Some(GREETING))?;
            let udp = descriptors::receive(&stream)?;
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>((stream, udp))
        });
        let (stream, udp) = greeted.await.map_err(io::Error::other)??;
        let mut kept = Self { stream: UnixStream::from_std(stream)?, frames: Frames::default() };
        let Frame::Hello(listeners) = kept.frames.read(&mut kept.stream).await? else {
            return Err(io::Error::other("it did not greet first"));
        };
        let listeners = KeptListeners { listeners: listeners.into_iter(), udp: udp.into_iter() };
        Ok((kept, listeners))
    }

    /// Carries messages until the link ends, which the driver hears; or until
    /// the proxy stops and everything that its driver left behind is written.
    async fn run(self, shared: Arc<Shared>, ends: Ends) {
        let (read, write) = self.stream.into_split();
        let Ends { writes, to_write, stopping, keeps } = ends;
        // One for each connection that the driver lets go of.
        let (let_go, to_let_go) = mpsc::unbounded_channel();
        let reader =
            Reader { shared: Arc::clone(&shared), writes, let_go, counted: FxHashMap::default() };
        let mut writing = pin!(write_frames(write, to_write, to_let_go, keeps));
        let ended = tokio::select! {
            ended = reader.run(read, self.frames) => ended,
            ended = &mut writing => ended,
            Ok(()) = stopping => {
                // The last answers, and which connections to let go of.
                let _written = writing.await;
                return;
            }
        };
        tracing::error!(problem = %ended, "the link to the keeper has ended");
        let _gone = shared.answers.send(Incoming::KeeperLost).await;
    }
}

/// The task that carries messages from and to the keeper. Dropping it ends the
/// link at once, as a death does.
pub(crate) struct KeeperLink {
    writes: mpsc::Sender<Frame>,
    stopping: oneshot::Sender<()>,
    keeps: Arc<AtomicBool>,
    task: JoinSet<()>,
}

/// What the task has of it.
struct Ends {
    writes: mpsc::Sender<Frame>,
    to_write: mpsc::Receiver<Frame>,
    stopping: oneshot::Receiver<()>,
    /// The connections are the next proxy's, and are let go of no more.
    keeps: Arc<AtomicBool>,
}

impl KeeperLink {
    pub(crate) fn start(kept: Kept, shared: &Arc<Shared>) -> Self {
        let (writes, to_write) = mpsc::channel(WRITES);
        let (stopping, stops) = oneshot::channel();
        let keeps = Arc::new(AtomicBool::new(false));
        let mut task = JoinSet::new();
        let ends =
            Ends { writes: writes.clone(), to_write, stopping: stops, keeps: Arc::clone(&keeps) };
        task.spawn(kept.run(Arc::clone(shared), ends));
        Self { writes, stopping, keeps, task }
    }

    /// Asks the keeper for the last messages: behind them the driver hears that
    /// it hands over. False when the keeper is gone.
    pub(crate) async fn pause(&self) -> bool {
        self.keeps.store(true, Ordering::Relaxed);
        self.writes.send(Frame::Pause).await.is_ok()
    }

    /// Writes what the driver, which has ended, left behind.
    pub(crate) async fn finish(self) {
        let Self { writes, stopping, mut task, .. } = self;
        drop(writes);
        let _gone = stopping.send(());
        let _late = timeout(FLUSH, task.join_next()).await;
    }
}

impl KeptListeners {
    /// The next listener, which must be the one that is configured next; a UDP
    /// one with its socket.
    pub(crate) fn next(
        &mut self,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<(SocketAddr, Option<OwnedFd>), StartError> {
        let other = || StartError::KeeperListens { transport, address };
        let (kept, local) = self.listeners.next().ok_or_else(other)?;
        let port_fits = address.port() == 0 || address.port() == local.port();
        if kept != transport || local.ip() != address.ip() || !port_fits {
            return Err(other());
        }
        match transport {
            Transport::Udp => Ok((local, Some(self.udp.next().ok_or_else(other)?))),
            _ => Ok((local, None)),
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    writes: mpsc::Sender<Frame>,
    let_go: mpsc::UnboundedSender<FlowId>,
    /// The connections that are up, as the metrics count them.
    counted: FxHashMap<FlowId, (landline_sip::Flow, Counted)>,
}

impl Reader {
    async fn run(mut self, mut read: OwnedReadHalf, mut frames: Frames) -> io::Error {
        loop {
            let frame = match frames.read(&mut read).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            if self.take(frame).await.is_err() {
                return io::Error::other("the proxy stops");
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), ()> {
        let incoming = match frame {
            Frame::Opened(flow, domains) => {
                let counted = self.shared.metrics.connection(flow.transport);
                self.counted.insert(flow.id, (flow.clone(), counted));
                let outbox = Outbox::kept(flow.id, self.writes.clone(), self.let_go.clone());
                Incoming::Kept { flow, domains, outbox }
            }
            Frame::Received(id, bytes) => match self.counted.get(&id) {
                Some((flow, _)) => {
                    Incoming::Received { flow: flow.clone(), bytes, at: Instant::now() }
                }
                None => return Ok(()),
            },
            Frame::Closed(id) => {
                self.counted.remove(&id);
                Incoming::Closed { id }
            }
            Frame::Dropped(cause, count) => {
                self.shared.metrics.dropped_elsewhere(cause, count);
                return Ok(());
            }
            Frame::Paused => Incoming::HandOver,
            Frame::Hello(_) | Frame::Write(..) | Frame::LetGo(_) | Frame::Pause => return Ok(()),
        };
        self.shared.inbox.send(incoming).await.map_err(|_| ())
    }
}

/// Until nobody is left who could write, or the keeper is gone.
async fn write_frames(
    mut write: OwnedWriteHalf,
    mut writes: mpsc::Receiver<Frame>,
    mut let_go: mpsc::UnboundedReceiver<FlowId>,
    keeps: Arc<AtomicBool>,
) -> io::Error {
    let (mut batch, mut octets) = (Vec::new(), BytesMut::new());
    let mut is_open = true;
    loop {
        tokio::select! {
            // What was written before a connection is let go of goes first.
            biased;
            taken = writes.recv_many(&mut batch, 64), if is_open => is_open = taken > 0,
            id = let_go.recv() => match id {
                Some(_) if keeps.load(Ordering::Relaxed) => {}
                Some(id) => batch.push(Frame::LetGo(id)),
                None => return io::Error::other("the proxy stops"),
            },
        }
        octets.clear();
        batch.drain(..).for_each(|frame| frame.encode(&mut octets));
        if let Err(error) = write.write_all(&octets).await {
            return error;
        }
    }
}
