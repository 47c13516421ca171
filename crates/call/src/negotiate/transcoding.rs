//! Codecs for two sides that may share none: what the relay can make of what.
//!
//! A side is offered the other one's codecs first and behind them those that
//! the relay can make of one of them. So a codec in common goes first, and where
//! there is one nothing is transcoded.

use landline_control::{LegId, Op, PayloadType, Spoken};

use super::codec::{Codec, common};
use super::leg_media::LegMedia;

const PCMU: (u8, &str) = (0, "PCMU/8000");
const PCMA: (u8, &str) = (8, "PCMA/8000");
const G722: (u8, &str) = (9, "G722/8000");
/// RFC 7587 §7; the first number that is free of those that have no meaning.
const OPUS: (u8, &str) = (FIRST_DYNAMIC, "opus/48000/2");

const FIRST_DYNAMIC: u8 = 96;
const LAST_DYNAMIC: u8 = 127;

/// Between narrow-band codecs nothing is gained by a wider one: the cheapest
/// first. Else the one that loses the least.
const CHEAPEST_FIRST: [(u8, &str); 4] = [PCMA, PCMU, G722, OPUS];
const WIDEST_FIRST: [(u8, &str); 4] = [OPUS, G722, PCMU, PCMA];

/// As most number it.
const EVENT_NUMBER: u8 = 101;
const EVENT: &str = "TELEPHONE-EVENT";

/// Codecs as they are offered on behalf of a side that speaks `codecs`.
pub(super) fn widened(codecs: &[Codec]) -> Vec<Codec> {
    let mut all = codecs.to_vec();
    let known: Vec<_> = codecs.iter().filter_map(known).collect();
    if known.is_empty() {
        return all;
    }
    let is_narrow = known.iter().all(|it| *it == PCMU.1 || *it == PCMA.1);
    for (number, rtpmap) in if is_narrow { CHEAPEST_FIRST } else { WIDEST_FIRST } {
        if !known.contains(&rtpmap) {
            let fmtp: &[&str] = if rtpmap == OPUS.1 { &["useinbandfec=1"] } else { &[] };
            add(&mut all, number, rtpmap, fmtp);
        }
    }
    // Events go by the clock of the sound beside them (RFC 4733 §2.1).
    let events: Vec<_> = codecs.iter().filter(|it| is_event(it)).cloned().collect();
    let Some(first) = events.first() else { return all };
    for clock in [8000, 48_000] {
        if events.iter().all(|it| it.payload_type().clock_rate != clock) {
            let rtpmap = format!("telephone-event/{clock}");
            let fmtp: Vec<_> = first.fmtp.iter().map(String::as_str).collect();
            add(&mut all, FIRST_DYNAMIC, &rtpmap, &fmtp);
        }
    }
    all
}

/// By its own number, or else by the first that is free.
fn add(all: &mut Vec<Codec>, number: u8, rtpmap: &str, fmtp: &[&str]) {
    let is_free = |number: &u8| all.iter().all(|it| it.number != *number);
    let number = [number].into_iter().chain(FIRST_DYNAMIC..=LAST_DYNAMIC).find(is_free);
    all.extend(number.map(|number| Codec::new(number, rtpmap, fmtp)));
}

/// What is answered to a side that offered `offered`, where the other side
/// speaks `said`: what both have, or else one codec of the former's own that the
/// relay makes of the latter's. `None` when there is neither.
pub(super) fn answered(offered: &[Codec], said: &[Codec], transcodes: bool) -> Option<Vec<Codec>> {
    if let Some(common) = common(offered, said) {
        return Some(common);
    }
    if !transcodes || !said.iter().any(|it| known(it).is_some()) {
        return None;
    }
    let chosen = offered.iter().find(|it| known(it).is_some())?;
    let clock = chosen.payload_type().clock_rate;
    let mut events = offered.iter().filter(|it| is_event(it));
    let event = events
        .clone()
        .find(|it| it.payload_type().clock_rate == clock)
        .or_else(|| events.next())
        .filter(|_| said.iter().any(is_event));
    Some([chosen].into_iter().chain(event).cloned().collect())
}

/// With keys beside the sound, on its clock, where there are none.
pub(super) fn with_events(mut codecs: Vec<Codec>) -> Vec<Codec> {
    let clock = codecs.iter().find(|it| it.is_speech()).map(|it| it.payload_type().clock_rate);
    if let Some(clock) = clock.filter(|_| !codecs.iter().any(is_event)) {
        add(&mut codecs, EVENT_NUMBER, &format!("telephone-event/{clock}"), &["0-15"]);
    }
    codecs
}

/// Those of what was offered that go beside what is answered, if it has none.
pub(super) fn events_beside(answered: &[Codec], offered: &[Codec]) -> Option<Codec> {
    if answered.iter().any(is_event) {
        return None;
    }
    let clock = answered.iter().find(|it| it.is_speech())?.payload_type().clock_rate;
    let mut events = offered.iter().filter(|it| is_event(it));
    let beside = events.clone().find(|it| it.payload_type().clock_rate == clock);
    beside.or_else(|| events.next()).cloned()
}

