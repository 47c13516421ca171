//! Keys from a side that says them by INFO to one that has them in its media
//! (RFC 4733), and back. Between sides that agree they pass as they are.

use landline_control::{Key, LegId, Op, Request as RelayRequest, SessionId};
use landline_sip::{HeaderName, Method, Request, ServerKey, StatusCode};

use super::message::push_warning;
use super::{A, Call, Phase};
use crate::context::{ClientUse, Context};
use crate::negotiate::LegMedia;
use crate::relays::RelayStep;

const RELAY: &str = "application/dtmf-relay";
const PLAIN: &str = "application/dtmf";
/// What a key lasts where nobody said how long.
const USUAL_MS: u16 = 160;
/// INFO requests of ours that are unanswered at a time.
const MOST_UNDER_WAY: u8 = 16;
/// In the order of their events (RFC 4733 §3.2).
const KEYS: &[u8; 16] = b"0123456789*#ABCD";

impl Call {
    /// An INFO that says a key, to a side that wants it as an event. False where
    /// it is to pass.
    pub(super) fn press(
        &mut self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: &Request,
    ) -> bool {
        // What belongs to a package is the package's (RFC 6086).
        if request.headers.contains(&HeaderName::parse("Info-Package")) {
            return false;
        }
        let Some(kind) = kind_of(request) else { return false };
        if let Some(it) = self.legs.get_mut(leg) {
            it.says_keys_by_info = true;
        }
        let Some(toward) = self.other(leg).and_then(|it| self.legs.get(it)) else { return false };
        let takes = toward.media.as_ref().is_some_and(LegMedia::takes_events);
        if !takes || toward.says_keys_by_info || self.phase != Phase::Up {
            return false;
        }
        let toward = toward.relay_leg;
        let Some(pressed) = read(kind, &request.body) else {
            cx.counters.keys_refused += 1;
            let Some(dialog) = self.legs.get(leg).and_then(|it| it.dialog.as_ref()) else {
                return false;
            };
            let mut response = dialog.respond(request, StatusCode::BAD_REQUEST);
            push_warning(cx, &mut response, 399, "no key can be read from the body");
            cx.respond(key, response);
            return true;
        };
        self.answer_here(cx, leg, key, request, StatusCode::OK);
        cx.counters.keys_to_events += 1;
        if let Some(session) = self.session.clone().filter(|it| !it.lost) {
            let change = RelayRequest::Change(session.id, vec![Op::Press(toward, pressed)]);
            cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
        }
        true
    }

    /// The key that an INFO says; `Some(None)`: none can be read.
    pub(super) fn key_said(request: &Request) -> Option<Option<Key>> {
        kind_of(request).map(|kind| read(kind, &request.body))
    }

    /// A key that the relay has heard of a leg: the other side hears it by INFO.
    pub(super) fn key_pressed(
        &mut self,
        cx: &mut Context,
        session: SessionId,
        leg: LegId,
        pressed: Key,
    ) {
        if self.session.as_ref().is_none_or(|it| it.id != session) || self.ending.is_some() {
            return;
        }
        if self.is_in_mailbox() {
            return self.mailbox_key(cx, pressed);
        }
        let leg = self.legs.iter().position(|it| it.relay_leg == leg);
        let Some(toward) = leg.and_then(|leg| self.other(leg)) else { return };
        let name = KEYS.get(usize::from(pressed.event)).filter(|_| self.phase == Phase::Up);
        let (Some(name), true) = (name, self.keys_under_way < MOST_UNDER_WAY) else {
            cx.counters.keys_refused += 1;
            return;
        };
        let call = self.key;
        let Some(it) = self.legs.get_mut(toward) else { return };
        let Some(dialog) = it.dialog.as_mut() else { return };
        let mut info = dialog.request(Method::Info);
        let body =
            format!("Signal={}\r\nDuration={}\r\n", char::from(*name), pressed.duration_ms.max(1));
        info.set_body(RELAY, body);
        it.prove(cx, &mut info);
        if let Some(destination) = it.destination(cx) {
            cx.counters.keys_to_info += 1;
            self.keys_under_way += 1;
            cx.send(ClientUse::Pass { call, leg: toward }, info, destination);
        }
    }

