//! An answered call, or a parked one, in types that can be serialised. They grow at their end
//! only; what cannot be read any more raises [`VERSION`].

use std::net::SocketAddr;
use std::sync::Arc;

use landline_control::{Consent, LegId, RelayId, SessionId};
use landline_region::{
    AccountSid, CallSid, JoinToken, LegSid, Personal, RecordingSid, RegionCode, TrunkSid,
    UnixMillis, UserSid,
};
use landline_sip::{
    ByteStr, Destination, Dialog, DialogParts, DialogState, Flow, FlowId, NameAddr, Transport, Uri,
};
use serde::{Deserialize, Serialize};

use super::Identity;
use super::leg::{Leg, LegState};
use super::session_timer::{Agreed, SessionTimer};
use crate::context::Context;
use crate::negotiate::{KeptVideo, LegMedia};
use crate::route::{Reach, Side};

pub(super) const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct WrittenCall {
    pub sid: CallSid,
    pub account: AccountSid,
    pub caller: WrittenSide,
    pub direction: String,
    pub opened_at: UnixMillis,
    pub answered_at: UnixMillis,
    pub join: Option<JoinToken>,
    pub relay: RelayId,
    pub session: SessionId,
    pub next_relay_leg: u16,
    pub winner: u32,
    pub is_joined: bool,
    /// The caller has had its 200, as far as we know.
    pub is_up: bool,
    /// No phone began it: we did.
    pub is_started: bool,
    pub recording: Option<(RecordingSid, Consent)>,
    /// Parts of it that followed the first, each by another relay.
    pub segments: u16,
    /// The caller's INVITE, as long as its 200 may be on its way.
    pub invite: Option<Vec<u8>>,
    pub legs: Vec<WrittenLeg>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WrittenLeg {
    pub sid: LegSid,
    pub role: String,
    pub side: WrittenSide,
    pub reach: WrittenReach,
    pub tag: u64,
    pub former_tag: Option<u64>,
    pub dialog: Option<WrittenDialog>,
    pub media: Option<LegMedia>,
    pub relay_leg: LegId,
    pub is_allocated: bool,
    pub status: u16,
    pub is_recorded: bool,
    pub edges: Vec<RegionCode>,
    pub takes_update: bool,
}

/// The session timer of one leg; stands behind the call, of those that have one.
#[derive(Serialize, Deserialize)]
pub(super) struct WrittenTimer {
    leg: u32,
    least: u32,
    agreed: Agreed,
}

/// The video of one leg; stands behind the timers, of those that have any.
#[derive(Serialize, Deserialize)]
pub(super) struct WrittenVideo {
    leg: u32,
    video: KeptVideo,
}

/// Where a party waits that nobody has taken; stands behind the videos, of a parked
/// call alone.
#[derive(Serialize, Deserialize)]
pub(super) struct WrittenPark {
    pub slot: u16,
    pub until: UnixMillis,
    /// Who parked it, and as who the party is shown to those it is going to talk to.
    pub own: WrittenIdentity,
    pub presented: Option<WrittenIdentity>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WrittenIdentity {
    display: Option<Vec<u8>>,
    user: String,
    number: Option<String>,
    callee: String,
    domain: Option<String>,
    is_private: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WrittenSide {
    User(UserSid),
    Trunk(TrunkSid),
    Region(RegionCode),
}

#[derive(Serialize, Deserialize)]
pub(super) enum WrittenReach {
    Flow(WrittenFlow),
    Address(SocketAddr),
    Region(RegionCode, WrittenDestination),
    Uri,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WrittenFlow {
    id: u64,
    transport: String,
    local: SocketAddr,
    remote: SocketAddr,
    peer: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WrittenDestination {
    Flow(WrittenFlow),
    Address { transport: String, addr: SocketAddr, server_name: Option<String> },
    Region { region: String, host: String, port: u16 },
    Uri(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct WrittenDialog {
    call_id: Vec<u8>,
    local: Vec<u8>,
    remote: Vec<u8>,
    local_contact: Vec<u8>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route_set: Vec<Vec<u8>>,
    remote_target: String,
    is_secure: bool,
    is_confirmed: bool,
}

impl WrittenTimer {
    pub fn of(legs: &[Leg]) -> Vec<Self> {
        let timers = legs.iter().zip(0..).filter_map(|(leg, place)| {
            let agreed = leg.timer.agreed.filter(|_| leg.state != LegState::Ended)?;
            Some(Self { leg: place, least: leg.timer.least, agreed })
        });
        timers.collect()
    }

    pub fn read(self, legs: &mut [Leg]) {
        if let Some(leg) = legs.get_mut(self.leg as usize) {
            let agreed = Some(self.agreed);
            leg.timer = SessionTimer { least: self.least, agreed, ..SessionTimer::default() };
        }
    }
}

impl WrittenVideo {
    pub fn of(legs: &[Leg]) -> Vec<Self> {
        let videos = legs.iter().zip(0..).filter_map(|(leg, place)| {
            let video = leg.media.as_ref()?.kept_video()?;
            Some(Self { leg: place, video })
        });
        videos.collect()
    }

    pub fn read(self, legs: &mut [Leg]) {
        let leg = legs.get_mut(self.leg as usize);
        if let Some(media) = leg.and_then(|leg| leg.media.as_mut()) {
            media.restore_video(self.video);
        }
    }
}

impl WrittenIdentity {
    pub fn of(identity: &Identity) -> Self {
        Self {
            display: identity.display.as_ref().map(|it| it.expose().as_bytes().to_vec()),
            user: identity.user.expose().clone(),
            number: identity.number.as_ref().map(|it| it.expose().clone()),
            callee: identity.callee.expose().clone(),
            domain: identity.domain.clone(),
            is_private: identity.is_private,
        }
    }

    pub fn read(self) -> Identity {
        Identity {
            display: self.display.map(|it| Personal::new(it.into())),
            user: Personal::new(self.user),
            number: self.number.map(Personal::new),
            callee: Personal::new(self.callee),
            domain: self.domain,
            is_private: self.is_private,
        }
    }
}

impl WrittenSide {
    pub fn of(side: &Side) -> Self {
        match side {
            Side::User(user) => Self::User(user.sid),
            Side::Trunk(trunk) => Self::Trunk(trunk.sid),
            Side::Region(region) => Self::Region(*region),
        }
    }

    /// `None` when the user or trunk is no more.
    pub fn read(&self, cx: &Context) -> Option<Side> {
        Some(match self {
            Self::User(sid) => Side::User(cx.tenants.user_by_sid(*sid)?.clone()),
            Self::Trunk(sid) => Side::Trunk(cx.tenants.trunk(*sid)?.clone()),
            Self::Region(region) => Side::Region(*region),
        })
    }
}

impl WrittenReach {
    pub fn of(reach: &Reach) -> Self {
        match reach {
            Reach::Flow(flow) => Self::Flow(WrittenFlow::of(flow)),
            Reach::Address(addr) => Self::Address(*addr),
            Reach::Region(region, destination) => {
                Self::Region(*region, WrittenDestination::of(destination))
            }
            Reach::Uri => Self::Uri,
        }
    }

    pub fn read(self) -> Option<Reach> {
        Some(match self {
            Self::Flow(flow) => Reach::Flow(flow.read()?),
            Self::Address(addr) => Reach::Address(addr),
            Self::Region(region, destination) => Reach::Region(region, destination.read()?),
            Self::Uri => Reach::Uri,
        })
    }
}

impl WrittenFlow {
    fn of(flow: &Flow) -> Self {
        Self {
            id: flow.id.0,
            transport: flow.transport.as_str().to_owned(),
            local: flow.local,
            remote: flow.remote,
            peer: flow.peer.as_deref().map(str::to_owned),
        }
    }

    fn read(self) -> Option<Flow> {
        Some(Flow {
            id: FlowId(self.id),
            transport: Transport::parse(&self.transport)?,
            local: self.local,
            remote: self.remote,
            peer: self.peer.map(Arc::from),
        })
    }
}

impl WrittenDestination {
    fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Flow(flow) => Self::Flow(WrittenFlow::of(flow)),
            Destination::Address { transport, addr, server_name } => Self::Address {
                transport: transport.as_str().to_owned(),
                addr: *addr,
                server_name: server_name.as_deref().map(str::to_owned),
            },
            Destination::Region { region, host, port } => {
                Self::Region { region: region.to_string(), host: host.clone(), port: *port }
            }
            Destination::Uri(uri) => Self::Uri(uri.to_string()),
        }
    }

    fn read(self) -> Option<Destination> {
        Some(match self {
            Self::Flow(flow) => Destination::Flow(flow.read()?),
            Self::Address { transport, addr, server_name } => Destination::Address {
                transport: Transport::parse(&transport)?,
                addr,
                server_name: server_name.map(Arc::from),
            },
            Self::Region { region, host, port } => {
                Destination::Region { region: region.into(), host, port }
            }
            Self::Uri(uri) => Destination::Uri(Uri::parse(&uri).ok()?),
        })
    }
}

/// Requests of ours that may have been sent since the call was last kept: a
/// later CSeq number may leave a gap, an earlier one is refused (RFC 3261
/// §12.2.2).
const SKIPPED: u32 = 4096;

impl WrittenDialog {
    pub fn of(dialog: &Dialog) -> Self {
        let parts = dialog.parts();
        let name = |it: &NameAddr| ByteStr::from(it).as_bytes().to_vec();
        Self {
            call_id: parts.call_id.as_bytes().to_vec(),
            local: name(&parts.local),
            remote: name(&parts.remote),
            local_contact: name(&parts.local_contact),
            local_cseq: parts.local_cseq,
            remote_cseq: parts.remote_cseq,
            route_set: parts.route_set.iter().map(name).collect(),
            remote_target: parts.remote_target.to_string(),
            is_secure: parts.is_secure,
            is_confirmed: parts.state == DialogState::Confirmed,
        }
    }

    pub fn read(self) -> Option<Dialog> {
        let name = |it: &Vec<u8>| NameAddr::parse(&String::from_utf8_lossy(it)).ok();
        let state = match self.is_confirmed {
            true => DialogState::Confirmed,
            false => DialogState::Early,
        };
        let parts = DialogParts {
            local: name(&self.local)?,
            remote: name(&self.remote)?,
            local_contact: name(&self.local_contact)?,
            call_id: self.call_id.into(),
            local_cseq: self.local_cseq.saturating_add(SKIPPED),
            remote_cseq: self.remote_cseq,
            route_set: self.route_set.iter().map(name).collect::<Option<_>>()?,
            remote_target: Uri::parse(&self.remote_target).ok()?,
            is_secure: self.is_secure,
            state,
        };
        Some(parts.into())
    }
}