pub(super) fn is_event(codec: &Codec) -> bool {
    codec.payload_type().encoding == EVENT
}

/// As it is named among those that the relay has.
fn known(codec: &Codec) -> Option<&'static str> {
    let kind = codec.payload_type();
    match (kind.encoding.as_str(), kind.clock_rate, kind.channels) {
        ("PCMU", 8000, 1) => Some(PCMU.1),
        ("PCMA", 8000, 1) => Some(PCMA.1),
        ("G722", 8000, 1) => Some(G722.1),
        ("OPUS", 48_000, _) => Some(OPUS.1),
        _ => None,
    }
}

/// Of what was offered what the relay can play and record itself, with keys beside
/// it. `None` where it can none.
pub(crate) fn heard_here(offered: &[Codec]) -> Option<Vec<Codec>> {
    let heard: Vec<_> =
        offered.iter().filter(|it| known(it).is_some() || is_event(it)).cloned().collect();
    heard.iter().any(|it| known(it).is_some()).then_some(heard)
}

/// What the relay has to know of two joined legs, where one may say what the
/// other does not take. Nothing where they agree on all.
pub(crate) fn speak(a: (LegId, &LegMedia), b: (LegId, &LegMedia)) -> Option<Op> {
    let (of_a, of_b) = (a.1.spoken()?, b.1.spoken()?);
    let differs = |from: &Spoken, to: &Spoken| {
        let is_taken = |said: &PayloadType| to.takes.iter().any(|it| said.is_same_format(it));
        from.says.iter().any(|said| Codec::carries_speech(said) && !is_taken(said))
    };
    let needs = differs(&of_a, &of_b) || differs(&of_b, &of_a);
    needs.then(|| Op::Speak(Box::new([(a.0, of_a), (b.0, of_b)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcmu() -> Codec {
        Codec { number: 0, rtpmap: None, fmtp: Vec::new() }
    }

    fn names(codecs: &[Codec]) -> Vec<String> {
        codecs
            .iter()
            .map(|it| format!("{} {}", it.number, it.rtpmap.as_deref().unwrap_or("")))
            .collect()
    }

    #[test]
    fn a_phone_is_offered_for_with_its_own_codecs_first() {
        let phone = [pcmu(), Codec::new(96, "telephone-event/8000", &["0-15"])];
        let offered = widened(&phone);
        assert_eq!(
            names(&offered),
            [
                "0 ",
                "96 telephone-event/8000",
                "8 PCMA/8000",
                "9 G722/8000",
                "97 opus/48000/2",
                "98 telephone-event/48000"
            ]
        );
        assert_eq!(offered[5].fmtp, ["0-15"]);
        let browser = [Codec::new(111, "opus/48000/2", &["minptime=10"])];
        let browser = names(&widened(&browser));
        assert_eq!(browser, ["111 opus/48000/2", "9 G722/8000", "0 PCMU/8000", "8 PCMA/8000"]);
    }

    #[test]
    fn a_number_that_means_something_else_is_left_alone() {
        let odd = [Codec::new(8, "opus/48000/2", &[]), Codec::new(96, "exotic/8000", &[])];
        let offered = names(&widened(&odd));
        assert_eq!(
            offered,
            ["8 opus/48000/2", "96 exotic/8000", "9 G722/8000", "0 PCMU/8000", "97 PCMA/8000"]
        );
        let all_taken: Vec<_> = (0..128).map(|n| Codec::new(n, "exotic/8000", &[])).collect();
        assert_eq!(widened(&all_taken), all_taken, "nothing can be made of it");
    }

    #[test]
    fn where_there_is_a_codec_in_common_nothing_else_is_answered() {
        let phone = [pcmu(), Codec::new(101, "telephone-event/8000", &[])];
        let browser = [
            Codec::new(97, "opus/48000/2", &[]),
            Codec::new(0, "PCMU/8000", &[]),
            Codec::new(98, "telephone-event/48000", &[]),
            Codec::new(101, "telephone-event/8000", &[]),
        ];
        let answer = answered(&phone, &browser, true).unwrap();
        assert_eq!(names(&answer), ["0 PCMU/8000", "101 telephone-event/8000"]);
    }

    #[test]
    fn without_one_the_offerer_gets_one_of_its_own() {
        let phone = [
            Codec::new(18, "G729/8000", &[]),
            Codec::new(8, "PCMA/8000", &[]),
            pcmu(),
            Codec::new(101, "telephone-event/8000", &["0-16"]),
        ];
        let opus = Codec::new(97, "opus/48000/2", &[]);
        let events = Codec::new(98, "telephone-event/48000", &[]);
        let answer = answered(&phone, &[opus.clone(), events], true).unwrap();
        assert_eq!(names(&answer), ["8 PCMA/8000", "101 telephone-event/8000"]);
        let answer = answered(&phone, std::slice::from_ref(&opus), true).unwrap();
        assert_eq!(names(&answer), ["8 PCMA/8000"]);
        assert_eq!(answered(&phone, &[opus], false), None);
        let exotic = Codec::new(99, "exotic/8000", &[]);
        assert_eq!(answered(&phone, &[exotic], true), None);
    }
}
