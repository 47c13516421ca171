//! What goes into an endpoint and what comes out of it.

use bytes::Bytes;

use crate::flow::{Destination, Flow, FlowId, SendTo, Target};
use crate::{Request, Response, Uri};

/// Names a client transaction. Chosen by the transaction user, unique among
/// those alive, below [`ClientKey::RESERVED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub u64);

impl ClientKey {
    /// Keys from here on are the endpoint's own: they name the look-ups of
    /// stateless sends in [`Output::Resolve`].
    pub const RESERVED: u64 = 1 << 63;
}

/// Names a server transaction. Chosen by the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey(pub u64);

#[derive(Debug, Clone)]
pub enum Input {
    /// One datagram or framed message, never a keep-alive.
    Received { flow: Flow, bytes: Bytes },
    /// Opens a client transaction. The endpoint pushes its Via. ACK and CANCEL
    /// are refused: see [`Input::Forward`] and [`Input::Cancel`].
    Request { key: ClientKey, request: Request, destination: Destination },
    /// Sends without a transaction: the ACK to a 2xx. The endpoint keeps it and
    /// sends it again whenever that 2xx is retransmitted, so nobody above has
    /// to (RFC 3261 §13.2.2.4).
    Forward { request: Request, destination: Destination },
    /// Cancels an INVITE, as soon as a provisional response allows it
    /// (RFC 3261 §9.1). The 487 comes as a response. `reason` becomes a Reason
    /// header.
    Cancel { key: ClientKey, reason: Option<String> },
    /// Answers a server transaction. A 2xx to an INVITE is retransmitted until
    /// its ACK comes (RFC 3261 §13.3.1.4).
    Respond { key: ServerKey, response: Response },
    /// What was found for [`Output::Resolve`], best first; empty for nothing.
    Resolved { key: ClientKey, targets: Vec<Target> },
    /// An [`Output::Send`] could not be sent: no connection, no route, refused.
    SendFailed { key: Option<ClientKey>, to: SendTo },
    /// A connection has ended. Requests sent over exactly this flow fail by it;
    /// what went over it by address is the shell's to report, by
    /// [`Input::SendFailed`], where it is not to wait for its time-out.
    FlowClosed(FlowId),
}

#[derive(Debug, Clone)]
pub enum Output {
    /// `key` is given back in [`Input::SendFailed`].
    Send {
        to: SendTo,
        bytes: Bytes,
        key: Option<ClientKey>,
    },
    Resolve {
        key: ClientKey,
        uri: Uri,
    },
    Event(Event),
}

/// What the transaction user hears.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "moved once or twice; a box costs more")]
pub enum Event {
    /// A new request; its top Via has `received` and `rport` set. Without a key
    /// it is an ACK to a 2xx, as often as it came.
    Request {
        key: Option<ServerKey>,
        flow: Flow,
        request: Request,
    },
    /// The CANCEL of this INVITE came and got its 200. The INVITE still has to
    /// be answered, with 487.
    Cancelled {
        key: ServerKey,
    },
    /// Every provisional response, every 2xx of every fork once, and one
    /// non-2xx final response (of an INVITE it has been acknowledged). Our Via
    /// is taken off.
    Response {
        key: ClientKey,
        response: Response,
    },
    /// The request ended without a final response; nothing more comes for it.
    ClientFailed {
        key: ClientKey,
        cause: FailureCause,
    },
    /// The first ACK for this 2xx to an INVITE; the ACK itself follows as a
    /// request without a key.
    Acked {
        key: ServerKey,
    },
    /// A 2xx to an INVITE was sent for 64·T1 and never acknowledged: the
    /// dialog should be ended with BYE (RFC 3261 §13.3.1.4).
    AckTimeout {
        key: ServerKey,
    },
    FlowClosed(FlowId),
    /// A 2xx to an INVITE that matches no transaction: of a former process, say,
    /// whose ACK was lost with it (RFC 3261 §18.1.2).
    StrayAnswer {
        response: Response,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// No final response in time, from any target.
    Timeout,
    /// No target could be sent to.
    Transport,
    /// The look-up found nothing.
    NotResolved,
    /// Cancelled before anything had been sent.
    Cancelled,
    /// Not begun: the transaction table is full, the key is in use, or the
    /// method (ACK, CANCEL) has no client transaction of its own.
    Refused,
}
