//! An answered call, or a parked one, kept so that it can be taken up after the death of the
//! process that carries it, and taken up again.

use bytes::Bytes;
use landline_control::LegId;
use landline_region::{Now, Personal};
use landline_sip::{ByteStr, Limits, Message, Request};

use super::guests::Handover;
use super::leg::{Incoming, Invite, LegState};
use super::music::hears_music;
use super::open::read_description;
use super::park::Parked;
use super::reliable::Reliable;
use super::restored::Restored;
use super::start::Started;
use super::written::{
    VERSION, WrittenCall, WrittenDialog, WrittenIdentity, WrittenLeg, WrittenPark, WrittenReach,
    WrittenSide, WrittenTimer, WrittenVideo,
};
use super::{A, Call, Leg, Phase, Session};
use crate::calls::CallKey;
use crate::context::Context;
use crate::io::Output;
use crate::record::{CallDirection, LegRole};
use crate::restore::Former;
use crate::snapshot::Snapshot;

/// What a request within a dialog names it by (RFC 3261 §12.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DialogName {
    /// Ours.
    pub tag: u64,
    pub call_id: Personal<ByteStr>,
    pub remote_tag: Option<String>,
}

impl DialogName {
    /// The same in Call-ID and From; who asks has found it by our tag.
    pub(crate) fn is_of(&self, request: &Request) -> bool {
        request.call_id().is_ok_and(|it| it == *self.call_id.expose())
            && request.from().is_ok_and(|from| {
                from.tag().unwrap_or_default() == self.remote_tag.as_deref().unwrap_or_default()
            })
    }
}

/// The process of a relay, of a call that a former version kept.
pub(super) const UNKNOWN: u64 = 0;
/// Parts of the recording that relays may have begun since then: each has its
/// number once.
const SKIPPED_PARTS: u16 = 8;
/// Legs that the relay may have made since the call was last kept.
const SKIPPED: u16 = 64;

impl Call {
    fn written_park(&self) -> Option<WrittenPark> {
        let (slot, until) = self.parked.as_ref().filter(|_| self.waits())?.kept();
        let presented = self.handover.as_ref().and_then(|it| it.presented.as_ref());
        let presented = presented.map(WrittenIdentity::of);
        Some(WrittenPark { slot, until, own: WrittenIdentity::of(&self.identity), presented })
    }

    fn park_again(&mut self, written: WrittenPark) {
        let presented = written.presented.map(WrittenIdentity::read);
        (self.phase, self.winner, self.answered_at) = (Phase::Ringing, None, None);
        self.identity = written.own.read();
        self.handover = Some(Box::new(Handover::parked(self.key, presented)));
        self.parked = Some(Parked::again(written.slot, written.until));
    }

    /// Has the call kept as it is now, with the step that was journaled last, if
    /// that is still to be written.
    pub(crate) fn keep(&mut self, cx: &mut Context) {
        // What is under way is not agreed, and kept when it is.
        if self.modification.is_some() || self.ending.is_some() || self.has_lent() {
            return;
        }
        let Some(snapshot) = self.snapshot(cx) else { return };
        cx.counters.calls_kept += 1;
        if let Some(Output::Journal { token: None, events, state }) = cx.out.back_mut()
            && events.first().is_some_and(|first| first.call == self.sid)
        {
            *state = Some(snapshot);
            return;
        }
        let state = Some(snapshot);
        cx.out.push_back(Output::Journal { token: None, events: Vec::new(), state });
    }

