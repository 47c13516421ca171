//! What goes into a core and what comes out of it.

use std::fmt;
use std::sync::Arc;

use landline_control::{FromRelay, Hello, RelayId, Request, RequestId};
use landline_region::egress::Refused;
use landline_region::{
    AccountSid, CallSid, Personal, RecordingSid, RegionCode, Token, UnixMillis, UserSid,
    VoicemailSid,
};

use crate::binding::{Binding, BindingChange};
use crate::directory::Directory;
use crate::push::Wake;
use crate::record::{CallDirection, CallEvent, Cause};
use crate::snapshot::Snapshot;
use crate::standby::{PeerId, Replica};
use crate::tenants::Tenants;

/// Names a journal entry whose confirmation the core waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalToken(pub u64);

/// Names a write of bindings whose confirmation the core waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingsToken(pub u64);

// Each is moved once, into the core or out of it: a box would cost every
// message an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Input {
    Sip(landline_sip::Event),
    /// The control connection stands and `hello` was accepted.
    RelayConnected {
        relay: RelayId,
        hello: Hello,
    },
    /// The relay is gone, or out of reach for so long that its sessions count
    /// as gone. Of a link that only broke for a moment nothing is said but
    /// [`Input::RelayConnected`] again, with the same incarnation.
    RelayLost {
        relay: RelayId,
    },
    Relay {
        relay: RelayId,
        message: FromRelay,
    },
    Tenancy(Arc<Tenants>),
    Directory(Arc<Directory>),
    /// What the store kept, once at start.
    Bindings(Vec<Binding>),
    /// A client's connection is up that a former process may have known: who
    /// registered by it is reached by it again.
    FlowKept(landline_sip::Flow),
    /// The client at the other end of this connection has proven by certificate
    /// that it speaks for these domains (RFC 5922).
    FlowProven {
        flow: landline_sip::FlowId,
        domains: Vec<String>,
    },
    /// The journal has this entry on its disk.
    Journaled(JournalToken),
    /// The journal could not keep it.
    JournalFailed(JournalToken),
    BindingsStored {
        token: BindingsToken,
        ok: bool,
    },
    /// Answered calls that a former run had, once at start and after the
    /// accounts.
    Restore {
        calls: Vec<Snapshot>,
        /// That run lived until then, as far as is known.
        proven_until: UnixMillis,
    },
    /// Another proxy of the region is there, and tells of its calls from now on.
    PeerUp(PeerId),
    PeerLost(PeerId),
    /// It is back and asks for [`crate::Core::carried`]; its own calls follow.
    PeerStarts(PeerId),
    /// A call of the peer's, new or changed.
    Replica {
        peer: PeerId,
        replica: Box<Replica>,
    },
    /// It ended there, or went on elsewhere.
    ReplicaGone {
        peer: PeerId,
        call: CallSid,
    },
    /// What the mailbox holds that [`Output::Messages`] asked for, in the order that it
    /// is listened to; `None`: it cannot be read.
    Messages {
        call: CallSid,
        messages: Option<Vec<StoredMessage>>,
    },
    /// An administrator ends a call.
    HangUp(CallSid),
    /// A call that no phone begins: one user is rung, then whom he is to talk to.
    StartCall(StartCall),
    /// Ends every call and takes no new ones.
    Shutdown,
}

#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Output {
    Sip(landline_sip::Input),
    Relay {
        relay: RelayId,
        id: RequestId,
        request: Request,
    },
    /// Events of one call, in order. With a token, [`Input::Journaled`] is waited
    /// for; an opening that cannot be written is dropped, everything else kept
    /// and written as soon as it can be. The state, where there is one, replaces
    /// the call's former one and is written with them; the call's last step ends
    /// it.
    Journal {
        token: Option<JournalToken>,
        events: Vec<CallEvent>,
        state: Option<Snapshot>,
    },
    /// The call is another proxy's: its kept state is to go, and not to come back.
    Forget(CallSid),
    StoreBindings {
        token: BindingsToken,
        changes: Vec<BindingChange>,
    },
    /// The caller listens to the own mailbox: [`Input::Messages`] is waited for.
    Messages {
        call: CallSid,
        account: AccountSid,
        user: UserSid,
    },
    /// A device sleeps that a call is for: its push service is to be asked.
    Wake(Wake),
    Log(Log),
}

/// A message that waits to be listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMessage {
    pub sid: VoicemailSid,
    pub recording: RecordingSid,
    pub is_new: bool,
}

/// Who is to talk with whom.
#[derive(Debug, Clone)]
pub struct StartCall {
    /// Chosen by who asks, and by which the call is found; used for no other call.
    pub sid: CallSid,
    pub account: AccountSid,
    /// Rung first.
    pub from: UserSid,
    /// Dialled as the first party would: a user's name, or a number with `+`.
    pub to: Personal<String>,
}

/// A call as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCall {
    pub sid: CallSid,
    pub account: AccountSid,
    pub direction: CallDirection,
    /// `opening`, `ringing`, `answering`, `up` or `ending`.
    pub state: &'static str,
    pub opened_at: UnixMillis,
    pub answered_at: Option<UnixMillis>,
    pub relay: Option<RelayId>,
    pub recorded: bool,
}

