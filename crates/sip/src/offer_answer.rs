//! Whose turn it is to offer: RFC 3264 over INVITE (RFC 3261 §13, §14) and
//! UPDATE (RFC 3311), as RFC 6337 put them together.
//!
//! It knows of messages only whether they carry a session description. Without
//! reliable provisional responses a description in an 18x is a preview: what
//! counts is the 2xx, so the exchange stays open until then.

use std::time::Duration;

use crate::StatusCode;

/// Which transaction carries an offer or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Invite,
    Update,
}

/// What a message's session description is to the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRole {
    Offer,
    Answer,
    /// In an unreliable 18x: the offer or answer the 2xx is going to bring.
    /// Fit for early media, not yet binding.
    EarlyOffer,
    EarlyAnswer,
    /// No description, and none needed: where an early answer was seen, it
    /// holds.
    Nothing,
    /// No description where the exchange needs one: the call cannot go on.
    Missing,
}

/// Why an offer or a request cannot go ahead now, and how to answer one that
/// came all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Collision {
    /// Both sides at once: 491 (RFC 3261 §14.2, RFC 3311 §5.2).
    #[error("a request of our own is pending")]
    Glare,
    /// The peer is ahead of itself: 500 with a Retry-After of 0 to 10 seconds.
    #[error("an earlier request of the peer is not answered yet")]
    Overtaken,
}

impl Collision {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Glare => StatusCode::REQUEST_PENDING,
            Self::Overtaken => StatusCode::SERVER_INTERNAL_ERROR,
        }
    }

    /// Seconds for Retry-After, from any random number.
    pub fn retry_after(self, random: u64) -> Option<u32> {
        (self == Self::Overtaken).then_some((random % 11) as u32)
    }
}

/// How long to wait after a 491 before offering again, RFC 3261 §14.1: 2.1 to
/// 4 s for the side that chose the Call-ID, 0 to 2 s for the other, in steps of
/// 10 ms.
pub fn glare_wait(owns_call_id: bool, random: u64) -> Duration {
    let (from, steps) = if owns_call_id { (2100, 191) } else { (0, 201) };
    Duration::from_millis(from + 10 * (random % steps))
}

/// The state of one dialog. Clone it for each fork of an INVITE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfferAnswer {
    offer: Offer,
    invite_sent: bool,
    invite_received: Received,
    update_sent: bool,
    update_received: bool,
    early_answer: bool,
}

/// The offer nobody has answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    None,
    Sent(Carrier),
    Received(Carrier),
}

/// An INVITE of the peer is in progress until its ACK, RFC 3261 §14.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Received {
    #[default]
    None,
    Open,
    Answered,
}