    pub(super) fn snapshot(&self, cx: &Context) -> Option<Snapshot> {
        let session = self.session.as_ref()?;
        let invite = match self.phase {
            // Until the 200 has left it may have to be made once more.
            Phase::Answering => {
                let incoming = self.legs.first().and_then(Leg::incoming);
                incoming.map(|it| it.request.to_bytes().to_vec())
            }
            Phase::Up => None,
            _ if self.waits() => None,
            _ => return None,
        };
        // Nobody has answered: who knows of no parked calls finds no callee, and
        // does not take it for a call between two.
        let waits = self.waits();
        let (answered_at, winner) = match waits {
            true => (self.opened_at, A),
            false => (self.answered_at?, self.winner?),
        };
        let legs = self.legs.iter().enumerate();
        let written = WrittenCall {
            sid: self.sid,
            account: self.account.sid,
            caller: WrittenSide::of(&self.caller),
            direction: self.direction.name().to_owned(),
            opened_at: self.opened_at,
            answered_at,
            join: self.join,
            relay: session.relay.clone(),
            session: session.id,
            next_relay_leg: self.next_relay_leg,
            winner: u32::try_from(winner).ok()?,
            is_joined: self.is_joined,
            is_up: self.phase == Phase::Up || waits,
            is_started: self.started.is_some(),
            recording: self.recording,
            segments: self.segments,
            invite,
            legs: legs.map(|(place, leg)| written_leg(leg, waits && place != A)).collect(),
        };
        let state = postcard::to_extend(&written, vec![VERSION]).ok()?;
        // Came later: who does not know it reads no further.
        let state = postcard::to_extend(&session.incarnation, state).ok()?;
        let state = postcard::to_extend(&WrittenTimer::of(&self.legs), state).ok()?;
        let state = postcard::to_extend(&WrittenVideo::of(&self.legs), state).ok()?;
        let state = match self.written_park() {
            Some(parked) => postcard::to_extend(&parked, state).ok()?,
            None => state,
        };
        Some(Snapshot {
            call: self.sid,
            account: self.account.sid,
            sequence: self.sequence,
            at: self.now(cx),
            state: Personal::new(state),
        })
    }

    /// The dialogs that requests inside it name.
    pub(crate) fn dialogs_in(snapshot: &Snapshot) -> Vec<DialogName> {
        let written = match snapshot.state.expose().split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes::<WrittenCall>(rest).ok(),
            _ => None,
        };
        let legs = written.map_or_else(Vec::new, |written| written.legs);
        let mut dialogs = Vec::with_capacity(2);
        for leg in legs {
            let Some(dialog) = leg.dialog.and_then(WrittenDialog::read) else { continue };
            for tag in [Some(leg.tag), leg.former_tag].into_iter().flatten() {
                let remote_tag = dialog.remote().tag().map(str::to_owned);
                let call_id = Personal::new(dialog.call_id().clone());
                dialogs.push(DialogName { tag, call_id, remote_tag });
            }
        }
        dialogs
    }

    /// A call that a former process, or another one, has had. `Err` says why it
    /// cannot go on.
    pub(crate) fn from_snapshot(
        key: CallKey,
        cx: &mut Context,
        snapshot: &Snapshot,
        former: Former,
    ) -> Result<Self, &'static str> {
        let written = match snapshot.state.expose().split_first() {
            Some((&VERSION, rest)) => postcard::take_from_bytes::<WrittenCall>(rest),
            _ => return Err("it was kept by another version"),
        };
        let (written, rest) = written.map_err(|_| "it cannot be read")?;
        let (incarnation, rest) = postcard::take_from_bytes::<u64>(rest).unwrap_or((UNKNOWN, &[]));
        let (timers, rest) =
            postcard::take_from_bytes::<Vec<WrittenTimer>>(rest).unwrap_or_default();
        let (videos, rest) =
            postcard::take_from_bytes::<Vec<WrittenVideo>>(rest).unwrap_or_default();
        let parked = postcard::from_bytes::<WrittenPark>(rest).ok();
        let account = cx.tenants.account(written.account).cloned().ok_or("its account is gone")?;
        let caller = written.caller.read(cx).ok_or("its caller is gone")?;
        let direction: CallDirection =
            written.direction.parse().map_err(|_| "its direction cannot be read")?;
        let invite = written.invite.and_then(|octets| read_invite(cx, octets));
        let mut legs = Vec::with_capacity(written.legs.len());
        for leg in written.legs {
            legs.push(read_leg(cx, leg).ok_or("a leg cannot be read")?);
        }
        let winner = written.winner as usize;
        if (winner == A) != parked.is_some()
            || [A, winner].iter().any(|it| legs.get(*it).is_none_or(|leg| leg.dialog.is_none()))
        {
            return Err("its legs do not fit");
        }
        if let (Some(invite), Some(caller)) = (invite, legs.first_mut()) {
            caller.state = LegState::Early;
            caller.invite = Invite::Received(Box::new(invite));
        }
        for timer in timers {
            timer.read(&mut legs);
        }
        for leg in &mut legs {
            let hears = hears_music(&account, &leg.side);
            leg.media = leg.media.take().map(|media| media.on_hold_hearing(hears));
        }
        for video in videos {
            video.read(&mut legs);
        }
        if written.is_up {
            legs.iter_mut().filter_map(|leg| leg.media.as_mut()).for_each(|it| it.resume());
        }
        let mut call = Self {
            sid: written.sid,
            phase: Phase::Answering,
            // Never before what is written already.
            clock: Now { unix: cx.now.unix.max(snapshot.at), ..cx.now },
            opened_at: written.opened_at,
            answered_at: Some(written.answered_at),
            legs,
            session: Some(Session {
                relay: written.relay,
                id: written.session,
                incarnation,
                lost: false,
            }),
            segments: written.segments.saturating_add(SKIPPED_PARTS),
            sequence: snapshot.sequence,
            join: written.join,
            started: written.is_started.then(Started::answered),
            next_relay_leg: written.next_relay_leg.saturating_add(SKIPPED),
            winner: Some(winner),
            rang: true,
            is_joined: written.is_joined,
            recording: written.recording,
            restored: Some(Box::new(Restored::new(former, snapshot.at, written.is_up))),
            ..Self::new(key, cx, account, caller, direction)
        };
        match parked {
            Some(parked) => call.park_again(parked),
            None => call.convert_keys_again(winner),
        }
        call.music = call.held();
        Ok(call)
    }
}

