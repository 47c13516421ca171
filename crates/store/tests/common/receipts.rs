//! Calls and recordings that get receipts, and the look at everything.

use super::{Region, at, personal};
use landline_call::record::{
    CallDirection, CallEvent, Cause, Closed, LegClosed, LegOpened, LegRole, Opened, Party, Step,
};
use landline_call::tenancy::Account;
use landline_control::{Consent, LegId, LegStats, Protocol, RelayId, StreamStats};
use landline_region::receipt::{Signed, TreeHead};
use landline_region::{CallSid, LegSid, RecordingSid, UnixMillis, UserSid};
use landline_store::{Part, Recorder, RecorderConfig, RecordingStart, ResidencyCheck};

pub const NEVER: UnixMillis = UnixMillis(i64::MIN);
pub const ALWAYS: UnixMillis = UnixMillis(i64::MAX);

pub fn sid(call: u128) -> CallSid {
    CallSid::from_u128(call)
}

pub fn recording(call: u128) -> RecordingSid {
    RecordingSid::from_u128(call)
}

/// An answered call of two legs from its opening to its end.
pub fn events(account: &Account, call: u128, recorded: bool) -> Vec<CallEvent> {
    let leg = |role| LegSid::from_u128(call * 10 + u128::from(role == LegRole::B));
    let leg_opened = |role| {
        Step::LegOpened(LegOpened {
            leg: leg(role),
            role,
            party: Party::User(UserSid::from_u128(5)),
            sip_call_id: personal("secret-call-id@192.0.2.7"),
            media: Some(Protocol::Dtls),
        })
    };
    let stats = LegStats {
        received: StreamStats { packets: 500, lost: 3, jitter_us: 1200, ..StreamStats::default() },
        codec: Some("OPUS".to_owned()),
        mos_x100: Some(431),
        ..LegStats::default()
    };
    let leg_closed = |role| {
        let stats = Some(stats.clone());
        Step::LegClosed(LegClosed { leg: leg(role), sip_status: 200, stats })
    };
    let consent = Consent { by_policy: true, granted_at: at(0) };
    let steps = vec![
        Step::Opened(Opened {
            direction: CallDirection::Internal,
            from: personal("alice.murphy"),
            to: personal("+35312345678"),
            home_region: account.home_region,
            signalling_region: account.home_region,
            contracting_entity: "landline-ie1".to_owned(),
            proxy: "proxy-1".to_owned(),
            recording: recorded.then(|| (recording(call), consent)),
        }),
        leg_opened(LegRole::A),
        leg_opened(LegRole::B),
        Step::Ringing,
        Step::Answered { leg: leg(LegRole::B) },
        leg_closed(LegRole::A),
        leg_closed(LegRole::B),
        Step::Closed(Closed {
            cause: Cause::CalleeHungUp,
            sip_status: 200,
            relay: Some(RelayId("relay-1".to_owned())),
            media_region: Some(account.home_region),
            recorded: None,
        }),
    ];
    let event = |(sequence, step): (usize, Step)| CallEvent {
        call: sid(call),
        account: account.sid,
        sequence: sequence as u32,
        at: at(100_000 * call as i64 + 1000 * sequence as i64),
        step,
    };
    steps.into_iter().enumerate().map(event).collect()
}

pub async fn closed(region: &Region, account: &Account, calls: std::ops::RangeInclusive<u128>) {
    for call in calls {
        region.store.apply_events(&events(account, call, false)).await.unwrap();
    }
}

/// A recorder that has heard two seconds of the call.
pub async fn recorder(region: &Region, account: &Account, call: u128) -> Recorder {
    let config = RecorderConfig::new(region.path(&format!("spool-{call}")));
    let recorder = Recorder::start(region.store.clone(), config).unwrap();
    let start = RecordingStart {
        part: Part::of(recording(call), 0),
        call: sid(call),
        account: account.sid,
        consent: Consent { by_policy: true, granted_at: at(0) },
        started_at: at(0),
        payload_types: Vec::new(),
    };
    recorder.sink().start(start).unwrap();
    speak(&recorder, call, 0..100);
    recorder
}

pub fn speak(recorder: &Recorder, call: u128, packets: std::ops::Range<u32>) {
    for number in packets {
        recorder.sink().frame(recording(call), LegId(0), number * 20, &[0x80; 172]).unwrap();
    }
}

pub async fn recorded(region: &Region, account: &Account, call: u128) {
    let recorder = recorder(region, account, call).await;
    recorder.sink().finish(recording(call)).await.unwrap();
    recorder.shutdown().await;
    region.store.apply_events(&events(account, call, true)).await.unwrap();
}

pub async fn checked(region: &Region, kept: &[Signed<TreeHead>]) -> ResidencyCheck {
    region.store.residency_check(kept).await.unwrap()
}
