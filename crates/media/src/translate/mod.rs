//! One direction of a call whose sides do not share every codec.
//!
//! A translator in the sense of RFC 3550 §7.2: it decodes what one side says and
//! encodes it as the other takes it, keeps the source's SSRC, gives the packets
//! numbers and times of its own, and says so in the reports that pass by.
//!
//! Feed it the plain packets of one leg, then drain [`Translator::poll_output`]
//! into the partner leg, and once more when [`Translator::poll_timeout`] says so.

mod coding;
mod press;
mod reorder;
mod routes;
mod timeline;

use std::time::Instant;

pub use self::press::Press;
use self::press::Presses;
pub use self::routes::Routes;

use self::coding::Coding;
use self::reorder::{Reorder, Slot};
use self::routes::{Pair, Route};
use self::timeline::{Place, Timeline};
use crate::packet::PacketBuf;
use crate::rtcp::sources::{self, Original};
use crate::rtp::{RtpInfo, write_header};

/// Of what passes as it comes since the sides share a codec: said and told by the
/// same.
const UNKNOWN_CLOCK: u32 = 8000;

/// What a direction did since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Packets that were made.
    pub made: u32,
    /// Packets' worth of sound that was lost and made up for.
    pub concealed: u32,
    /// Packets that came after their turn.
    pub late: u32,
    /// Packets that nothing could be made of.
    pub refused: u32,
}

pub struct Translator {
    /// `None` where everything that is said is taken as it comes by now: the
    /// stream goes on by its own numbers.
    routes: Option<Routes>,
    stream: Option<Stream>,
    coding: Option<Coding>,
    figures: Figures,
    /// Keys that are pressed between its packets.
    presses: Presses,
}

/// One synchronisation source.
struct Stream {
    ssrc: u32,
    reorder: Reorder,
    timeline: Timeline,
    /// Of the next packet out.
    sequence: u16,
    /// The next packet begins to speak (RFC 3551 §4.1).
    begins: bool,
    /// Of the source's last packet that was taken in.
    heard: u16,
    /// The event that is going on: its time as it was said, and as it is told.
    event: Option<(u32, u32)>,
    /// Packets lost before the next by another way than their numbers tell.
    spoilt: u64,
    /// As a sender report counts them.
    packets: u32,
    octets: u32,
}

impl Translator {
    pub fn new(routes: Routes) -> Self {
        Self {
            routes: Some(routes),
            stream: None,
            coding: None,
            figures: Figures::default(),
            presses: Presses::default(),
        }
    }

    /// The sides have agreed to something else.
    pub fn set_routes(&mut self, routes: Option<Routes>) {
        self.routes = routes;
    }

    /// Whether there is anything to do with a packet of this payload type. From
    /// the first time on there is with all of them.
    pub fn is_needed_for(&self, payload_type: u8) -> bool {
        let leaves_alone = || self.routes.as_ref().is_none_or(|it| it.leaves_alone(payload_type));
        self.stream.is_some() || !leaves_alone()
    }

    /// Something of what is said is made into something else.
    pub fn transcodes(&self) -> bool {
        self.routes.as_ref().is_some_and(Routes::transcodes)
    }

