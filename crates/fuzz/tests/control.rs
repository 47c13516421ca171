//! The control protocol's target over its corpus and mutations of it. Every
//! kind of message is in the corpus, as version 1 writes it.

use landline_control::{
    Adopt, Close, Consent, Direction, DtlsParameters, DtlsRole, Event, Fingerprint, FromRelay,
    HashFunction, Hello, IceCredentials, IpFamily, Key, KeyAndSalt, KeyPair, LegId, LegKeys,
    LegLocal, LegSpec, LegStats, MAX_FRAME, MediaFault, Op, Open, Outcome, PayloadType, Play,
    Protocol, Recorded, Recording, Refusal, Remote, Request, RequestId, Resume, SdesKey, SdesPair,
    SessionId, Sound, Spoken, SrtpSuite, StreamStats, TakeOver, TakenOver, ToRelay, VERSION,
    VideoType, encode,
};
use landline_fuzz::{control, corpus, inputs, replay, run_mutated};
use landline_region::{AccountSid, CallSid, RecordingSid, SoundSid, UnixMillis};
use serde::Serialize;

#[test]
fn the_corpus_of_control_streams_replays() {
    replay(control, &corpus("control"));
}

#[test]
fn mutated_control_streams_do_no_harm() {
    run_mutated("control", control, &corpus("control"), inputs());
}

/// A proxy and a relay of two builds talk to each other during an upgrade: the
/// octets of what both know may not change without a new version. After a new
/// kind of message, `LANDLINE_WRITE_CORPUS=1` writes its file.
#[test]
fn every_kind_of_message_is_written_as_version_1_writes_it() {
    assert_eq!(VERSION, 1, "write the corpus of the new version beside the old one");
    if std::env::var_os("LANDLINE_WRITE_CORPUS").is_some() {
        write_corpus();
    }
    let corpus = corpus("control");
    for (name, stream) in streams() {
        let kept = corpus.iter().find(|(file, _)| *file == name);
        let (_, kept) = kept.unwrap_or_else(|| panic!("corpus/control/{name} is missing"));
        assert!(*kept == stream, "{name} is written in other octets than it was");
    }
}

/// Leaves what is there as it is.
fn write_corpus() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/control");
    std::fs::create_dir_all(&directory).unwrap();
    for (name, stream) in streams().into_iter().chain(broken()) {
        let path = directory.join(name);
        if !path.exists() {
            std::fs::write(path, stream).unwrap();
        }
    }
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams: Vec<(String, Vec<u8>)> = Vec::new();
    for message in to_relay() {
        streams.push((to_relay_name(&message), stream(0, &[message])));
    }
    for message in from_relay() {
        streams.push((from_relay_name(&message), stream(0, &[message])));
    }
    for (name, message) in later_from_relay() {
        streams.push((format!("from-relay-{name}"), stream(0, &[message])));
    }
    let goes_on = Request::Change(SessionId(9), vec![Op::Continue(2)]);
    let goes_on = ToRelay::Request(RequestId(3), goes_on);
    streams.push(("to-relay-change-continue".into(), stream(0, &[goes_on])));
    let renews = Request::Change(SessionId(9), vec![Op::Renew(LegId(0))]);
    let renews = ToRelay::Request(RequestId(4), renews);
    streams.push(("to-relay-change-renew".into(), stream(0, &[renews])));
    let speaks = Op::Speak(Box::new([(LegId(0), spoken()), (LegId(1), spoken())]));
    let speaks = ToRelay::Request(RequestId(7), Request::Change(SessionId(9), vec![speaks]));
    streams.push(("to-relay-change-speak".into(), stream(0, &[speaks])));
    let own = Sound::Own(SoundSid::from_u128(5));
    let play = Play { sounds: vec![Sound::Tune, own], repeats: true };
    let key = Key { event: 11, duration_ms: 160 };
    let keys = vec![Op::Press(LegId(1), key), Op::TellKeys(LegId(0))];
    let keys = ToRelay::Request(RequestId(9), Request::Change(SessionId(9), keys));
    streams.push(("to-relay-change-keys".into(), stream(0, &[keys])));
    let sounds =
        vec![Sound::Greeting(Some(SoundSid::from_u128(6))), Sound::Greeting(None), Sound::Beep];
    let stored = Sound::Message(RecordingSid::from_u128(7));
    let heard = vec![stored, Sound::NoMessages, Sound::NoMoreMessages];
    let heard = Op::Play(LegId(0), Box::new(Play { sounds: heard, repeats: false }));
    let listens = Request::Change(SessionId(9), vec![heard]);
    let listens = ToRelay::Request(RequestId(11), listens);
    streams.push(("to-relay-change-listen".into(), stream(0, &[listens])));
    let greets = Op::Play(LegId(0), Box::new(Play { sounds, repeats: false }));
    let note = Op::Note(LegId(0), Box::new(open().recording.unwrap()));
    let mailbox = Request::Change(SessionId(9), vec![greets, note]);
    let mailbox = ToRelay::Request(RequestId(10), mailbox);
    streams.push(("to-relay-change-mailbox".into(), stream(0, &[mailbox])));
    let plays = vec![Op::Play(LegId(1), Box::new(play)), Op::Hush(LegId(0))];
    let plays = ToRelay::Request(RequestId(8), Request::Change(SessionId(9), plays));
    streams.push(("to-relay-change-play".into(), stream(0, &[plays])));
    let types = [(96, false), (97, true)].map(|(number, repeats)| VideoType { number, repeats });
    let video = Request::Change(
        SessionId(9),
        vec![Op::Video(LegId(1), Direction::SendOnly, types.to_vec())],
    );
    let video = ToRelay::Request(RequestId(9), video);
    streams.push(("to-relay-change-video".into(), stream(0, &[video])));
    let resume =
        Request::Resume(Resume { open: open(), keys: vec![(LegId(1), leg_keys())], step: 300_000 });
    let adopt = Adopt { session: SessionId(9), call: CallSid::from_u128(2) };
    let take = Request::TakeOver(TakeOver { adopt, step: 6 });
    for (id, request) in [(5, resume), (6, take)] {
        let request = ToRelay::Request(RequestId(id), request);
        streams.push((to_relay_name(&request), stream(0, &[request])));
    }
    streams.push(("whole-dialogue-to-relay".into(), stream(7, &to_relay())));
    streams.push(("whole-dialogue-from-relay".into(), stream(11, &from_relay())));
    streams
}

