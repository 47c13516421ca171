//! One TCP or TLS connection: octets in, whole messages out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use landline_sip::{Flow, Frame, Framer};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::inbox::{Inbox, Incoming, Written};
use crate::metrics::Drop as Cause;
use crate::shared::Shared;

/// The answer to a CRLF CRLF keep-alive (RFC 5626 §4.4.1).
const PONG: &[u8] = b"\r\n";
const READ_BUFFER: usize = 16 * 1024;
/// Messages and octets that one write takes from the queue at most.
const WRITE_BATCH: usize = 32;

/// Whether the peer opened the connection, and so owes the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Accepted,
    Opened,
}

/// Runs a connection to its end. The driver hears of its opening elsewhere, of
/// its messages and its end from here.
pub(crate) async fn serve<S>(stream: S, side: Side, flow: Flow, written: Written, shared: &Shared)
where
    S: AsyncRead + AsyncWrite,
{
    let _counted = shared.metrics.connection(flow.transport);
    let id = flow.id;
    let (read, write) = tokio::io::split(stream);
    let pong = written.own();
    let told = Notify::new();
    let reader = async {
        let ended = read_messages(read, side, flow, pong, &told, shared).await;
        if let Err(cause) = ended {
            shared.metrics.drop(cause);
        }
        // The driver lets go of the queue: what it had answered is still written.
        let _gone = shared.inbox.send(Incoming::Closed { id }).await;
    };
    let writer = write_messages(write, written, &told, shared);
    tokio::pin!(reader, writer);
    tokio::select! {
        () = &mut reader => {
            let _late = timeout(shared.limits.write, writer).await;
        }
        () = &mut writer => {
            let _gone = shared.inbox.send(Incoming::Closed { id }).await;
        }
    }
}

async fn read_messages(
    mut read: impl AsyncRead + Unpin,
    side: Side,
    flow: Flow,
    pong: mpsc::WeakSender<Bytes>,
    told: &Notify,
    shared: &Shared,
) -> Result<(), Cause> {
    let mut framer = Framer::new(shared.limits.message.clone());
    let mut patience = Patience::new(side, shared);
    let mut buffer = BytesMut::with_capacity(READ_BUFFER);
    loop {
        buffer.clear();
        buffer.reserve(READ_BUFFER);
        let octets = timeout_at(patience.deadline(), read.read_buf(&mut buffer));
        let octets = tokio::select! {
            octets = octets => octets,
            () = told.notified(), if !patience.owes_signs => {
                patience.owes_signs = true;
                continue;
            }
        };
        match octets {
            Err(_) => return Err(patience.cause()),
            Ok(Ok(0) | Err(_)) => return Ok(()),
            Ok(Ok(_)) => {}
        }
        framer.push(&buffer);
        let mut whole = false;
        loop {
            match framer.next().map_err(|_| Cause::Framing)? {
                None => break,
                Some(Frame::Message(bytes)) => {
                    whole = true;
                    if deliver(&shared.inbox, &flow, bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Frame::KeepAlivePing) => answer_ping(&pong),
                Some(Frame::KeepAlivePong) => {}
            }
        }
        patience.heard(whole, framer.buffered() > 0);
    }
}

/// Waits when the driver is behind: the peer feels it by TCP's own flow control.
pub(crate) async fn deliver(inbox: &Inbox, flow: &Flow, bytes: Bytes) -> Result<(), ()> {
    let at = std::time::Instant::now();
    inbox.send(Incoming::Received { flow: flow.clone(), bytes, at }).await.map_err(|_| ())
}

/// A peer that does not read its answers gets no more of them.
pub(crate) fn answer_ping(pong: &mpsc::WeakSender<Bytes>) {
    if let Some(queue) = pong.upgrade() {
        let _full = queue.try_send(Bytes::from_static(PONG));
    }
}

/// Says by `told` when the peer was promised that its flow lasts as long as it
/// gives signs of life in time (RFC 5626 §4.4.1).
async fn write_messages(
    mut write: impl AsyncWrite + Unpin,
    mut written: Written,
    told: &Notify,
    shared: &Shared,
) {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    let mut joined = Vec::new();
    let mut is_told = false;
    while written.wait(&mut batch, WRITE_BATCH).await {
        if !is_told && batch.iter().any(|message| has_flow_timer(message)) {
            is_told = true;
            told.notify_one();
        }
        let octets = match batch.as_slice() {
            [one] => &one[..],
            several => {
                joined.clear();
                several.iter().for_each(|message| joined.extend_from_slice(message));
                &joined[..]
            }
        };
        let sent = async {
            write.write_all(octets).await?;
            write.flush().await
        };
        match timeout(shared.limits.write, sent).await {
            Ok(Ok(())) => batch.clear(),
            Ok(Err(_)) => return,
            Err(_) => return shared.metrics.drop(Cause::SlowReader),
        }
    }
    let _ended = timeout(Duration::from_secs(1), write.shutdown()).await;
}

/// Of a registration that was accepted.
fn has_flow_timer(message: &[u8]) -> bool {
    message.starts_with(b"SIP/2.0 200") && memmem::find(message, b"\r\nFlow-Timer: ").is_some()
}

/// How long to wait for the next octets of a connection.
pub(crate) struct Patience<'a> {
    shared: &'a Shared,
    waiting: Waiting,
    since: Instant,
    /// The peer was told how often it is to be heard.
    owes_signs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    First,
    Rest,
    Next,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(side: Side, shared: &'a Shared) -> Self {
        let waiting = match side {
            Side::Accepted => Waiting::First,
            Side::Opened => Waiting::Next,
        };
        Self { shared, waiting, since: Instant::now(), owes_signs: false }
    }

    pub(crate) fn deadline(&self) -> Instant {
        let limits = &self.shared.limits;
        self.since
            + match self.waiting {
                Waiting::First => limits.first_message,
                Waiting::Rest => limits.whole_message,
                Waiting::Next if self.owes_signs => limits.flow,
                Waiting::Next => limits.idle,
            }
    }

    /// Octets came; `whole`: they ended a message; `rest`: they left one unfinished.
    pub(crate) fn heard(&mut self, whole: bool, rest: bool) {
        let waiting = match (self.waiting, rest) {
            // Keep-alives alone do not make a client: the first message is owed still.
            (Waiting::First, _) if !whole => return,
            (_, true) => Waiting::Rest,
            (_, false) => Waiting::Next,
        };
        // Drops of a message do not buy it more time.
        if waiting != Waiting::Rest || self.waiting != Waiting::Rest || whole {
            self.since = Instant::now();
        }
        self.waiting = waiting;
    }

    pub(crate) fn cause(&self) -> Cause {
        match self.waiting {
            Waiting::First => Cause::SilentConnection,
            Waiting::Rest => Cause::UnfinishedMessage,
            Waiting::Next if self.owes_signs => Cause::SilentFlow,
            Waiting::Next => Cause::IdleConnection,
        }
    }
}
