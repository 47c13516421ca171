//! What colleagues who watch a user are shown of a call: that it is there, how
//! far it is, and by which names its phone knows the dialog. Not with whom.

use landline_region::UserSid;

use super::leg::{Invite, LegState, tag_text};
use super::{Call, Leg, Phase};
use crate::record::LegRole;
use crate::route::Side;
use crate::subscriptions::{DialogSeen, Progress};

impl Call {
    /// One dialog for each watched user: of several phones that ring, or ring no
    /// more, the one that is furthest.
    pub(crate) fn seen(&self, is_watched: impl Fn(UserSid) -> bool) -> Vec<(UserSid, DialogSeen)> {
        let mut seen: Vec<(UserSid, DialogSeen)> = Vec::new();
        if self.is_ending() || self.is_closed() {
            return seen;
        }
        for leg in self.legs.iter().filter(|leg| leg.state != LegState::Ended) {
            let Side::User(user) = &leg.side else { continue };
            if !is_watched(user.sid) {
                continue;
            }
            let Some(dialog) = self.seen_of(leg) else { continue };
            match seen.iter_mut().find(|(known, _)| *known == user.sid) {
                Some((_, known)) if known.progress < dialog.progress => *known = dialog,
                Some(_) => {}
                None => seen.push((user.sid, dialog)),
            }
        }
        seen
    }

    fn seen_of(&self, leg: &Leg) -> Option<DialogSeen> {
        let is_answered = leg.state == LegState::Confirmed;
        let progress = match &leg.invite {
            Invite::Received(_) if self.phase == Phase::Up => Progress::Confirmed,
            Invite::Received(_) if self.rang => Progress::Early,
            Invite::Received(_) => Progress::Trying,
            _ if is_answered => Progress::Confirmed,
            Invite::Sent(_) if leg.rings.is_some() => Progress::Early,
            Invite::Sent(branch) if branch.request.is_some() => Progress::Trying,
            // Its party is elsewhere as yet.
            Invite::Sent(_) | Invite::Former(_) => return None,
        };
        let is_initiator = match &leg.invite {
            Invite::Received(_) => true,
            Invite::Sent(_) => false,
            Invite::Former(role) => *role == LegRole::A,
        };
        let (call_id, phones_tag) = match (&leg.dialog, leg.branch_ref()) {
            (Some(dialog), _) => {
                let tag = dialog.remote().tag().map(str::to_owned);
                (dialog.call_id().to_str_lossy().into_owned(), tag)
            }
            (None, Some(branch)) => (branch.call_id.clone(), leg.rings.clone()),
            (None, None) => return None,
        };
        let our_tag = tag_text(leg.tag);
        Some(DialogSeen { call: self.key, call_id, phones_tag, our_tag, is_initiator, progress })
    }
}
