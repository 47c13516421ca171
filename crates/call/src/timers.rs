//! What the core has to do later. Timers are not taken back: whoever set one
//! looks, when it fires, whether it still means anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use landline_control::{RequestId, SessionId};
use landline_region::{CallSid, UserSid};

use crate::call::MailboxStep;
use crate::calls::CallKey;
use crate::edge::ForwardKey;
use crate::io::{BindingsToken, JournalToken};
use crate::pager::PageKey;
use crate::standby::PeerId;
use crate::subscriptions::SubscriptionKey;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Contacts of this user may have expired.
    Bindings(UserSid),
    BindingsStored(BindingsToken),
    Journal(JournalToken),
    Relay(RequestId),
    /// A peer that was lost did not come back; its loss by number.
    Lease(PeerId, u64),
    /// A call that another took, and nobody told of since.
    LetGo(CallSid),
    Call(CallKey, CallTimer),
    Forward(ForwardKey),
    /// The phones have had long enough to take a message.
    Page(PageKey),
    /// A subscription ends, or a word for its watcher that waited is due.
    Subscription(SubscriptionKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallTimer {
    /// Nobody answered; the group of contacts that rang when it was set.
    NoAnswer(u16),
    MaxDuration,
    /// A re-INVITE of our own is due again after a 491 (RFC 3261 §14.1).
    Retry,
    /// A leg that is to be another call's is asked for again, or a transferred call
    /// has waited long enough for its end.
    Depart,
    /// A guest that was asked at the wrong moment is asked again.
    Gather,
    /// The BYE that ended the call is answered, whatever is still under way.
    Farewell,
    /// The relay of a restored call did not come, or did not answer.
    Adopt,
    /// A closed call is forgotten, whatever is still under way.
    Forget,
    /// The call has waited long enough for a relay, since it lost this session.
    Adrift(SessionId),
    /// A move that could not begin is to be tried again.
    MoveAgain,
    /// A side that was asked at the wrong moment is asked again.
    MoveAsk,
    /// A move under way for long makes room for the next.
    MoveRoom(SessionId),
    /// A side has had long enough to agree to a move.
    MoveOverdue(SessionId),
    /// This leg's session is to be refreshed, or was not (RFC 4028 §10).
    Session(usize),
    /// The greeting, or the message, has lasted for long enough.
    Mailbox(MailboxStep),
    /// A response to the caller with this number may want to be sent again.
    Provisional(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}