    /// A packet of the stream has been seen.
    pub fn is_at_work(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes a plain packet.
    pub fn receive(&mut self, now: Instant, info: &RtpInfo, packet: &[u8]) {
        let Ok(payload) = info.payload(packet) else { return };
        let is_same = self.stream.as_ref().is_some_and(|it| it.ssrc == info.ssrc);
        if !is_same {
            self.stream = Some(Stream::new(now, info));
            self.coding.iter_mut().for_each(Coding::forget);
        }
        if let Some(stream) = &mut self.stream {
            stream.reorder.push(now, info, payload);
            self.figures.late += std::mem::take(&mut stream.reorder.late);
        }
    }

    /// The next packet for the other side, plain. False when there is none now.
    pub fn poll_output(&mut self, now: Instant, packet: &mut PacketBuf) -> bool {
        if self.write_press(now, packet) {
            return true;
        }
        loop {
            if self.write_sound(packet) {
                return true;
            }
            let Some((slot, lost)) = self.stream.as_ref().and_then(|it| it.reorder.peek(now))
            else {
                return false;
            };
            let route = self.route(slot.number);
            if self.breaks(slot, lost, route) {
                // What is left of the sound before it comes first.
                self.round_up();
                continue;
            }
            let Some(slot) = self.stream.as_mut().and_then(|it| it.reorder.take()) else {
                return false;
            };
            let is_written = self.take_in(&slot, lost, route, packet);
            if let Some(stream) = &mut self.stream {
                stream.heard = slot.sequence;
                stream.reorder.give_back(slot);
            }
            if is_written {
                return true;
            }
        }
    }

    /// When what waits behind a missing packet goes on without it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held_up = self.stream.as_ref().and_then(|it| it.reorder.deadline());
        held_up.into_iter().chain(self.presses.poll_timeout()).min()
    }

    pub fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    fn route(&self, number: u8) -> Route {
        match &self.routes {
            Some(routes) => routes.route(number).unwrap_or(Route::Refuse),
            None => Route::Pass(number, UNKNOWN_CLOCK),
        }
    }

    fn round_up(&mut self) {
        if let Some((stream, coding)) = self.stream.as_mut().zip(self.coding.as_mut()) {
            let added = coding.round_up();
            stream.timeline.lengthen(coding.units_of(added));
        }
    }

    /// Whether sound that waits for a packet of its own is not going to be
    /// continued by this one.
    fn breaks(&self, slot: &Slot, lost: u64, route: Route) -> bool {
        let Some((stream, coding)) = self.stream.as_ref().zip(self.coding.as_ref()) else {
            return false;
        };
        if coding.is_empty() {
            return false;
        }
        match route {
            Route::Transcode(pair) => {
                let place = stream.timeline.place(slot, lost + stream.spoilt);
                !self.suits(pair) || place.is_apart()
            }
            Route::Pass(..) => true,
            Route::Event { .. } | Route::Silence | Route::Refuse => false,
        }
    }

    fn suits(&self, pair: Pair) -> bool {
        let packet_ms = self.routes.as_ref().map_or(0, |it| it.packet_ms);
        self.coding.as_ref().is_some_and(|it| it.suits(pair, packet_ms))
    }

    /// True when a packet was written.
    fn take_in(&mut self, slot: &Slot, lost: u64, route: Route, packet: &mut PacketBuf) -> bool {
        match route {
            Route::Transcode(pair) => {
                self.take_sound(slot, lost, pair);
                false
            }
            Route::Pass(number, clock) => {
                let Some(stream) = &mut self.stream else { return false };
                stream.timeline.set_clocks(slot, (clock, clock));
                let place = stream.timeline.place(slot, 0);
                let ts = stream.timeline.take(slot, place, 0);
                stream.write(slot.marker, number, ts, &slot.payload, packet)
            }
            Route::Event { number, from_clock, to_clock } => {
                let Some(stream) = &mut self.stream else { return false };
                let ts = stream.event_time(slot);
                let is_written = stream.write(slot.marker, number, ts, &slot.payload, packet);
                scale_duration(packet, from_clock, to_clock);
                is_written
            }
            // The next sound lies behind a pause.
            Route::Silence => false,
            Route::Refuse => {
                self.figures.refused += 1;
                false
            }
        }
    }

    fn take_sound(&mut self, slot: &Slot, lost: u64, pair: Pair) {
        if !self.suits(pair) {
            let packet_ms = self.routes.as_ref().map_or(0, |it| it.packet_ms);
            self.coding = Coding::new(pair, packet_ms).ok();
        }
        let Some((stream, coding)) = self.stream.as_mut().zip(self.coding.as_mut()) else { return };
        let clocks = (pair.from.clock_rate(), pair.to.clock_rate());
        stream.timeline.set_clocks(slot, clocks);
        let place = stream.timeline.place(slot, lost + stream.spoilt);
        let missing = match place {
            Place::Behind { missing, .. } => coding.samples_of(missing),
            Place::Next | Place::Apart { .. } => 0,
        };
        match coding.take(&slot.payload, missing) {
            Some(taken) => {
                self.figures.concealed += taken.concealed;
                stream.spoilt = 0;
                stream.begins |= place.is_apart();
                stream.timeline.take(slot, place, coding.units_of(taken.samples));
            }
            None => {
                self.figures.refused += 1;
                stream.spoilt += 1;
            }
        }
    }

