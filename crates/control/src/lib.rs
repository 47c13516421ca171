//! What proxy and relay say to each other: typed, versioned, framed.
//!
//! The transport (mutual TLS inside a region) belongs to the shells. A frame is
//! a big-endian `u32` length and a postcard body; see [`Framer`]. Enumerations
//! grow at their end only, so that neighbours of adjacent versions understand
//! each other; [`Hello`] refuses what is too far apart.

mod frame;
mod media;
mod message;

pub use frame::{FrameError, Framer, MAX_FRAME, encode};
pub use media::{
    Direction, DtlsParameters, DtlsRole, Fingerprint, HashFunction, IceCredentials, IpFamily,
    KeyAndSalt, KeyPair, LegKeys, LegLocal, LegSpec, LegStats, MediaFault, PayloadType, Protocol,
    Remote, SdesKey, SdesPair, Spoken, SrtpSuite, StreamStats, VideoType,
};
pub use message::{
    Adopt, COUNTED_SESSIONS, Close, Consent, Event, FromRelay, Hello, Key, LegId, MOST_SOUNDS, Op,
    Open, Outcome, Play, Recorded, Recording, Refusal, RelayId, Request, RequestId, Resume,
    SessionId, Sound, TakeOver, TakenOver, ToRelay, VERSION,
};