/// Frames that no peer of ours sends.
fn broken() -> Vec<(String, Vec<u8>)> {
    let open = stream(3, &to_relay()[1..2]);
    let mut half_length = open[..3].to_vec();
    half_length[0] = 1;
    let announce = |length: u32, body: &[u8]| {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let named: [(&str, Vec<u8>); 9] = [
        ("broken-body-cut", open[..open.len() / 2].to_vec()),
        ("broken-length-cut", half_length),
        ("broken-length-zero", announce(0, &[])),
        ("broken-length-at-limit", announce(MAX_FRAME as u32, &[2, 1])),
        ("broken-length-over-limit", announce(MAX_FRAME as u32 + 1, &[2, 1])),
        ("broken-length-greatest", announce(u32::MAX, &[2, 1])),
        ("broken-trailing-octet", announce(3, &[2, 1, 0])),
        ("broken-unknown-kind", announce(2, &[0x7f, 1])),
        // Change of session 1 with 2^32-1 operations, of which none is there.
        ("broken-huge-count", announce(9, &[1, 5, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f])),
    ];
    named.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec()
}

fn stream<M: Serialize>(chunk: u8, messages: &[M]) -> Vec<u8> {
    let mut bytes = vec![chunk];
    for message in messages {
        encode(message, &mut bytes).unwrap();
    }
    bytes
}

/// Without a wildcard: a new kind of message does not compile before it has a
/// name here, and a name without an example fails the test above.
fn to_relay_name(message: &ToRelay) -> String {
    let name = match message {
        ToRelay::Hello(_) => "hello",
        ToRelay::Request(_, Request::Open(_)) => "open",
        ToRelay::Request(_, Request::Change(..)) => "change",
        ToRelay::Request(_, Request::Close(_)) => "close",
        ToRelay::Request(_, Request::Adopt(_)) => "adopt",
        ToRelay::Request(_, Request::Resume(_)) => "resume",
        ToRelay::Request(_, Request::TakeOver(_)) => "take-over",
        ToRelay::Ping(_) => "ping",
    };
    format!("to-relay-{name}")
}

fn from_relay_name(message: &FromRelay) -> String {
    let name = match message {
        FromRelay::Hello(_) => "hello",
        FromRelay::Outcome(_, Outcome::Done(_)) => "done",
        FromRelay::Outcome(_, Outcome::Closed { .. }) => "closed",
        FromRelay::Outcome(_, Outcome::Refused(refusal)) => refusal_name(refusal),
        FromRelay::Event(_, Event::MediaStarted(_)) => "media-started",
        FromRelay::Event(_, Event::Fault(..)) => "fault",
        FromRelay::Event(_, Event::Keyed(..)) => "keyed",
        FromRelay::Event(_, Event::Played(_)) => "played",
        FromRelay::Event(_, Event::Key(..)) => "key",
        FromRelay::Pong(_) => "pong",
        FromRelay::Outcome(_, Outcome::Adopted(_)) => "adopted",
        FromRelay::Outcome(_, Outcome::TakenOver(_)) => "taken-over",
        FromRelay::Draining => "draining",
        FromRelay::Taken(_) => "taken",
        FromRelay::Resumed => "resumed",
        FromRelay::Counted(_) => "counted",
        FromRelay::Streams(_) => "streams",
    };
    format!("from-relay-{name}")
}

fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoPorts => "refused-no-ports",
        Refusal::Full => "refused-full",
        Refusal::Draining => "refused-draining",
        Refusal::UnknownSession => "refused-unknown-session",
        Refusal::UnknownLeg(_) => "refused-unknown-leg",
        Refusal::Exists => "refused-exists",
        Refusal::BadRemote(_) => "refused-bad-remote",
        Refusal::NoFamily => "refused-no-family",
    }
}