/// What is worth a line in the log. Persons appear as tokens and sids alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    Registered {
        user: UserSid,
        contacts: usize,
    },
    Unregistered {
        user: UserSid,
    },
    /// A wrong password, an unknown user or a forged nonce.
    AuthenticationFailed {
        account: AccountSid,
        user: Token,
        source: Token,
    },
    /// Too many of them: this user is shut out of this source for a while.
    ShutOut {
        account: AccountSid,
        user: Token,
        source: Token,
    },
    CallOpened {
        call: CallSid,
        account: AccountSid,
    },
    CallAnswered {
        call: CallSid,
    },
    /// A call that could not be taken up is closed as lost.
    CallUnrestorable {
        call: CallSid,
        problem: &'static str,
    },
    CallsRestored {
        calls: usize,
    },
    PeerUp {
        peer: PeerId,
    },
    /// It has so many calls, as far as we know.
    PeerLost {
        peer: PeerId,
        calls: usize,
    },
    /// Not told from whom: back from whoever has taken it from us.
    CallTakenOver {
        call: CallSid,
        from: Option<PeerId>,
    },
    /// Another proxy of the region has it now.
    CallTaken {
        call: CallSid,
    },
    CallClosed {
        call: CallSid,
        cause: Cause,
        sip_status: u16,
    },
    /// A relay did not carry out what it was asked.
    RelayRefused {
        relay: RelayId,
        call: CallSid,
        refusal: String,
    },
    RelayConnected {
        relay: RelayId,
    },
    RelayLost {
        relay: RelayId,
        calls: usize,
    },
    RelayDraining {
        relay: RelayId,
    },
    RelayResumed {
        relay: RelayId,
    },
    /// The media of the call go over to another relay.
    CallMoved {
        call: CallSid,
        from: RelayId,
        to: RelayId,
    },
    /// One party of the call is to become the other call's.
    CallReferred {
        call: CallSid,
        to: CallSid,
    },
    /// No other relay was there in time.
    CallAdrift {
        call: CallSid,
    },
    /// A request for another region's account could not be brought there.
    HomeUnreachable {
        account: AccountSid,
        home: RegionCode,
    },
    /// A call is sent to the home region of the account it is for.
    CallLeaves {
        call: CallSid,
        to: RegionCode,
    },
    /// The egress gate does not let it.
    CallKeptIn {
        call: CallSid,
        refused: Refused,
    },
    /// The egress gate does not let a message of this account out.
    MessageKeptIn {
        account: AccountSid,
        refused: Refused,
    },
    /// Another region's proxy sent what it may not.
    PeerRefused {
        peer: String,
        problem: &'static str,
    },
    BindingsNotStored {
        changes: usize,
    },
    RecordsNotJournaled {
        call: CallSid,
    },
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { user, contacts } => write!(f, "{user} has {contacts} contacts"),
            Self::Unregistered { user } => write!(f, "{user} has no contacts any more"),
            Self::AuthenticationFailed { account, user, source } => {
                write!(f, "{account}: authentication of {user} from {source} failed")
            }
            Self::ShutOut { account, user, source } => {
                write!(f, "{account}: {user} is shut out of {source} after too many failures")
            }
            Self::CallOpened { call, account } => write!(f, "{call} opened for {account}"),
            Self::CallAnswered { call } => write!(f, "{call} answered"),
            Self::CallUnrestorable { call, problem } => {
                write!(f, "{call} cannot go on: {problem}")
            }
            Self::CallsRestored { calls } => write!(f, "{calls} calls go on"),
            Self::PeerUp { peer } => write!(f, "proxy {peer} is up"),
            Self::PeerLost { peer, calls } => write!(f, "proxy {peer} lost with {calls} calls"),
            Self::CallTakenOver { call, from: Some(from) } => {
                write!(f, "{call} taken over from {from}")
            }
            Self::CallTakenOver { call, from: None } => write!(f, "{call} taken back"),
            Self::CallReferred { call, to } => write!(f, "{call}: a party is referred to {to}"),
            Self::CallTaken { call } => write!(f, "{call} is another proxy's now"),
            Self::CallClosed { call, cause, sip_status } => {
                write!(f, "{call} closed: {cause}, status {sip_status}")
            }
            Self::RelayRefused { relay, call, refusal } => {
                write!(f, "{call}: relay {relay} refused: {refusal}")
            }
            Self::RelayConnected { relay } => write!(f, "relay {relay} connected"),
            Self::RelayLost { relay, calls } => write!(f, "relay {relay} lost with {calls} calls"),
            Self::RelayDraining { relay } => write!(f, "relay {relay} is left by its calls"),
            Self::RelayResumed { relay } => write!(f, "relay {relay} takes sessions again"),
            Self::CallMoved { call, from, to } => {
                write!(f, "{call} moved from relay {from} to {to}")
            }
            Self::CallAdrift { call } => write!(f, "{call}: no relay took it in time"),
            Self::HomeUnreachable { account, home } => {
                write!(f, "{account}: no proxy of its home {home} answers")
            }
            Self::CallLeaves { call, to } => write!(f, "{call} leaves for region {to}"),
            Self::CallKeptIn { call, refused } => write!(f, "{call} stays here: {refused}"),
            Self::MessageKeptIn { account, refused } => {
                write!(f, "{account}: a message stays here: {refused}")
            }
            Self::PeerRefused { peer, problem } => write!(f, "refused from {peer}: {problem}"),
            Self::BindingsNotStored { changes } => {
                write!(f, "{changes} binding changes are in memory only: the store failed")
            }
            Self::RecordsNotJournaled { call } => {
                write!(f, "{call} refused: its record could not be journaled")
            }
        }
    }
}
