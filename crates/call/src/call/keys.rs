//! The SRTP keys of a call's legs, as its relay tells them: another relay goes on
//! with them, for some phones take no new ones within a call (ADR 018).
//!
//! They are in this process's memory and nowhere else: no snapshot has them, no
//! ledger and no other proxy. Who adopts the session is told by the relay.

use landline_control::{LegId, LegKeys, Open, Request as RelayRequest, Resume, SessionId};

use super::Call;

/// Legs whose keys are kept: more than the branches of a fork, and the legs that
/// changes of its media have made since.
const MOST: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Keyring(Vec<(LegId, LegKeys)>);

impl Keyring {
    /// What the relay told last counts.
    pub(super) fn set(&mut self, leg: LegId, keys: LegKeys) {
        self.0.retain(|(id, _)| *id != leg);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push((leg, keys));
    }

    pub(super) fn of(&self, leg: LegId) -> Option<&LegKeys> {
        self.0.iter().find(|(id, _)| *id == leg).map(|(_, keys)| keys)
    }

    /// What was sent under the same keys in another session was sent.
    pub(super) fn add_sent(&mut self, elsewhere: &Self) {
        for (leg, keys) in &mut self.0 {
            if let Some(other) = elsewhere.of(*leg).filter(|other| other.are_of(keys)) {
                keys.add_sent(&other.sent);
            }
        }
    }

    /// The call is in another session from now on.
    pub(super) fn go_on_with(&mut self, mut later: Self) {
        later.add_sent(self);
        for (leg, keys) in later.0 {
            self.set(leg, keys);
        }
    }
}

impl Call {
    /// A relay has told the keys of a leg, of the session or of the one that the
    /// call moves to.
    pub(super) fn keyed(&mut self, session: SessionId, leg: LegId, keys: LegKeys) {
        if self.session.as_ref().is_some_and(|it| it.id == session) {
            return self.keys.set(leg, keys);
        }
        let to =
            self.moving.as_mut().filter(|it| it.to.as_ref().is_some_and(|to| to.id == session));
        if let Some(moving) = to {
            moving.keys.set(leg, keys);
        }
    }

    /// Opens the session on another relay with the keys that there are.
    pub(super) fn open_resumed(&self, open: Open) -> RelayRequest {
        let keys =
            open.legs.iter().filter_map(|(leg, _)| Some((*leg, self.keys.of(*leg)?.clone())));
        RelayRequest::Resume(Resume { keys: keys.collect(), step: self.sequence, open })
    }
}