    /// An INFO of ours has its answer, whatever it is.
    pub(super) fn key_answered(&mut self) {
        self.keys_under_way = self.keys_under_way.saturating_sub(1);
    }

    /// Of which legs the relay is to tell the keys: the other side takes none in
    /// its media. Goes for as long as a description does.
    pub(super) fn key_ops(&self, one: usize, other: usize) -> Vec<Op> {
        let takes = |leg: usize| {
            let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
            media.is_some_and(LegMedia::takes_events)
        };
        let pairs = [(one, other), (other, one)].into_iter();
        let told = pairs.filter(|(from, to)| takes(*from) && !takes(*to));
        let legs = told.filter_map(|(from, _)| self.legs.get(from));
        legs.map(|leg| Op::TellKeys(leg.relay_leg)).collect()
    }

    /// After another process had the call: as its sides agreed to it.
    pub(super) fn convert_keys_again(&mut self, winner: usize) {
        for (leg, other) in [(A, winner), (winner, A)] {
            let takes = |leg: usize| {
                let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
                media.is_some_and(LegMedia::takes_events)
            };
            let adds = takes(leg) && !takes(other);
            if let Some(media) = self.legs.get_mut(leg).and_then(|it| it.media.as_mut()) {
                media.adds_events(adds);
            }
        }
    }

    /// One leg's side may have keys in its media although the other has not, if
    /// that one takes them by INFO. Another proxy of ours passes INFO on, and
    /// converts for its own side.
    pub(super) fn convert_keys(&mut self, leg: usize, other: usize) {
        let takes_info = self.legs.get(other).is_some_and(|it| it.takes_info);
        let Some(it) = self.legs.get_mut(leg) else { return };
        let adds = takes_info && !it.side.is_region();
        if let Some(media) = it.media.as_mut() {
            media.adds_events(adds);
        }
    }
}

fn kind_of(request: &Request) -> Option<&'static str> {
    let kind = request.headers.get(&HeaderName::ContentType)?.to_str_lossy();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_key = request.method == Method::Info;
    [RELAY, PLAIN].into_iter().find(|known| is_key && *known == kind)
}

/// `Signal=5` and `Duration=160`, or the key alone.
fn read(kind: &str, body: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(body).ok()?;
    if kind == PLAIN && !text.contains('=') {
        return Some(Key { event: event_of(text)?, duration_ms: USUAL_MS });
    }
    let mut key = Key { event: u8::MAX, duration_ms: USUAL_MS };
    for line in text.lines().take(8) {
        let Some((name, value)) = line.split_once('=') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "signal" => key.event = event_of(value)?,
            "duration" => key.duration_ms = value.trim().parse().ok()?,
            _ => {}
        }
    }
    (key.event != u8::MAX).then_some(key)
}

/// A key by its name, or by the number of its event.
fn event_of(name: &str) -> Option<u8> {
    let name = name.trim();
    if let [letter] = name.as_bytes() {
        let place = KEYS.iter().position(|key| key.eq_ignore_ascii_case(letter))?;
        return u8::try_from(place).ok();
    }
    name.parse().ok().filter(|event| usize::from(*event) < KEYS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_phones_write_them() {
        let key = |event, duration_ms| Some(Key { event, duration_ms });
        assert_eq!(read(RELAY, b"Signal=5\r\nDuration=240\r\n"), key(5, 240));
        assert_eq!(read(RELAY, b"Signal= *\nDuration= 100"), key(10, 100));
        assert_eq!(read(RELAY, b"signal=11"), key(11, USUAL_MS));
        assert_eq!(read(RELAY, b"Signal=d\r\n"), key(15, USUAL_MS));
        assert_eq!(read(PLAIN, b"#"), key(11, USUAL_MS));
        assert_eq!(read(PLAIN, b" 0 \r\n"), key(0, USUAL_MS));
        for bad in [
            &b""[..],
            b"Signal=",
            b"Signal=x",
            b"Duration=5",
            b"Signal=16",
            b"\xff",
            b"Signal=1\r\nDuration=-1",
        ] {
            assert_eq!(read(RELAY, bad), None, "{bad:?}");
        }
        assert_eq!(read(PLAIN, b""), None);
    }
}
