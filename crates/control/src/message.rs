use std::fmt;
use std::net::SocketAddr;

use landline_region::{AccountSid, CallSid, RecordingSid, RegionCode, SoundSid, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::media::{
    Direction, LegKeys, LegLocal, LegSpec, LegStats, MediaFault, Remote, Spoken, VideoType,
};

/// The protocol's version. A peer of another one is refused at [`Hello`].
pub const VERSION: u16 = 1;

/// A relay's name within its region, as configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelayId(pub String);

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A media session: the legs of one call on one relay. Chosen by the proxy, and
/// not by any other of the region at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A leg within its session: 0 is the caller's, others are branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegId(pub u16);

/// Pairs an outcome with its request on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// The first message of each side. The relay closes the connection when
/// version or region differ from its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u16,
    pub region: RegionCode,
    /// The sender's name within its region.
    pub name: String,
    /// Differs at each start of the sender. When the proxy's changes, the
    /// relay closes what is not adopted of the former one's sessions, after a
    /// while.
    pub incarnation: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToRelay {
    Hello(Hello),
    Request(RequestId, Request),
    Ping(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromRelay {
    Hello(Hello),
    Outcome(RequestId, Outcome),
    Event(SessionId, Event),
    Pong(u64),
    /// The relay takes no new sessions from now on, and is to be left by those
    /// it has.
    Draining,
    /// Another proxy has adopted the session: it is that one's from now on, and
    /// its call with it.
    Taken(SessionId),
    /// The relay takes sessions again.
    Resumed,
    /// What the legs of some sessions did so far: the last that is known of
    /// them, should the relay die. No more sessions than [`COUNTED_SESSIONS`].
    Counted(Vec<(SessionId, Vec<(LegId, LegStats)>)>),
    /// Where the relay takes connections of legs' peers (RFC 6544), as peers are
    /// to be told: at most one for each of its addresses.
    Streams(Vec<SocketAddr>),
}

/// Sessions in one [`FromRelay::Counted`]: far from the limit of a frame.
pub const COUNTED_SESSIONS: usize = 32;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Open(Open),
    /// Operations on an open session, carried out in order; stops at the first
    /// that fails, whose refusal is the outcome.
    Change(SessionId, Vec<Op>),
    Close(Close),
    /// Takes over a session whose proxy is no more, or is taken to be. The relay
    /// is the judge: a session belongs to whoever adopted it last.
    Adopt(Adopt),
    /// As [`Request::Open`], of legs whose peers were served by another relay.
    Resume(Resume),
    TakeOver(TakeOver),
}

/// Opens a session and its first legs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub session: SessionId,
    pub account: AccountSid,
    pub call: CallSid,
    pub recording: Option<Recording>,
    pub legs: Vec<(LegId, LegSpec)>,
}

/// Opens a session whose legs go on with the keys that they have with their
/// peers. A leg that is of another protocol, or whose keys fit no suite of its,
/// gets new ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    pub open: Open,
    pub keys: Vec<(LegId, LegKeys)>,
    /// The number of the record's next step: who adopts the session is given a
    /// higher one.
    pub step: u32,
}

/// What is recorded from the moment two legs are joined after the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    pub sid: RecordingSid,
    pub consent: Consent,
}

