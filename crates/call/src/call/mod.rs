//! One attempt at a call: a caller's leg, and a leg for each place it rings.
//!
//! Landline is a back-to-back user agent (RFC 7092 §3.1): each leg is a dialog
//! of its own, with Call-ID, tags, CSeq and Contact of our making, and nothing
//! of one side's signalling reaches the other but what [`message`] lets through.

mod answer;
mod bereft;
mod branch;
mod departing;
mod digits;
mod divert;
mod early;
mod figures;
mod fork;
mod guests;
mod keys;
mod leg;
mod listening;
mod mailbox;
mod message;
mod modify;
mod modify_done;
mod moves;
mod moves_sides;
mod music;
mod open;
mod outcome;
mod park;
mod pass;
mod pickup;
mod prack;
mod record;
mod refresh;
mod reliable;
mod replace;
mod restored;
mod seen;
mod session_timer;
mod snapshot;
mod start;
mod teardown;
mod transfer;
mod wake;
mod written;

use std::collections::VecDeque;
use std::sync::Arc;

use landline_control::{Consent, LegId, RelayId, SessionId};
use landline_region::{CallSid, JoinToken, Now, Personal, RecordingSid, UnixMillis};
use landline_sip::{ByteStr, Response, ServerKey};

use crate::calls::CallKey;
use crate::context::Context;
use crate::diversion::Diversion;
use crate::io::LiveCall;
use crate::push::Sleeper;
use crate::record::{CallDirection, Cause};
use crate::route::{Refusal, Side, Target};
use crate::tenancy::{Account, User};

use departing::Departing;
use figures::Departed;
use guests::Handover;
use keys::Keyring;
pub(crate) use leg::{Leg, tag_number, tag_text};
use mailbox::Mailbox;
pub(crate) use mailbox::MailboxStep;
pub(crate) use message::{
    ContactFor, SDP, accept_header, allow_header, contact, own_uri, push_warning, reason,
};
use modify::Modification;
use moves::Move;
pub(crate) use open::Attempt;
use park::Parked;
use pass::Pass;
pub(crate) use pickup::{PickUp, Standing};
pub(crate) use replace::Replacing;
use restored::Restored;
pub(crate) use session_timer::SessionPolicy;
pub(crate) use snapshot::DialogName;
use start::Started;
pub(crate) use teardown::Ending;
pub(crate) use transfer::{Letter, Referral, ReferredTo, Returned, Word};

/// The caller's leg is always the first.
pub(crate) const A: usize = 0;