fn to_relay() -> Vec<ToRelay> {
    vec![
        ToRelay::Hello(hello("proxy-1")),
        ToRelay::Request(RequestId(1), Request::Open(open())),
        ToRelay::Request(RequestId(300), Request::Change(SessionId(u64::MAX), operations())),
        ToRelay::Request(RequestId(2), Request::Close(Close { session: SessionId(9) })),
        ToRelay::Ping(1 << 40),
        ToRelay::Request(
            RequestId(3),
            Request::Adopt(Adopt { session: SessionId(9), call: CallSid::from_u128(2) }),
        ),
    ]
}

fn from_relay() -> Vec<FromRelay> {
    let outcome = |outcome| FromRelay::Outcome(RequestId(1), outcome);
    let mut messages = vec![
        FromRelay::Hello(hello("relay-1")),
        outcome(Outcome::Done(vec![(LegId(0), local()), (LegId(1), bare_local())])),
        outcome(Outcome::Closed { legs: vec![(LegId(0), statistics())], recording: recorded() }),
        FromRelay::Event(SessionId(9), Event::MediaStarted(LegId(0))),
        FromRelay::Event(SessionId(9), Event::Fault(LegId(1), MediaFault::MediaTimeout)),
        FromRelay::Pong(1 << 40),
        FromRelay::Draining,
    ];
    let refusals = [
        Refusal::NoPorts,
        Refusal::Full,
        Refusal::Draining,
        Refusal::UnknownSession,
        Refusal::UnknownLeg(LegId(u16::MAX)),
        Refusal::Exists,
        Refusal::BadRemote("no fingerprint".into()),
        Refusal::NoFamily,
    ];
    messages.extend(refusals.map(|refusal| outcome(Outcome::Refused(refusal))));
    let faults = vec![MediaFault::MediaTimeout];
    messages.push(outcome(Outcome::Adopted(vec![(LegId(0), Vec::new()), (LegId(1), faults)])));
    messages.push(FromRelay::Taken(SessionId(9)));
    messages
}

/// Kinds that came after the dialogues were written.
fn later_from_relay() -> Vec<(&'static str, FromRelay)> {
    let counted = vec![(SessionId(9), vec![(LegId(0), statistics())])];
    let keyed = Event::Keyed(LegId(1), Box::new(leg_keys()));
    let keyed = FromRelay::Event(SessionId(9), keyed);
    let legs = vec![(LegId(0), vec![MediaFault::MediaTimeout])];
    let taken = Outcome::TakenOver(TakenOver { legs, step: 100_006 });
    vec![
        ("resumed", FromRelay::Resumed),
        ("counted", FromRelay::Counted(counted)),
        ("streams", FromRelay::Streams(vec!["192.0.2.1:5063".parse().unwrap()])),
        ("keyed", keyed),
        (
            "key",
            FromRelay::Event(
                SessionId(9),
                Event::Key(LegId(0), Key { event: 5, duration_ms: 160 }),
            ),
        ),
        ("played", FromRelay::Event(SessionId(9), Event::Played(LegId(1)))),
        ("taken-over", FromRelay::Outcome(RequestId(6), taken)),
    ]
}

fn spoken() -> Spoken {
    let types = remote().payload_types;
    Spoken { says: types.clone(), takes: types, packet_ms: Some(20) }
}

fn leg_keys() -> LegKeys {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let key = |octet| KeyAndSalt::new(vec![octet; suite.key_and_salt_len()]);
    let rtp = KeyPair { suite, send: key(0x5a), receive: key(0xa5) };
    LegKeys { protocol: Protocol::Sdes, rtp: Some(rtp), rtcp: None, sent: vec![1, u32::MAX] }
}