    /// Encodes a packet of what was decoded, if there is enough for one.
    fn write_sound(&mut self, packet: &mut PacketBuf) -> bool {
        let Some((stream, coding)) = self.stream.as_mut().zip(self.coding.as_mut()) else {
            return false;
        };
        let behind = coding.units_of(coding.waiting());
        let number = coding.number();
        let Some(payload) = coding.encode() else { return false };
        let ts = stream.timeline.end().wrapping_sub(behind);
        let marker = std::mem::take(&mut stream.begins);
        self.figures.made += 1;
        stream.write(marker, number, ts, payload, packet)
    }

    /// Makes the sender's reports on this stream true for the other side.
    pub fn tell(&self, compound: &mut [u8]) {
        let Some(stream) = &self.stream else { return };
        sources::for_each(compound, |report| {
            sources::change_sender(report, stream.ssrc, |said| {
                let timestamp = stream.timeline.map(said);
                (timestamp, stream.packets, stream.octets)
            });
        });
    }

    /// Brings what the other side reports on this stream back to the source's own
    /// numbers.
    pub fn restore(&self, compound: &mut [u8]) {
        let Some(stream) = &self.stream else { return };
        let sequence = (stream.heard, stream.sequence.wrapping_sub(1));
        let original = Original { ssrc: stream.ssrc, sequence };
        sources::for_each(compound, |report| {
            sources::restore_reported(report, |ssrc| (ssrc == stream.ssrc).then_some(original));
        });
    }
}

impl Stream {
    fn new(now: Instant, info: &RtpInfo) -> Self {
        Self {
            ssrc: info.ssrc,
            reorder: Reorder::new(info.sequence),
            timeline: Timeline::new(now, info.timestamp),
            sequence: info.sequence,
            begins: true,
            heard: info.sequence,
            event: None,
            spoilt: 0,
            packets: 0,
            octets: 0,
        }
    }

    fn write(
        &mut self,
        marker: bool,
        number: u8,
        timestamp: u32,
        payload: &[u8],
        packet: &mut PacketBuf,
    ) -> bool {
        let header = write_header(marker, number, self.sequence, timestamp, self.ssrc);
        let is_written = packet.copy_from(&header) && packet.append(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        is_written
    }

    /// All packets of an event have the time at which it began (RFC 4733 §2.2.1).
    /// Some write it by the event's clock, some by the sound's: what counts is
    /// that it is the same within an event and another with the next.
    fn event_time(&mut self, slot: &Slot) -> u32 {
        if let Some((said, told)) = self.event
            && said == slot.timestamp
        {
            return told;
        }
        let mut told = self.timeline.beside(slot);
        if let Some((_, former)) = self.event
            && told.wrapping_sub(former) as i32 <= 0
        {
            told = former.wrapping_add(1);
        }
        self.event = Some((slot.timestamp, told));
        told
    }
}

/// The duration of an event in the units of another clock; one too long to say
/// is told as the longest (RFC 4733 §2.5.1.3).
fn scale_duration(packet: &mut PacketBuf, from_clock: u32, to_clock: u32) {
    let payload = packet.as_mut_slice().get_mut(crate::rtp::FIXED_HEADER..);
    let Some(field) = payload.and_then(|it| it.get_mut(2..4)?.first_chunk_mut::<2>()) else {
        return;
    };
    let duration = u64::from(u16::from_be_bytes(*field));
    let duration = duration * u64::from(to_clock) / u64::from(from_clock.max(1));
    *field = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
}
