//! Call events as they lie in the ledger: the same steps in plain types that
//! can be serialised. They grow at their end only, so that a ledger written by
//! the former version can still be shipped.

use landline_call::record::{
    CallDirection, CallEvent, Cause, Closed, LegClosed, LegOpened, LegRole, Opened, Party, Step,
};
use landline_call::tenancy::UnknownName;
use landline_control::{Consent, LegStats, Protocol, Recorded, RelayId};
use landline_region::{
    AccountSid, CallSid, JoinToken, LegSid, Personal, RecordingSid, RegionCode, TrunkSid,
    UnixMillis, UserSid, VoicemailSid,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct WrittenEvent {
    call: CallSid,
    account: AccountSid,
    sequence: u32,
    at: UnixMillis,
    step: WrittenStep,
}

#[derive(Serialize, Deserialize)]
enum WrittenStep {
    Opened {
        direction: String,
        from: String,
        to: String,
        home_region: RegionCode,
        signalling_region: RegionCode,
        contracting_entity: String,
        proxy: String,
        recording: Option<(RecordingSid, Consent)>,
    },
    LegOpened {
        leg: LegSid,
        role: String,
        party: WrittenParty,
        sip_call_id: String,
        media: Option<Protocol>,
    },
    Ringing,
    Answered {
        leg: LegSid,
    },
    LegClosed {
        leg: LegSid,
        sip_status: u16,
        stats: Option<LegStats>,
    },
    Closed {
        cause: String,
        sip_status: u16,
        relay: Option<RelayId>,
        media_region: Option<RegionCode>,
        recorded: Option<Recorded>,
    },
    Joined(JoinToken),
    LegByEdge {
        leg: LegSid,
        edge: RegionCode,
    },
    Moved {
        from: RelayId,
        to: RelayId,
    },
    TakenOver {
        proxy: String,
    },
    LegDiverted {
        leg: LegSid,
        by: UserSid,
        reason: String,
    },
    MessageBegun {
        message: VoicemailSid,
        user: UserSid,
        recording: RecordingSid,
    },
    MessageDropped {
        message: VoicemailSid,
    },
    MessageHeard {
        message: VoicemailSid,
    },
    MessageRemoved {
        message: VoicemailSid,
    },
}

#[derive(Serialize, Deserialize)]
enum WrittenParty {
    User(UserSid),
    Trunk(TrunkSid),
    Unknown,
    Region(RegionCode),
}

pub fn encode(event: &CallEvent) -> Vec<u8> {
    let written = WrittenEvent {
        call: event.call,
        account: event.account,
        sequence: event.sequence,
        at: event.at,
        step: written_step(&event.step),
    };
    postcard::to_stdvec(&written).expect("plain types serialise")
}

/// `Err` says what is wrong with the octets.
pub fn decode(bytes: &[u8]) -> Result<CallEvent, String> {
    let written: WrittenEvent = postcard::from_bytes(bytes).map_err(|e| e.to_string())?;
    Ok(CallEvent {
        call: written.call,
        account: written.account,
        sequence: written.sequence,
        at: written.at,
        step: read_step(written.step)?,
    })
}

fn written_step(step: &Step) -> WrittenStep {
    match step {
        Step::Opened(opened) => WrittenStep::Opened {
            direction: opened.direction.name().to_owned(),
            from: opened.from.expose().clone(),
            to: opened.to.expose().clone(),
            home_region: opened.home_region,
            signalling_region: opened.signalling_region,
            contracting_entity: opened.contracting_entity.clone(),
            proxy: opened.proxy.clone(),
            recording: opened.recording,
        },
        Step::LegOpened(leg) => WrittenStep::LegOpened {
            leg: leg.leg,
            role: leg.role.name().to_owned(),
            party: match leg.party {
                Party::User(user) => WrittenParty::User(user),
                Party::Trunk(trunk) => WrittenParty::Trunk(trunk),
                Party::Region(region) => WrittenParty::Region(region),
                Party::Unknown => WrittenParty::Unknown,
            },
            sip_call_id: leg.sip_call_id.expose().clone(),
            media: leg.media,
        },
        Step::Ringing => WrittenStep::Ringing,
        Step::Answered { leg } => WrittenStep::Answered { leg: *leg },
        Step::LegClosed(leg) => WrittenStep::LegClosed {
            leg: leg.leg,
            sip_status: leg.sip_status,
            stats: leg.stats.clone(),
        },
        Step::Closed(closed) => WrittenStep::Closed {
            cause: closed.cause.name().to_owned(),
            sip_status: closed.sip_status,
            relay: closed.relay.clone(),
            media_region: closed.media_region,
            recorded: closed.recorded,
        },
        Step::Joined(join) => WrittenStep::Joined(*join),
        Step::LegByEdge { leg, edge } => WrittenStep::LegByEdge { leg: *leg, edge: *edge },
        Step::Moved { from, to } => WrittenStep::Moved { from: from.clone(), to: to.clone() },
        Step::TakenOver { proxy } => WrittenStep::TakenOver { proxy: proxy.clone() },
        Step::LegDiverted { leg, by, reason } => {
            WrittenStep::LegDiverted { leg: *leg, by: *by, reason: reason.name().to_owned() }
        }
        Step::MessageBegun { message, user, recording } => {
            WrittenStep::MessageBegun { message: *message, user: *user, recording: *recording }
        }
        Step::MessageDropped { message } => WrittenStep::MessageDropped { message: *message },
        Step::MessageHeard { message } => WrittenStep::MessageHeard { message: *message },
        Step::MessageRemoved { message } => WrittenStep::MessageRemoved { message: *message },
    }
}

fn read_step(step: WrittenStep) -> Result<Step, String> {
    Ok(match step {
        WrittenStep::Opened {
            direction,
            from,
            to,
            home_region,
            signalling_region,
            contracting_entity,
            proxy,
            recording,
        } => Step::Opened(Opened {
            direction: direction.parse::<CallDirection>().map_err(|e| e.to_string())?,
            from: Personal::new(from),
            to: Personal::new(to),
            home_region,
            signalling_region,
            contracting_entity,
            proxy,
            recording,
        }),
        WrittenStep::LegOpened { leg, role, party, sip_call_id, media } => {
            Step::LegOpened(LegOpened {
                leg,
                role: role.parse::<LegRole>().map_err(|e| e.to_string())?,
                party: match party {
                    WrittenParty::User(user) => Party::User(user),
                    WrittenParty::Trunk(trunk) => Party::Trunk(trunk),
                    WrittenParty::Region(region) => Party::Region(region),
                    WrittenParty::Unknown => Party::Unknown,
                },
                sip_call_id: Personal::new(sip_call_id),
                media,
            })
        }
        WrittenStep::Ringing => Step::Ringing,
        WrittenStep::Answered { leg } => Step::Answered { leg },
        WrittenStep::LegClosed { leg, sip_status, stats } => {
            Step::LegClosed(LegClosed { leg, sip_status, stats })
        }
        WrittenStep::Closed { cause, sip_status, relay, media_region, recorded } => {
            Step::Closed(Closed {
                cause: cause.parse::<Cause>().map_err(|e| e.to_string())?,
                sip_status,
                relay,
                media_region,
                recorded,
            })
        }
        WrittenStep::Joined(join) => Step::Joined(join),
        WrittenStep::LegByEdge { leg, edge } => Step::LegByEdge { leg, edge },
        WrittenStep::Moved { from, to } => Step::Moved { from, to },
        WrittenStep::TakenOver { proxy } => Step::TakenOver { proxy },
        WrittenStep::LegDiverted { leg, by, reason } => {
            let reason = reason.parse().map_err(|e: UnknownName| e.to_string())?;
            Step::LegDiverted { leg, by, reason }
        }
        WrittenStep::MessageBegun { message, user, recording } => {
            Step::MessageBegun { message, user, recording }
        }
        WrittenStep::MessageDropped { message } => Step::MessageDropped { message },
        WrittenStep::MessageHeard { message } => Step::MessageHeard { message },
        WrittenStep::MessageRemoved { message } => Step::MessageRemoved { message },
    })
}
