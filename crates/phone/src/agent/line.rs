//! One call as the agent sees it.

use landline_control::Direction;
use landline_sip::{ClientKey, Dialog, Request, ServerKey};
use tokio::sync::{oneshot, watch};

use crate::call::{CallState, Ended};
use crate::description::{self, Answered, Own, Theirs};
use crate::session::{self, Session};
use crate::{Codec, MediaMode, PhoneError};

pub(super) struct Line {
    pub leg: Side,
    pub session: Session,
    pub dialog: Option<Dialog>,
    pub state: watch::Sender<CallState>,
    /// What our answers say, once the other side described itself.
    pub answered: Option<Answered>,
    /// Version of our last description.
    pub version: u64,
    /// We hold the other side.
    pub holding: bool,
    /// The direction the other side last allowed us, seen from us.
    pub direction: Direction,
    pub mode: MediaMode,
    pub codec: Codec,
    /// We hung up, cancelled or declined.
    pub ended_by_us: bool,
}

pub(super) enum Side {
    /// We called; the INVITE's transaction while it has no final response.
    Caller { invite: ClientKey },
    /// We were called; the INVITE until it is answered. `offered`: it held a
    /// description; otherwise ours is the offer and the ACK holds the answer.
    Callee { invite: Option<(ServerKey, Box<Request>)>, offered: bool },
}

impl Line {
    pub fn is_answered(&self) -> bool {
        *self.state.borrow() == CallState::Answered
    }

    pub fn end(&self, status: u16, words: Vec<String>) {
        let ended = Ended { status, by_us: self.ended_by_us, words };
        self.state.send_replace(CallState::Ended(ended));
    }

    /// Our next offer.
    pub fn offer(&mut self) -> String {
        self.describe(None)
    }

    /// Our answer to what was last taken by [`Line::take`].
    pub fn answer(&mut self) -> String {
        let answered = self.answered.clone();
        self.describe(answered)
    }

    fn describe(&mut self, answer: Option<Answered>) -> String {
        self.version += 1;
        let direction = match (self.holding, self.direction) {
            (false, direction) => direction,
            (true, Direction::SendReceive | Direction::SendOnly) => Direction::SendOnly,
            (true, _) => Direction::Inactive,
        };
        description::write(&Own {
            local: &self.session.local,
            mode: self.mode,
            codec: self.codec,
            candidates: &self.session.candidates,
            direction,
            version: self.version,
            answer,
        })
    }

    /// Takes the other side's description: an offer, or the answer to ours.
    pub async fn take(&mut self, body: &[u8], is_answer: bool) -> Result<(), PhoneError> {
        let Theirs { remote, answered } = description::read(body, &self.session.local, is_answer)?;
        self.direction = remote.direction;
        // Roles of a running DTLS association stay as they were (RFC 8842 §5.5).
        if self.answered.is_none() || !is_answer {
            self.answered = Some(answered);
        }
        let (done, taken) = oneshot::channel();
        let command = session::Command::Remote(Box::new(remote), done);
        self.session.commands.send(command).await.map_err(|_| PhoneError::Ended)?;
        taken.await.map_err(|_| PhoneError::Ended)?
    }
}
