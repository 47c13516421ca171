//! SIP messages, SDP, transactions, dialogs and digest as pure machines.
//!
//! [`parse`] turns one datagram or one framed message into a [`Message`] whose
//! header values are slices of the buffer it came in. [`Endpoint`] holds the
//! transactions of one SIP element; [`Dialog`] and [`OfferAnswer`] what its
//! user keeps between them. Nothing here reads a clock, a socket or randomness.

pub mod digest;
pub mod sdp;
pub mod stun;

mod byte_str;
mod dialog;
mod endpoint;
mod error;
mod event;
mod flow;
mod framing;
mod header_name;
mod headers;
mod host;
mod limits;
mod message;
mod method;
mod name_addr;
mod offer_answer;
mod params;
mod parse;
mod print;
mod refer;
mod salvage;
mod scan;
mod session;
mod status;
mod transaction;
mod transport;
mod typed;
mod uri;
mod via;

pub use byte_str::ByteStr;
pub use dialog::{Dialog, DialogError, DialogId, DialogParts, DialogState};
pub use endpoint::{
    ClientKey, Counters, Endpoint, EndpointConfig, Event, FailureCause, Input, Listener, Output,
    ServerKey,
};
pub use error::{BadRequest, HeaderError, ParseError, ParseErrorKind};
pub use event::{Ended, EventType, SubscriptionState};
pub use flow::{Destination, Flow, FlowId, SendTo, Target};
pub use framing::{Frame, FrameError, Framer};
pub use header_name::HeaderName;
pub use headers::Headers;
pub use host::Host;
pub use limits::Limits;
pub use message::{Message, Request, Response};
pub use method::Method;
pub use name_addr::NameAddr;
pub use offer_answer::{Carrier, Collision, OfferAnswer, SessionRole, glare_wait};
pub use params::Params;
pub use parse::parse;
pub use refer::{ReferError, ReferTo, Replaces, SIPFRAG, declines_reports, sipfrag};
pub use session::{RAck, Refresher, SessionExpires};
pub use status::StatusCode;
pub use transport::Transport;
pub use typed::{CSeq, ContactValue, Contacts, MediaType, Reason};
pub use uri::{InvalidUri, Scheme, Uri};
pub use via::{Via, ViaTransport};
