//! What becomes of each payload type between two sides that do not share every
//! codec.

use landline_control::{PayloadType, Spoken};
use smallvec::SmallVec;

use super::UNKNOWN_CLOCK;
use crate::audio::Codec;

/// As long as packets are when nobody said how long (RFC 3551 §4.2).
const USUAL_MS: u16 = 20;

/// One direction of a call: what one side says, as the other takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    routes: SmallVec<[(u8, Route); 8]>,
    /// Milliseconds of sound in each packet that is made.
    pub(super) packet_ms: u16,
    /// What nobody has told of passes.
    passes_rest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The other side takes it, by this number; on this clock.
    Pass(u8, u32),
    Transcode(Pair),
    /// An event (RFC 4733), in units of this share of its duration.
    Event {
        number: u8,
        from_clock: u32,
        to_clock: u32,
    },
    /// Comfort noise, which the other side's codec has no need of.
    Silence,
    /// Nothing that the other side takes can be made of it.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub from: Codec,
    pub to: Codec,
    /// What the other side takes it by.
    pub number: u8,
}

impl Routes {
    /// `None` when all speech goes as it comes: then there is nothing to do.
    pub fn new(from: &Spoken, to: &Spoken) -> Option<Self> {
        let target = to.takes.iter().find_map(|kind| Some((codec_of(kind)?, kind.number)));
        let route = |kind: &PayloadType| {
            let taken = to.takes.iter().find(|it| it.is_same_format(kind)).map(|it| it.number);
            match (kind.encoding.as_str(), taken, codec_of(kind), target) {
                ("TELEPHONE-EVENT", ..) => event(kind, to, target.map(|it| it.0)),
                (_, Some(number), ..) => Route::Pass(number, kind.clock_rate.max(1)),
                (_, None, Some(from), Some((to, number))) => {
                    Route::Transcode(Pair { from, to, number })
                }
                ("CN", ..) => Route::Silence,
                _ => Route::Refuse,
            }
        };
        let routes: SmallVec<_> = from.says.iter().map(|kind| (kind.number, route(kind))).collect();
        let packet_ms = to.packet_ms.unwrap_or(USUAL_MS);
        Some(Self { routes, packet_ms, passes_rest: false }).filter(Self::transcodes)
    }

    /// Everything as it comes, on its own clock.
    pub fn passing(types: &[PayloadType]) -> Self {
        let route = |kind: &PayloadType| {
            let clock = kind.clock_rate.max(1);
            let route = match kind.encoding.as_str() {
                "TELEPHONE-EVENT" => {
                    Route::Event { number: kind.number, from_clock: clock, to_clock: clock }
                }
                _ => Route::Pass(kind.number, clock),
            };
            (kind.number, route)
        };
        let routes = types.iter().map(route).collect();
        Self { routes, packet_ms: USUAL_MS, passes_rest: true }
    }

    pub(super) fn transcodes(&self) -> bool {
        self.routes.iter().any(|(_, it)| matches!(it, Route::Transcode(_)))
    }

    pub(super) fn route(&self, number: u8) -> Option<Route> {
        let known = self.routes.iter().find(|(it, _)| *it == number).map(|(_, route)| *route);
        known.or_else(|| self.passes_rest.then_some(Route::Pass(number, UNKNOWN_CLOCK)))
    }

    /// The packet goes as it comes.
    pub(super) fn leaves_alone(&self, number: u8) -> bool {
        match self.route(number) {
            Some(Route::Pass(to, _)) => to == number,
            Some(Route::Event { number: to, from_clock, to_clock }) => {
                to == number && from_clock == to_clock
            }
            Some(_) => false,
            None => true,
        }
    }
}

/// Events go on the clock of the sound beside them (RFC 4733 §2.1), if the other
/// side has them so.
fn event(kind: &PayloadType, to: &Spoken, beside: Option<Codec>) -> Route {
    let clock = beside.map_or(kind.clock_rate, Codec::clock_rate);
    let taken = || to.takes.iter().filter(|it| it.encoding == kind.encoding);
    match taken().find(|it| it.clock_rate == clock).or_else(|| taken().next()) {
        Some(it) => Route::Event {
            number: it.number,
            from_clock: kind.clock_rate.max(1),
            to_clock: it.clock_rate,
        },
        None => Route::Refuse,
    }
}

fn codec_of(kind: &PayloadType) -> Option<Codec> {
    Codec::from_encoding(&kind.encoding).filter(|codec| codec.clock_rate() == kind.clock_rate)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn kind(number: u8, encoding: &str, clock_rate: u32) -> PayloadType {
        let channels = if encoding == "OPUS" { 2 } else { 1 };
        PayloadType { number, encoding: encoding.to_owned(), clock_rate, channels }
    }

    pub fn speaks(types: &[PayloadType]) -> Spoken {
        Spoken { says: types.to_vec(), takes: types.to_vec(), packet_ms: None }
    }

    #[test]
    fn sides_with_a_codec_in_common_have_no_routes() {
        let phone = speaks(&[kind(0, "PCMU", 8000), kind(101, "TELEPHONE-EVENT", 8000)]);
        let browser = speaks(&[kind(111, "OPUS", 48_000), kind(0, "PCMU", 8000)]);
        assert_eq!(Routes::new(&phone, &browser), None);
        assert_eq!(Routes::new(&phone, &phone), None);
        let odd = speaks(&[kind(18, "G729", 8000)]);
        assert_eq!(Routes::new(&odd, &phone), None, "what we do not know is not transcoded");
    }

    #[test]
    fn only_what_the_other_side_does_not_take_is_transcoded() {
        let phone = speaks(&[kind(8, "PCMA", 8000), kind(101, "TELEPHONE-EVENT", 8000)]);
        let browser = speaks(&[
            kind(8, "PCMA", 8000),
            kind(111, "OPUS", 48_000),
            kind(13, "CN", 8000),
            kind(63, "RED", 48_000),
            kind(110, "TELEPHONE-EVENT", 48_000),
        ]);
        let routes = Routes::new(&browser, &phone).unwrap();
        assert!(routes.leaves_alone(8) && !routes.leaves_alone(111));
        let pair = Pair { from: Codec::Opus, to: Codec::Pcma, number: 8 };
        assert_eq!(routes.route(111), Some(Route::Transcode(pair)));
        assert_eq!(routes.route(13), Some(Route::Silence));
        assert_eq!(routes.route(63), Some(Route::Refuse));
        let event = Route::Event { number: 101, from_clock: 48_000, to_clock: 8000 };
        assert_eq!(routes.route(110), Some(event));
    }

    #[test]
    fn events_go_on_the_clock_of_the_codec_beside_them() {
        let phone = speaks(&[kind(0, "PCMU", 8000), kind(101, "TELEPHONE-EVENT", 8000)]);
        let browser = speaks(&[
            kind(111, "OPUS", 48_000),
            kind(126, "TELEPHONE-EVENT", 8000),
            kind(110, "TELEPHONE-EVENT", 48_000),
        ]);
        let routes = Routes::new(&phone, &browser).unwrap();
        let event = Route::Event { number: 110, from_clock: 8000, to_clock: 48_000 };
        assert_eq!(routes.route(101), Some(event));
        let deaf = speaks(&[kind(111, "OPUS", 48_000)]);
        assert_eq!(Routes::new(&phone, &deaf).unwrap().route(101), Some(Route::Refuse));
    }
}
