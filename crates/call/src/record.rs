//! What is written down of a call: the events the core journals, from which
//! the store makes `call`, `call_leg` and `recording` rows.
//!
//! Every attempt at a call is opened before it rings and closed once.

use landline_control::{Consent, LegStats, Recorded, RelayId};
use landline_region::{
    AccountSid, CallSid, JoinToken, LegSid, Personal, RecordingSid, RegionCode, TrunkSid,
    UnixMillis, UserSid, VoicemailSid,
};

use crate::tenancy::{UnknownName, named};

/// One step in a call's record. `(call, sequence)` is its idempotent key;
/// sequences count from 0, with a gap only before [`Step::TakenOver`].
#[derive(Debug, Clone, PartialEq)]
pub struct CallEvent {
    pub call: CallSid,
    pub account: AccountSid,
    pub sequence: u32,
    pub at: UnixMillis,
    pub step: Step,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Always sequence 0.
    Opened(Opened),
    /// A leg was set up towards a contact or trunk, or from the caller.
    LegOpened(LegOpened),
    /// The call's first 18x reached us.
    Ringing,
    Answered {
        leg: LegSid,
    },
    LegClosed(LegClosed),
    /// Always the last step.
    Closed(Closed),
    /// The other half of the call is another account's: its record, in that
    /// account's home region, has the same token.
    Joined(JoinToken),
    /// The leg's signalling goes by another region's proxies, where the phone
    /// came in. Once for each of them, as the phone moves.
    LegByEdge {
        leg: LegSid,
        edge: RegionCode,
    },
    /// The media went over to another relay of the region.
    Moved {
        from: RelayId,
        to: RelayId,
    },
    /// From here on this proxy of the region has the call. Its number is the
    /// relay's, or the milliseconds that the call has lasted where no relay has it
    /// any more: what a former owner may still write comes before.
    TakenOver {
        proxy: String,
    },
    /// The leg is rung in this user's stead, who pays for it; or its party took
    /// this user's place.
    LegDiverted {
        leg: LegSid,
        by: UserSid,
        reason: DivertReason,
    },
    /// The caller speaks to this user's mailbox, and is recorded, from now until the
    /// call ends.
    MessageBegun {
        message: VoicemailSid,
        user: UserSid,
        recording: RecordingSid,
    },
    /// It was none: what was recorded of it is to go.
    MessageDropped {
        message: VoicemailSid,
    },
    /// The caller has listened to this message of the own mailbox, or removed it.
    MessageHeard {
        message: VoicemailSid,
    },
    MessageRemoved {
        message: VoicemailSid,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    pub direction: CallDirection,
    /// User part or E.164 number of the caller, as authenticated or accepted;
    /// of another account's user the address, without `sip:`.
    pub from: Personal<String>,
    /// What was dialled.
    pub to: Personal<String>,
    pub home_region: RegionCode,
    pub signalling_region: RegionCode,
    pub contracting_entity: String,
    /// The proxy's configured name.
    pub proxy: String,
    pub recording: Option<(RecordingSid, Consent)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallDirection {
    /// User to user of one account.
    Internal,
    /// In from a trunk, or from another account.
    Inbound,
    /// Out by a trunk, or to another account.
    Outbound,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LegOpened {
    pub leg: LegSid,
    /// A for the caller's leg, B for the others.
    pub role: LegRole,
    pub party: Party,
    pub sip_call_id: Personal<String>,
    /// `rtp`, `sdes` or `dtls`, once known.
    pub media: Option<landline_control::Protocol>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegRole {
    A,
    B,
}

/// Why a call goes on to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DivertReason {
    Always,
    DoNotDisturb,
    /// Busy, or declined.
    Busy,
    NoAnswer,
    Unreachable,
    /// One of the user's phones said so, by a 3xx.
    Redirected,
    /// A colleague took the call while the user's phones rang.
    PickedUp,
    /// A colleague took the user's place in the call (RFC 3891).
    Replaced,
    /// The user's mailbox has the caller.
    Voicemail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    User(UserSid),
    Trunk(TrunkSid),
    /// Somebody of another account, by that account's home region. Who it is
    /// stands in that region's record.
    Region(RegionCode),
    /// Refused before it was known who called.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LegClosed {
    pub leg: LegSid,
    /// The final SIP status of the leg's INVITE, or 0 when it got none.
    pub sip_status: u16,
    pub stats: Option<LegStats>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    pub cause: Cause,
    /// The final status the caller's INVITE got; 487 when cancelled.
    pub sip_status: u16,
    pub relay: Option<RelayId>,
    pub media_region: Option<RegionCode>,
    pub recorded: Option<Recorded>,
}

impl Closed {
    /// The end of a call whose process died: nobody knows more of it than
    /// whether it was answered.
    pub const fn lost(was_answered: bool) -> Self {
        Self {
            cause: Cause::Lost,
            sip_status: if was_answered { 200 } else { 0 },
            relay: None,
            media_region: None,
            recorded: None,
        }
    }
}

/// Why a call ended, and so who hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    CallerHungUp,
    CalleeHungUp,
    /// CANCEL before the answer.
    CallerCancelled,
    Busy,
    NoAnswer,
    /// No contact registered, or none could be reached.
    Unreachable,
    /// Neither user nor number nor trunk of that name.
    NotFound,
    /// 603 or another refusal by the callee.
    Declined,
    /// The offers could not be brought together, or encryption was missing.
    NotAcceptable,
    /// The caller may not call there.
    Forbidden,
    /// Neither side sent media for the media timeout, or DTLS failed.
    MediaLost,
    /// A refreshing or in-dialog request was not answered.
    SignallingLost,
    /// Ended by an administrator.
    HungUpByAdmin,
    /// The process that carried the call died; the end is the last proven time.
    Lost,
    /// No relay, overload, or a fault of ours; the status says which.
    Failed,
    /// One party referred the other elsewhere, and a call of their own goes on.
    Transferred,
    /// The mailbox that had the caller was through with it.
    Voicemail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HungUpBy {
    Caller,
    Callee,
    Us,
}

named!(CallDirection { Internal = "internal", Inbound = "inbound", Outbound = "outbound" });
named!(LegRole { A = "a", B = "b" });
// As a Diversion names them (RFC 5806 §4).
named!(DivertReason {
    Always = "unconditional",
    DoNotDisturb = "do-not-disturb",
    Busy = "user-busy",
    NoAnswer = "no-answer",
    Unreachable = "unavailable",
    Redirected = "deflection",
    PickedUp = "pickup",
    Replaced = "replaced",
    Voicemail = "voicemail",
});
named!(Cause {
    CallerHungUp = "caller_hung_up",
    CalleeHungUp = "callee_hung_up",
    CallerCancelled = "caller_cancelled",
    Busy = "busy",
    NoAnswer = "no_answer",
    Unreachable = "unreachable",
    NotFound = "not_found",
    Declined = "declined",
    NotAcceptable = "not_acceptable",
    Forbidden = "forbidden",
    MediaLost = "media_lost",
    SignallingLost = "signalling_lost",
    HungUpByAdmin = "hung_up_by_admin",
    Lost = "lost",
    Failed = "failed",
    Transferred = "transferred",
    Voicemail = "voicemail",
});
named!(HungUpBy { Caller = "caller", Callee = "callee", Us = "us" });

impl Cause {
    pub const fn hung_up_by(self) -> HungUpBy {
        match self {
            Self::CallerHungUp | Self::CallerCancelled => HungUpBy::Caller,
            Self::CalleeHungUp | Self::Busy | Self::Declined => HungUpBy::Callee,
            Self::NoAnswer
            | Self::Unreachable
            | Self::NotFound
            | Self::NotAcceptable
            | Self::Forbidden
            | Self::MediaLost
            | Self::SignallingLost
            | Self::HungUpByAdmin
            | Self::Lost
            | Self::Failed
            | Self::Transferred
            | Self::Voicemail => HungUpBy::Us,
        }
    }
}