/// On whose word a call is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The account's or user's recording policy.
    pub by_policy: bool,
    pub granted_at: UnixMillis,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Allocates one more leg.
    Add(LegId, LegSpec),
    /// Tells what the leg's peer described; again after a re-INVITE.
    Remote(LegId, Box<Remote>),
    /// Relays between these two from now on. A leg has one partner; joining it
    /// anew (fork, transfer) ends the former pair.
    Join(LegId, LegId),
    /// Starts the recording (the call was answered).
    Record,
    /// Replaces the leg's ICE credentials and DTLS association (ICE restart).
    Restart(LegId),
    /// Ends a leg; its ports go into quarantine.
    Remove(LegId),
    /// As [`Op::Record`], of a call that another relay recorded before: so many
    /// segments of the recording are there already.
    Continue(u16),
    /// The leg's peer has heard the other side's streams under other keys: what
    /// it is sent from now on has SSRCs and sequence numbers of its own. Plain
    /// streams stay as they are.
    Renew(LegId),
    /// What two legs speak that share not every codec: what one says and the
    /// other does not take is transcoded. Goes for as long as neither gets
    /// another [`Op::Remote`].
    Speak(Box<[(LegId, Spoken); 2]>),
    /// Plays to the leg's peer, in place of what was played before, where its
    /// partner says nothing. Told by [`Event::Played`] when it is over.
    Play(LegId, Box<Play>),
    /// Plays nothing to it any more.
    Hush(LegId),
    /// What the leg's peer sends and takes beside sound, by the same transport:
    /// passed on as it is and not counted as sound; not passed on while the session
    /// is recorded. A number of the sound's goes on meaning sound. Goes until the
    /// next for this leg.
    Video(LegId, Direction, Vec<VideoType>),
    /// Presses a key towards the leg's peer (RFC 4733), as if its partner had.
    Press(LegId, Key),
    /// The keys that the leg's peer presses in its media are told by
    /// [`Event::Key`] and not relayed. Goes for as long as it gets no other
    /// [`Op::Remote`].
    TellKeys(LegId),
    /// Records what this leg's peer says, with nobody at the other end, from now
    /// on and as this, whatever the session was to be recorded as.
    Note(LegId, Box<Recording>),
}

/// A key of a telephone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// RFC 4733 §3.2: 0 to 9, 10 for `*`, 11 for `#`, A to D.
    pub event: u8,
    pub duration_ms: u16,
}

/// What a leg's peer hears from the relay itself, one sound after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Play {
    /// Of the session's account; no more than [`MOST_SOUNDS`].
    pub sounds: Vec<Sound>,
    /// From the beginning again, until it is hushed.
    pub repeats: bool,
}

/// In one [`Play`].
pub const MOST_SOUNDS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sound {
    /// The music that everybody has who has put none of their own.
    Tune,
    /// Something of the account's own, from its region's database.
    Own(SoundSid),
    /// What callers hear before they leave a message: a user's or an account's own,
    /// or that of everybody who has put none.
    Greeting(Option<SoundSid>),
    /// From here on the caller is recorded.
    Beep,
    /// What a caller left in a mailbox of the account's.
    Message(RecordingSid),
    /// To who listens: the mailbox is empty, or has no more.
    NoMessages,
    NoMoreMessages,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Close {
    pub session: SessionId,
}

/// Session and call have to belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    pub session: SessionId,
    pub call: CallSid,
}

/// As [`Adopt`], among proxies that go on with each other's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    pub adopt: Adopt,
    /// The number that the record's next step has at the least.
    pub step: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The legs that were allocated or restarted by the request, in order.
    Done(Vec<(LegId, LegLocal)>),
    /// The session is closed; statistics by leg, removed ones included.
    Closed {
        legs: Vec<(LegId, LegStats)>,
        recording: Option<Recorded>,
    },
    Refused(Refusal),
    /// The session's legs, with what went wrong on each while nobody listened.
    Adopted(Vec<(LegId, Vec<MediaFault>)>),
    TakenOver(TakenOver),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// As in [`Outcome::Adopted`].
    pub legs: Vec<(LegId, Vec<MediaFault>)>,
    /// A number for the record's next step that no former owner has used or is
    /// going to use, whatever the clocks of the region say: above what any was
    /// given, by more steps than one takes.
    pub step: u32,
}

/// What the recording tap took and what it gave to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub sid: RecordingSid,
    pub expected_packets: u64,
    pub stored_packets: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the relay has no free port pair")]
    NoPorts,
    #[error("the relay is at its limit of sessions")]
    Full,
    #[error("the relay is draining")]
    Draining,
    #[error("no such session")]
    UnknownSession,
    #[error("no such leg in the session")]
    UnknownLeg(LegId),
    #[error("the session or leg exists already")]
    Exists,
    #[error("the peer's description does not fit the leg: {0}")]
    BadRemote(String),
    #[error("the relay has no address of this family")]
    NoFamily,
}

/// What a session's media does by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first authentic media (or, for plain RTP, the latched stream) arrived.
    MediaStarted(LegId),
    Fault(LegId, MediaFault),
    /// The leg's keys exist, or are others, or a stream is sent that was not
    /// before; told again to a proxy that adopts the session.
    Keyed(LegId, Box<LegKeys>),
    /// All that the leg was to be played has been, or none of it can be.
    Played(LegId),
    /// The leg's peer has pressed a key.
    Key(LegId, Key),
}
