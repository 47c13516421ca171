//! SIP messages, SDP, transactions, dialogs and digest as pure machines.
//!
//! [`parse`] turns one datagram or one framed message into a [`Message`] whose
//! header values are slices of the buffer it came in. Nothing here reads a
//! clock, a socket or randomness.

pub mod digest;
pub mod sdp;

mod byte_str;
mod error;
mod framing;
mod header_name;
mod headers;
mod host;
mod limits;
mod message;
mod method;
mod name_addr;
mod params;
mod parse;
mod print;
mod salvage;
mod scan;
mod status;
mod transport;
mod typed;
mod uri;
mod via;

pub use byte_str::ByteStr;
pub use error::{BadRequest, HeaderError, ParseError, ParseErrorKind};
pub use framing::{Frame, FrameError, Framer};
pub use header_name::HeaderName;
pub use headers::Headers;
pub use host::Host;
pub use limits::Limits;
pub use message::{Message, Request, Response};
pub use method::Method;
pub use name_addr::NameAddr;
pub use params::Params;
pub use parse::parse;
pub use status::StatusCode;
pub use transport::Transport;
pub use typed::{CSeq, ContactValue, Contacts, MediaType, Reason};
pub use uri::{InvalidUri, Scheme, Uri};
pub use via::{Via, ViaTransport};