impl OfferAnswer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an INVITE, or an UPDATE with an offer, may be sent now.
    pub fn may_offer(&self, carrier: Carrier) -> Result<(), Collision> {
        match self.offer {
            Offer::Sent(_) => return Err(Collision::Glare),
            Offer::Received(_) => return Err(Collision::Overtaken),
            Offer::None => {}
        }
        match carrier {
            Carrier::Invite if self.invite_sent => Err(Collision::Glare),
            Carrier::Invite if self.invite_received != Received::None => Err(Collision::Overtaken),
            Carrier::Update if self.update_sent => Err(Collision::Glare),
            _ => Ok(()),
        }
    }

    pub fn request_sent(&mut self, carrier: Carrier, has_session: bool) {
        match carrier {
            Carrier::Invite => self.invite_sent = true,
            Carrier::Update => self.update_sent = true,
        }
        self.early_answer = false;
        if has_session {
            self.offer = Offer::Sent(carrier);
        }
    }

    /// Takes in an INVITE or UPDATE of the peer, or says how to refuse it; a
    /// refused one leaves no trace.
    pub fn request_received(
        &mut self,
        carrier: Carrier,
        has_session: bool,
    ) -> Result<SessionRole, Collision> {
        match carrier {
            Carrier::Invite if self.invite_sent => return Err(Collision::Glare),
            Carrier::Invite if self.invite_received == Received::Open => {
                return Err(Collision::Overtaken);
            }
            Carrier::Update if self.update_received => return Err(Collision::Overtaken),
            _ => {}
        }
        // An INVITE without an offer asks for one, which is as much an exchange.
        if has_session || carrier == Carrier::Invite {
            match self.offer {
                Offer::Sent(_) => return Err(Collision::Glare),
                Offer::Received(_) => return Err(Collision::Overtaken),
                Offer::None => {}
            }
        }
        match carrier {
            Carrier::Invite => self.invite_received = Received::Open,
            Carrier::Update => self.update_received = true,
        }
        if !has_session {
            return Ok(SessionRole::Nothing);
        }
        self.offer = Offer::Received(carrier);
        Ok(SessionRole::Offer)
    }

    /// A response of ours to the peer's INVITE or UPDATE.
    pub fn response_sent(
        &mut self,
        carrier: Carrier,
        status: StatusCode,
        has_session: bool,
    ) -> SessionRole {
        let answers = self.offer == Offer::Received(carrier);
        if status.is_provisional() {
            return early(answers, has_session);
        }
        match carrier {
            Carrier::Invite if status.is_success() => self.invite_received = Received::Answered,
            Carrier::Invite => self.invite_received = Received::None,
            Carrier::Update => self.update_received = false,
        }
        if answers {
            self.offer = Offer::None;
        }
        if !status.is_success() {
            return SessionRole::Nothing;
        }
        let role = decided(carrier, answers, has_session, false);
        if role == SessionRole::Offer {
            self.offer = Offer::Sent(carrier);
        }
        role
    }

    /// The peer's response to an INVITE or UPDATE of ours. A 2xx with an offer
    /// is answered in the ACK.
    pub fn response_received(
        &mut self,
        carrier: Carrier,
        status: StatusCode,
        has_session: bool,
    ) -> SessionRole {
        let answers = self.offer == Offer::Sent(carrier);
        if status.is_provisional() {
            self.early_answer |= answers && has_session;
            return early(answers, has_session);
        }
        match carrier {
            Carrier::Invite => self.invite_sent = false,
            Carrier::Update => self.update_sent = false,
        }
        if answers {
            self.offer = Offer::None;
        }
        if !status.is_success() {
            return SessionRole::Nothing;
        }
        let role = decided(carrier, answers, has_session, self.early_answer);
        if role == SessionRole::Offer {
            self.offer = Offer::Received(carrier);
        }
        role
    }

    /// An INVITE or UPDATE of ours ended without a response.
    pub fn request_failed(&mut self, carrier: Carrier) {
        self.response_received(carrier, StatusCode::REQUEST_TIMEOUT, false);
    }

    /// The ACK to a 2xx of the peer; it carries the answer when that 2xx
    /// carried the offer.
    pub fn ack_sent(&mut self) {
        if self.offer == Offer::Received(Carrier::Invite) {
            self.offer = Offer::None;
        }
    }

    /// The peer's ACK to a 2xx of ours.
    pub fn ack_received(&mut self, has_session: bool) -> SessionRole {
        self.invite_received = Received::None;
        if self.offer != Offer::Sent(Carrier::Invite) || self.invite_sent {
            return SessionRole::Nothing;
        }
        self.offer = Offer::None;
        if has_session { SessionRole::Answer } else { SessionRole::Missing }
    }

    /// No ACK came for a 2xx of ours.
    pub fn ack_missed(&mut self) {
        self.ack_received(false);
    }
}

fn early(answers: bool, has_session: bool) -> SessionRole {
    match (has_session, answers) {
        (false, _) => SessionRole::Nothing,
        (true, true) => SessionRole::EarlyAnswer,
        (true, false) => SessionRole::EarlyOffer,
    }
}

/// What the description of a 2xx is: an INVITE always needs one, and a 2xx
/// without it leans on the 18x before it.
fn decided(carrier: Carrier, answers: bool, has_session: bool, had_early: bool) -> SessionRole {
    match (answers, has_session, carrier) {
        (true, true, _) => SessionRole::Answer,
        (true, false, _) if had_early => SessionRole::Nothing,
        (true, false, _) => SessionRole::Missing,
        (false, true, Carrier::Invite) => SessionRole::Offer,
        (false, false, Carrier::Invite) => SessionRole::Missing,
        // A description nobody asked for in an UPDATE's response means nothing.
        (false, _, Carrier::Update) => SessionRole::Nothing,
    }
}