/// Those that lost, and those that may, are there for the record alone.
fn written_leg(leg: &Leg, is_for_record: bool) -> WrittenLeg {
    let is_confirmed = leg.state != LegState::Ended && !is_for_record;
    WrittenLeg {
        sid: leg.sid,
        role: leg.role().name().to_owned(),
        side: WrittenSide::of(&leg.side),
        reach: WrittenReach::of(&leg.reach),
        tag: leg.tag,
        former_tag: leg.former_tag,
        dialog: leg.dialog.as_ref().filter(|_| is_confirmed).map(WrittenDialog::of),
        media: leg.media.clone().filter(|_| is_confirmed),
        relay_leg: leg.relay_leg,
        is_allocated: leg.is_allocated,
        status: leg.status,
        is_recorded: leg.is_recorded,
        edges: leg.edges.clone(),
        takes_update: leg.takes_update,
    }
}

fn read_leg(cx: &Context, written: WrittenLeg) -> Option<Leg> {
    let role: LegRole = written.role.parse().ok()?;
    let dialog = match written.dialog {
        Some(dialog) => Some(dialog.read()?),
        None => None,
    };
    let LegId(relay_leg) = written.relay_leg;
    let mut leg = Leg::new(
        written.sid,
        written.side.read(cx)?,
        written.reach.read()?,
        written.tag,
        LegId(relay_leg),
        Invite::Former(role),
    );
    leg.state = if dialog.is_some() { LegState::Confirmed } else { LegState::Ended };
    leg.former_tag = written.former_tag;
    leg.dialog = dialog;
    leg.media = written.media.map(|it| it.transcoding(cx.config.transcoding));
    leg.is_allocated = written.is_allocated;
    leg.status = written.status;
    leg.is_recorded = written.is_recorded;
    leg.edges = written.edges;
    leg.takes_update = written.takes_update;
    Some(leg)
}

fn read_invite(cx: &mut Context, octets: Vec<u8>) -> Option<Incoming> {
    let request = invite_of(octets)?;
    let offer = read_description(cx, &request).ok()?;
    let (key, reliable) = (Incoming::FORMER, Reliable::default());
    Some(Incoming { key, request, offer, provisional: 0, reliable, picks_up: false })
}

fn invite_of(octets: Vec<u8>) -> Option<Request> {
    match landline_sip::parse(&Bytes::from(octets), &Limits::default()) {
        Ok(Message::Request(request)) => Some(request),
        _ => None,
    }
}