fn hello(name: &str) -> Hello {
    let region = "ie1".parse().unwrap();
    Hello { version: VERSION, region, name: name.to_owned(), incarnation: 0x0102_0304_0506 }
}

fn open() -> Open {
    let consent = Consent { by_policy: true, granted_at: UnixMillis(1_780_000_000_000) };
    Open {
        session: SessionId(9),
        account: AccountSid::from_u128(1),
        call: CallSid::from_u128(2),
        recording: Some(Recording { sid: RecordingSid::from_u128(3), consent }),
        legs: vec![
            (LegId(0), leg(Protocol::Dtls, IpFamily::V4, Vec::new())),
            (LegId(1), leg(Protocol::Sdes, IpFamily::V6, suites())),
            (LegId(2), leg(Protocol::Rtp, IpFamily::V4, Vec::new())),
        ],
    }
}

fn operations() -> Vec<Op> {
    vec![
        Op::Add(LegId(3), leg(Protocol::Rtp, IpFamily::V4, Vec::new())),
        Op::Remote(LegId(0), Box::new(remote())),
        Op::Join(LegId(0), LegId(3)),
        Op::Record,
        Op::Restart(LegId(0)),
        Op::Remove(LegId(1)),
    ]
}

fn leg(protocol: Protocol, family: IpFamily, suites: Vec<SrtpSuite>) -> LegSpec {
    LegSpec { protocol, ice: protocol == Protocol::Dtls, rtcp_mux: true, family, suites }
}

fn suites() -> Vec<SrtpSuite> {
    vec![SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_80]
}

fn ice() -> IceCredentials {
    IceCredentials { ufrag: "F7gI".into(), pwd: "x9cml/YzichV2+XlhiMu8g".into() }
}

fn fingerprint(hash: HashFunction, length: usize) -> Fingerprint {
    Fingerprint { hash, digest: vec![0xa5; length] }
}

fn key(tag: u32, suite: SrtpSuite) -> SdesKey {
    SdesKey { tag, suite, key_and_salt: vec![0x5a; suite.key_and_salt_len()] }
}

fn local() -> LegLocal {
    LegLocal {
        rtp: "192.0.2.1:30000".parse().unwrap(),
        rtcp: "192.0.2.1:30001".parse().unwrap(),
        ice: Some(ice()),
        fingerprint: Some(fingerprint(HashFunction::Sha256, 32)),
        sdes: Vec::new(),
    }
}

fn bare_local() -> LegLocal {
    LegLocal {
        rtp: "[2001:db8::1]:30002".parse().unwrap(),
        rtcp: "[2001:db8::1]:30002".parse().unwrap(),
        ice: None,
        fingerprint: None,
        sdes: suites().into_iter().zip(1..).map(|(suite, tag)| key(tag, suite)).collect(),
    }
}

fn remote() -> Remote {
    let payload = |number, encoding: &str, clock_rate, channels| PayloadType {
        number,
        encoding: encoding.to_owned(),
        clock_rate,
        channels,
    };
    let suite = SrtpSuite::AeadAes128Gcm;
    Remote {
        rtp: "203.0.113.7:9".parse().unwrap(),
        rtcp: "203.0.113.7:9".parse().unwrap(),
        rtcp_mux: true,
        ice: Some(ice()),
        dtls: Some(DtlsParameters {
            fingerprints: vec![
                fingerprint(HashFunction::Sha384, 48),
                fingerprint(HashFunction::Sha512, 64),
            ],
            role: DtlsRole::Server,
        }),
        sdes: Some(SdesPair { send: key(1, suite), receive: key(7, suite) }),
        direction: Direction::SendOnly,
        payload_types: vec![
            payload(0, "PCMU", 8000, 1),
            payload(111, "OPUS", 48_000, 2),
            payload(101, "TELEPHONE-EVENT", 8000, 1),
        ],
    }
}

fn statistics() -> LegStats {
    let stream = StreamStats {
        packets: 3000,
        octets: 516_000,
        lost: 12,
        jitter_us: 1250,
        rtcp_packets: 12,
        dtmf_events: 4,
    };
    LegStats {
        received: stream,
        sent: StreamStats::default(),
        codec: Some("OPUS".into()),
        mos_x100: Some(421),
        dropped: vec![("replayed".into(), 2), ("not_authentic".into(), u64::MAX)],
        faults: vec![
            MediaFault::DtlsHandshakeFailed,
            MediaFault::DtlsFingerprintMismatch,
            MediaFault::MediaTimeout,
        ],
    }
}

fn recorded() -> Option<Recorded> {
    let sid = RecordingSid::from_u128(3);
    Some(Recorded { sid, expected_packets: 3000, stored_packets: 2999 })
}