pub(crate) struct Call {
    pub key: CallKey,
    pub sid: CallSid,
    pub account: Arc<Account>,
    pub caller: Side,
    pub direction: CallDirection,
    pub phase: Phase,
    /// Both clocks as they stood when this began: a step of the wall clock makes
    /// no call longer or shorter.
    clock: Now,
    pub opened_at: UnixMillis,
    /// In the record; the caller is told once that is on disk.
    pub answered_at: Option<UnixMillis>,
    pub legs: Vec<Leg>,
    pub session: Option<Session>,
    /// Of the record's next step.
    sequence: u32,
    /// The other half of the call is another account's.
    join: Option<JoinToken>,
    identity: Identity,
    /// No phone began it: we did.
    started: Option<Started>,
    /// Groups of targets that have not been tried.
    groups: VecDeque<Vec<Target>>,
    /// Devices that ring once they are awake.
    sleepers: Vec<Sleeper>,
    /// Whose were waited for in vain, and who had sent the call there.
    slept: Option<(Arc<User>, Vec<Diversion>)>,
    /// Counts the groups tried; names the one a no-answer timer is for.
    group: u16,
    next_relay_leg: u16,
    /// Relays that refused the session.
    tried_relays: Vec<RelayId>,
    winner: Option<usize>,
    /// The branch whose early media the caller hears.
    early: Option<usize>,
    best: Option<Failure>,
    rang: bool,
    /// The 200 to the BYE that ended the call, sent once its end is on disk.
    farewell: Option<(ServerKey, Response)>,
    /// The relay has been told to join caller and winner.
    is_joined: bool,
    recording: Option<(RecordingSid, Consent)>,
    modification: Option<Modification>,
    /// The relay's leg of who hears music on hold.
    music: Option<LegId>,
    /// To another relay.
    moving: Option<Move>,
    /// Of its legs on its relay.
    keys: Keyring,
    /// One of its parties is going to be another call's.
    departing: Option<Box<Departing>>,
    /// Its parties are other calls' as yet.
    handover: Option<Box<Handover>>,
    /// Its guest waits for whoever takes it.
    parked: Option<Parked>,
    /// Whose mailbox it leads to where nobody is rung, and what the caller hears
    /// where that does not take it.
    mailed_to: Option<(Arc<User>, Failure)>,
    /// A mailbox has it.
    mailbox: Option<Box<Mailbox>>,
    /// Sessions on relays that the call has left, until their figures are known.
    departed: Vec<Departed>,
    /// Of the recording, after the first: one for each relay that goes on with it.
    segments: u16,
    /// All is over but for the figures of a session that was left.
    closing: bool,
    passes: Vec<Pass>,
    /// INFO requests of ours that say keys.
    keys_under_way: u8,
    ending: Option<Ending>,
    /// The relay's count of the recording, once it has closed the session.
    recorded: Option<landline_control::Recorded>,
    /// A former process had it, or another one.
    restored: Option<Box<Restored>>,
    /// The call was over then, before anybody here could say so.
    lost_at: Option<UnixMillis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The journal is to confirm that the call was opened.
    Journaling,
    /// The relay is to make the first legs.
    Opening,
    Ringing,
    /// A branch answered; the relay is to join it to the caller.
    Answering,
    Up,
    /// The relay is to close the session.
    Ending,
    /// The record is closed; transactions are still under way.
    Closed,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journaling | Self::Opening => "opening",
            Self::Ringing => "ringing",
            Self::Answering => "answering",
            Self::Up => "up",
            Self::Ending | Self::Closed => "ending",
        }
    }
}

/// The call's media on its relay.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub relay: RelayId,
    pub id: SessionId,
    /// Of the relay's process that has it.
    pub incarnation: u64,
    /// That process is gone, or out of reach.
    pub lost: bool,
}

/// How the caller is shown to the other side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub display: Option<Personal<ByteStr>>,
    /// Name of the user, or the number the trunk gave.
    pub user: Personal<String>,
    /// E.164, where the caller has one.
    pub number: Option<Personal<String>>,
    /// Name or number of the callee.
    pub callee: Personal<String>,
    /// The caller's domain, where it is another account's.
    pub domain: Option<String>,
    /// The caller asked for privacy (RFC 3323 §4.2).
    pub is_private: bool,
}

/// The best of the final responses so far (RFC 3261 §16.7 step 6).
#[derive(Debug, Clone)]
struct Failure {
    status: u16,
    cause: Cause,
    /// Reason headers of the branch, Q.850 and SIP ones.
    reasons: Vec<ByteStr>,
    warning: Option<(u16, &'static str)>,
}

impl Failure {
    fn of(refusal: Refusal) -> Self {
        let Refusal { status, cause, warning } = refusal;
        Self { status, cause, reasons: Vec::new(), warning }
    }
}

impl Call {
    pub(crate) fn live(&self) -> LiveCall {
        LiveCall {
            sid: self.sid,
            account: self.account.sid,
            direction: self.direction,
            state: self.phase.name(),
            opened_at: self.opened_at,
            answered_at: self.answered_at,
            relay: self.session.as_ref().map(|session| session.relay.clone()),
            recorded: self.recording.is_some(),
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Closed, and nothing is owed to anybody any more.
    pub(crate) fn is_done(&self) -> bool {
        self.is_closed() && self.farewell.is_none() && self.legs.iter().all(Leg::is_done)
    }

    /// The leg that talks with this one.
    fn other(&self, leg: usize) -> Option<usize> {
        let winner = self.winner?;
        match leg {
            A => Some(winner),
            leg if leg == winner => Some(A),
            _ => None,
        }
    }

    /// The time that is written down: true to the moment it began.
    fn now(&self, cx: &Context) -> UnixMillis {
        self.clock.unix.plus(cx.now.instant.saturating_duration_since(self.clock.instant))
    }

    fn relay_leg(&mut self) -> LegId {
        let leg = LegId(self.next_relay_leg);
        self.next_relay_leg = self.next_relay_leg.saturating_add(1);
        leg
    }
}
