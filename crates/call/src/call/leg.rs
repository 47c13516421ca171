//! One side of a call: a dialog with a phone or a trunk, and its media.

use landline_control::{LegId, LegStats};
use landline_region::{LegSid, RegionCode};
use landline_sip::digest::Challenge;
use landline_sip::{
    ClientKey, Destination, Dialog, Flow, HeaderName, Headers, Method, Request, ServerKey,
};

use super::prack::EarlyDialogs;
use super::reliable::Reliable;
use super::session_timer::SessionTimer;
use crate::context::Context;
use crate::negotiate::{Description, LegMedia, Profiles};
use crate::record::{LegRole, Party};
use crate::route::{Reach, Side, Target};

pub(crate) struct Leg {
    pub sid: LegSid,
    pub side: Side,
    pub state: LegState,
    pub reach: Reach,
    /// The number in our tag, by which in-dialog requests find the leg.
    pub tag: u64,
    /// Of an early dialog with the caller that another branch's answer ended.
    pub former_tag: Option<u64>,
    pub dialog: Option<Dialog>,
    /// The tag of a phone of this leg that rings.
    pub rings: Option<String>,
    pub invite: Invite,
    /// `None` for a caller who was refused before media mattered.
    pub media: Option<LegMedia>,
    pub relay_leg: LegId,
    /// The relay has made that leg and was not told to remove it.
    pub is_allocated: bool,
    /// The leg's final status, for the record; 0 while there is none.
    pub status: u16,
    pub stats: Option<LegStats>,
    /// What its relay told last.
    pub counted: Option<LegStats>,
    /// What it did on relays that the call has left.
    pub before: Option<LegStats>,
    /// The record has the leg opened.
    pub is_recorded: bool,
    /// Other regions whose edges the record names: as many as there are regions,
    /// at the most.
    pub edges: Vec<RegionCode>,
    /// The peer takes UPDATE (RFC 3311 §5.1).
    pub takes_update: bool,
    /// And INFO (RFC 6086).
    pub takes_info: bool,
    /// It has said a key by INFO: it hears them so, too.
    pub says_keys_by_info: bool,
    pub timer: SessionTimer,
    /// An UPDATE of ours that refreshes the session is under way.
    pub refreshing: Option<ClientKey>,
    /// A 2xx of ours to an INVITE of this peer awaits its ACK.
    pub unacked: Option<ServerKey>,
    /// An offer of ours in this dialog awaits its final response.
    pub offering: Option<ClientKey>,
    /// BYE has to wait for that ACK (RFC 3261 §15).
    pub owes_bye: bool,
    /// The BYE was sent a second way already.
    pub rerouted: bool,
    pub challenged: Option<Challenged>,
    /// It stands for the caller although we rang it.
    pub is_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegState {
    /// Nothing final was said.
    Early,
    /// 2xx.
    Confirmed,
    Ended,
}

/// The INVITE that made the leg.
pub(crate) enum Invite {
    Received(Box<Incoming>),
    Sent(Box<Branch>),
    /// By a former process, or in another call: all that is left of it is whose leg
    /// it is.
    Former(LegRole),
}

/// What a trunk asked us to prove.
pub(crate) struct Challenged {
    pub challenges: Vec<Challenge>,
    /// Where the proof goes: the one for a server, or the one for a proxy.
    pub header: HeaderName,
    /// How often it was proven with the same nonce.
    pub count: u32,
}

/// The caller's INVITE.
pub(crate) struct Incoming {
    pub key: ServerKey,
    pub request: Request,
    pub offer: Option<Description>,
    /// The last provisional status we sent.
    pub provisional: u16,
    pub reliable: Reliable,
    /// It takes a call that was for somebody else.
    pub picks_up: bool,
}

impl Incoming {
    /// Of an INVITE that a former process took: this one has no transaction of
    /// it, unless the caller sends it again.
    pub(crate) const FORMER: ServerKey = ServerKey(u64::MAX);
}

/// Our INVITE to one place.
pub(crate) struct Branch {
    pub target: Target,
    /// As it was sent last.
    pub request: Option<Request>,
    pub key: Option<ClientKey>,
    pub cseq: u32,
    pub call_id: String,
    pub early: EarlyDialogs,
    /// The phone has said so.
    pub has_rung: bool,
    /// Ways to offer media that are left.
    pub profiles: Profiles,
    pub retries: u8,
    /// No final response to the last INVITE yet.
    pub is_pending: bool,
    /// We no longer want it answered.
    pub is_cancelled: bool,
}

impl Leg {
    pub(crate) fn new(
        sid: LegSid,
        side: Side,
        reach: Reach,
        tag: u64,
        relay_leg: LegId,
        invite: Invite,
    ) -> Self {
        Self {
            sid,
            side,
            state: LegState::Early,
            reach,
            tag,
            former_tag: None,
            dialog: None,
            rings: None,
            invite,
            media: None,
            relay_leg,
            is_allocated: false,
            status: 0,
            stats: None,
            counted: None,
            before: None,
            is_recorded: false,
            edges: Vec::new(),
            takes_update: false,
            takes_info: false,
            says_keys_by_info: false,
            timer: SessionTimer::default(),
            refreshing: None,
            unacked: None,
            offering: None,
            owes_bye: false,
            rerouted: false,
            challenged: None,
            is_first: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        let pending = match &self.invite {
            Invite::Sent(branch) => branch.is_pending,
            Invite::Received(_) | Invite::Former(_) => false,
        };
        !pending && !self.owes_bye
    }

    pub(crate) fn role(&self) -> LegRole {
        match &self.invite {
            Invite::Received(incoming) if incoming.picks_up => LegRole::B,
            Invite::Received(_) => LegRole::A,
            Invite::Sent(_) if self.is_first => LegRole::A,
            Invite::Sent(_) => LegRole::B,
            Invite::Former(role) => *role,
        }
    }

    pub(crate) fn party(&self) -> Party {
        self.side.party()
    }

    pub(crate) fn branch(&mut self) -> Option<&mut Branch> {
        match &mut self.invite {
            Invite::Sent(branch) => Some(branch),
            Invite::Received(_) | Invite::Former(_) => None,
        }
    }

    pub(crate) fn branch_ref(&self) -> Option<&Branch> {
        match &self.invite {
            Invite::Sent(branch) => Some(branch),
            Invite::Received(_) | Invite::Former(_) => None,
        }
    }

    pub(crate) fn incoming(&self) -> Option<&Incoming> {
        match &self.invite {
            Invite::Received(incoming) => Some(incoming),
            Invite::Sent(_) | Invite::Former(_) => None,
        }
    }

    pub(crate) fn incoming_mut(&mut self) -> Option<&mut Incoming> {
        match &mut self.invite {
            Invite::Received(incoming) => Some(incoming),
            Invite::Sent(_) | Invite::Former(_) => None,
        }
    }

    /// Where requests inside the dialog go. Over a flow whatever the route set
    /// says: it is the only way through the peer's NAT (RFC 5626 §5.3).
    pub(crate) fn destination(&self, cx: &Context) -> Option<Destination> {
        self.destination_in(cx, self.dialog.as_ref())
    }

    /// In another dialog of this leg's, while it is early.
    pub(super) fn destination_in(
        &self,
        cx: &Context,
        dialog: Option<&Dialog>,
    ) -> Option<Destination> {
        self.reach.destination(cx, dialog, Some(&self.side))
    }

    /// The dialog that a request from this leg is within: a PRACK may be for an
    /// early one that another has taken the place of.
    pub(crate) fn dialog_for(&mut self, request: &Request) -> Option<&mut Dialog> {
        let tag = || tag_number(request.to().ok()?.tag()?);
        match &mut self.invite {
            Invite::Received(incoming)
                if request.method == Method::Prack
                    && self.former_tag.is_some()
                    && tag() == self.former_tag =>
            {
                incoming.reliable.former_dialog()
            }
            _ => self.dialog.as_mut(),
        }
    }

    /// Whether a request came the way this leg's requests come. A trunk may
    /// send from any of its machines, and knows the dialog's tags.
    pub(crate) fn came_by(&self, flow: &Flow) -> bool {
        if self.side.is_trunk() {
            return flow.peer.is_none();
        }
        self.reach.is_way_of(flow)
    }

    /// The peer proved itself on a new flow: that is the way to it now.
    pub(crate) fn moved_to(&mut self, flow: &Flow) {
        self.reach = Reach::back(flow, self.side.is_trunk());
    }

    pub(crate) fn learn_methods(&mut self, headers: &Headers) {
        let allows = |name: &str| headers.values(&HeaderName::Allow).any(|method| method == name);
        (self.takes_update, self.takes_info) = (allows("UPDATE"), allows("INFO"));
    }
}

/// A tag of ours, as text: 16 hexadecimal digits.
pub(crate) fn tag_text(tag: u64) -> String {
    format!("{tag:016x}")
}

/// The number in a tag of ours.
pub(crate) fn tag_number(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}
