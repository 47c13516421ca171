//! The queues between the driver and everything that runs beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use landline_call::directory::Directory;
use landline_call::{
    BindingsToken, JournalToken, PeerId, Replica, StartCall, StoredMessage, Tenants,
};
use landline_control::{FromRelay, Hello, RelayId, Request, RequestId};
use landline_region::CallSid;
use landline_sip::{ClientKey, Flow, FlowId, Target};
use tokio::sync::{mpsc, oneshot};

use crate::Limits;
use crate::keeper::Frame;
use crate::replica::Queue;

/// What the driver hears from the tasks around it.
pub(crate) enum Incoming {
    /// A client's or another region's connection is up.
    Opened {
        flow: Flow,
        /// What a client's certificate speaks for; nothing without one.
        domains: Vec<String>,
        outbox: Outbox,
    },
    /// A client's connection that a keeper holds: it may have been up before.
    Kept {
        flow: Flow,
        domains: Vec<String>,
        outbox: Outbox,
    },
    /// The keeper is gone, and with it every client's way in.
    KeeperLost,
    /// The last message: ends the driver and no call, another process goes on with
    /// them.
    HandOver,
    /// One whole message came over a connection.
    Received {
        flow: Flow,
        bytes: Bytes,
        at: Instant,
    },
    /// A connection has ended, or one of ours did not come about.
    Closed {
        id: FlowId,
    },
    /// A connection of ours is up.
    Connected {
        id: FlowId,
    },
    Resolved {
        key: ClientKey,
        targets: Vec<Target>,
    },
    RelayConnected {
        relay: RelayId,
        hello: Hello,
        /// Where its requests go; as before, if the link only broke.
        requests: Option<mpsc::Sender<(RequestId, Request)>>,
    },
    RelayLost {
        relay: RelayId,
    },
    Relay {
        relay: RelayId,
        message: FromRelay,
    },
    Journaled(Vec<JournalToken>),
    JournalFailed(Vec<JournalToken>),
    BindingsStored {
        tokens: Vec<BindingsToken>,
        ok: bool,
    },
    Tenancy(Arc<Tenants>),
    Directory(Arc<Directory>),
    /// A peer is there to hold our calls.
    HolderUp {
        peer: PeerId,
        queue: Queue,
    },
    HolderLost {
        peer: PeerId,
    },
    /// It holds what was told up to this number.
    Held {
        peer: PeerId,
        number: u64,
    },
    /// A peer's link to us, by number: it has calls for us to hold.
    PeerUp {
        peer: PeerId,
        link: u64,
    },
    PeerLost {
        peer: PeerId,
        link: u64,
    },
    Replica {
        peer: PeerId,
        link: u64,
        replica: Box<Replica>,
    },
    ReplicaGone {
        peer: PeerId,
        link: u64,
        call: CallSid,
    },
    /// It starts, and asks which calls are or were ours.
    PeerAsks {
        peer: PeerId,
        reply: oneshot::Sender<Vec<CallSid>>,
    },
    /// What a mailbox holds whose owner listens.
    Messages {
        call: CallSid,
        messages: Option<Vec<StoredMessage>>,
    },
    /// By an administrator.
    HangUp(CallSid),
    /// By an administrator.
    StartCall(Box<StartCall>),
    Shutdown,
}

pub(crate) type Inbox = mpsc::Sender<Incoming>;

/// The driver's end of one connection's write queue. Dropping it closes the
/// connection after what is queued was written.
#[derive(Debug)]
pub(crate) struct Outbox {
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// To the connection's own task.
    Own { queue: mpsc::Sender<Bytes>, octets: Arc<AtomicUsize>, most_octets: usize },
    /// To the keeper that holds it.
    Kept { id: FlowId, writes: mpsc::Sender<Frame>, let_go: mpsc::UnboundedSender<FlowId> },
}

/// The connection's end of its write queue.
#[derive(Debug)]
pub(crate) struct Written {
    queue: mpsc::Receiver<Bytes>,
    octets: Arc<AtomicUsize>,
    /// For what the connection answers by itself; weak, so that it does not
    /// keep itself open.
    own: mpsc::WeakSender<Bytes>,
}

/// The peer does not read fast enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

pub(crate) fn write_queue(limits: &Limits) -> (Outbox, Written) {
    let (sender, receiver) = mpsc::channel(limits.write_queue);
    let octets = Arc::new(AtomicUsize::new(0));
    let written = Written { own: sender.downgrade(), queue: receiver, octets: Arc::clone(&octets) };
    let most_octets = limits.write_queue_octets;
    (Outbox { way: Way::Own { queue: sender, octets, most_octets } }, written)
}

impl Outbox {
    pub(crate) fn kept(
        id: FlowId,
        writes: mpsc::Sender<Frame>,
        let_go: mpsc::UnboundedSender<FlowId>,
    ) -> Self {
        Self { way: Way::Kept { id, writes, let_go } }
    }

    pub(crate) fn push(&self, bytes: Bytes) -> Result<(), Full> {
        match &self.way {
            Way::Own { queue, octets, most_octets } => {
                let length = bytes.len();
                if octets.load(Ordering::Relaxed) + length > *most_octets {
                    return Err(Full);
                }
                octets.fetch_add(length, Ordering::Relaxed);
                queue.try_send(bytes).map_err(|_| Full)
            }
            // The keeper bounds what waits for each connection.
            Way::Kept { id, writes, .. } => {
                writes.try_send(Frame::Write(*id, bytes)).map_err(|_| Full)
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if let Way::Kept { id, let_go, .. } = &self.way {
            let _link_gone = let_go.send(*id);
        }
    }
}

impl Written {
    /// Waits for something to write and takes up to `most` messages of it.
    /// False: nothing more will come.
    pub(crate) async fn wait(&mut self, batch: &mut Vec<Bytes>, most: usize) -> bool {
        if self.queue.recv_many(batch, most).await == 0 {
            return false;
        }
        let taken = batch.iter().map(Bytes::len).sum();
        // A keep-alive answer is queued without being counted in.
        let less = |octets: usize| Some(octets.saturating_sub(taken));
        let _always = self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        true
    }

    /// A handle by which the connection's reader answers keep-alives.
    pub(crate) fn own(&self) -> mpsc::WeakSender<Bytes> {
        self.own.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_queue_is_bounded_in_messages_and_octets() {
        let limits = Limits { write_queue: 2, write_queue_octets: 10, ..Limits::default() };
        let (outbox, mut written) = write_queue(&limits);
        outbox.push(Bytes::from_static(b"12345678")).unwrap();
        assert_eq!(outbox.push(Bytes::from_static(b"123")), Err(Full));
        outbox.push(Bytes::from_static(b"12")).unwrap();
        let mut batch = Vec::new();
        assert!(written.wait(&mut batch, 8).await);
        assert_eq!(batch.len(), 2);
        outbox.push(Bytes::from_static(b"1")).unwrap();
        outbox.push(Bytes::from_static(b"1")).unwrap();
        assert_eq!(outbox.push(Bytes::from_static(b"1")), Err(Full));
        drop(outbox);
        batch.clear();
        assert!(written.wait(&mut batch, 8).await);
        assert!(!written.wait(&mut batch, 8).await);
    }
}
