use std::time::Instant;

use landline_control::{PayloadType, StreamStats};

use crate::quality;
use crate::rtp::RtpInfo;

/// A jump of sequence numbers that means a new stream, not loss (RFC 3550
/// appendix A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;
/// How far back a late packet may lie (appendix A.1, MAX_MISORDER).
const MAX_MISORDER: u16 = 100;

/// What arrives from the peer, and what quality it has.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    totals: StreamStats,
    stream: Option<Stream>,
    /// Lost of the streams before the present one.
    lost_before: u64,
    last_audio: Option<u8>,
    last_event: Option<u32>,
}

/// How far the peer's present stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub ssrc: u32,
    /// The highest so far.
    pub sequence: u16,
    /// Of the last packet, when that came, and by which clock in Hz it counts.
    pub timestamp: u32,
    pub at: Instant,
    pub clock: u32,
    /// As a sender would count them.
    pub packets: u32,
    pub octets: u32,
}

/// One synchronisation source.
#[derive(Debug, Clone)]
struct Stream {
    ssrc: u32,
    first: u64,
    /// The extended highest sequence number received.
    highest: u64,
    received: u64,
    /// RTP time of the last packet and when it came, at its clock rate.
    last: (u32, Instant, u32),
    /// In sixteenths of a timestamp unit, as RFC 3550 appendix A.8 keeps it.
    jitter: u32,
    jitter_us: u32,
}

impl Reception {
    pub fn rtp(&mut self, now: Instant, info: &RtpInfo, octets: usize, kind: Option<&PayloadType>) {
        self.totals.packets += 1;
        self.totals.octets += octets as u64;
        let rate = kind.map_or(8000, |kind| kind.clock_rate.max(1));
        match &mut self.stream {
            Some(stream) if stream.follows(info) => stream.count(now, info, rate),
            _ => {
                self.lost_before += self.stream.as_ref().map_or(0, Stream::lost);
                self.stream = Some(Stream::new(now, info, rate));
            }
        }
        match kind {
            Some(kind) if is_event(kind) => self.event(info.timestamp),
            Some(kind) if kind.encoding != "CN" => self.last_audio = Some(info.payload_type),
            _ => {}
        }
    }

    /// All packets of one event carry the time at which it began (RFC 4733
    /// §2.2.1); a late one carries an earlier time than the last.
    fn event(&mut self, timestamp: u32) {
        if self.last_event.is_none_or(|last| (timestamp.wrapping_sub(last) as i32) > 0) {
            self.last_event = Some(timestamp);
            self.totals.dtmf_events += 1;
        }
    }

    pub fn rtcp(&mut self) {
        self.totals.rtcp_packets += 1;
    }

    pub fn last_audio(&self) -> Option<u8> {
        self.last_audio
    }

    pub fn heard(&self) -> Option<Heard> {
        let stream = self.stream.as_ref()?;
        let (timestamp, at, clock) = stream.last;
        Some(Heard {
            ssrc: stream.ssrc,
            sequence: stream.highest as u16,
            timestamp,
            at,
            clock,
            packets: (stream.highest - stream.first + 1) as u32,
            octets: self.totals.octets as u32,
        })
    }

    pub fn totals(&self) -> StreamStats {
        let stream = self.stream.as_ref();
        StreamStats {
            lost: self.lost_before + stream.map_or(0, Stream::lost),
            jitter_us: stream.map_or(0, |stream| stream.jitter_us),
            ..self.totals
        }
    }

    /// MOS × 100 of what was received, or `None` before anything was.
    pub fn mos_x100(&self, codec: Option<&str>) -> Option<u16> {
        let totals = self.totals();
        (totals.packets > 0).then(|| {
            let expected = totals.packets + totals.lost;
            let loss = totals.lost as f64 / expected as f64;
            quality::mos_x100(codec, loss, f64::from(totals.jitter_us) / 1000.0)
        })
    }
}

impl Stream {
    fn new(now: Instant, info: &RtpInfo, rate: u32) -> Self {
        // Start one cycle up, so that early packets of the stream that arrive
        // late have a number as well.
        let first = 1 << 16 | u64::from(info.sequence);
        Self {
            ssrc: info.ssrc,
            first,
            highest: first,
            received: 1,
            last: (info.timestamp, now, rate),
            jitter: 0,
            jitter_us: 0,
        }
    }

    fn follows(&self, info: &RtpInfo) -> bool {
        let ahead = info.sequence.wrapping_sub(self.highest as u16);
        info.ssrc == self.ssrc && !(MAX_DROPOUT..=u16::MAX - MAX_MISORDER).contains(&ahead)
    }

    fn count(&mut self, now: Instant, info: &RtpInfo, rate: u32) {
        self.received += 1;
        let ahead = info.sequence.wrapping_sub(self.highest as u16);
        if ahead < MAX_DROPOUT {
            self.highest += u64::from(ahead);
        } else {
            let behind = u64::from(ahead.wrapping_neg());
            self.first = self.first.min(self.highest.saturating_sub(behind));
        }
        self.measure_jitter(now, info.timestamp, rate);
    }

    /// RFC 3550 §6.4.1 and appendix A.8.
    fn measure_jitter(&mut self, now: Instant, timestamp: u32, rate: u32) {
        let (last_timestamp, last_arrival, last_rate) = self.last;
        self.last = (timestamp, now, rate);
        if rate != last_rate {
            return;
        }
        let elapsed = now.saturating_duration_since(last_arrival).as_micros();
        let elapsed = (elapsed * u128::from(rate) / 1_000_000) as i64;
        let sent = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
        // A pause or a new talkspurt with its own clock is no jitter.
        let difference = (elapsed - sent).unsigned_abs().min(u64::from(rate)) as u32;
        self.jitter = self.jitter.wrapping_add(difference).wrapping_sub((self.jitter + 8) >> 4);
        self.jitter_us = (u64::from(self.jitter >> 4) * 1_000_000 / u64::from(rate)) as u32;
    }

    fn lost(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.received)
    }
}

/// What goes to the peer.
#[derive(Debug, Clone, Default)]
pub struct Transmission {
    totals: StreamStats,
    last_event: Option<u32>,
}

impl Transmission {
    pub fn rtp(&mut self, info: &RtpInfo, octets: usize, kind: Option<&PayloadType>) {
        self.totals.packets += 1;
        self.totals.octets += octets as u64;
        let newer = |last: u32| (info.timestamp.wrapping_sub(last) as i32) > 0;
        if kind.is_some_and(is_event) && self.last_event.is_none_or(newer) {
            self.last_event = Some(info.timestamp);
            self.totals.dtmf_events += 1;
        }
    }

    pub fn rtcp(&mut self) {
        self.totals.rtcp_packets += 1;
    }

    pub fn totals(&self) -> StreamStats {
        self.totals
    }
}

pub fn is_event(kind: &PayloadType) -> bool {
    kind.encoding.eq_ignore_ascii_case("TELEPHONE-EVENT")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtp::write_header;

    fn kind(encoding: &str) -> PayloadType {
        PayloadType { number: 0, encoding: encoding.into(), clock_rate: 8000, channels: 1 }
    }

    fn feed(reception: &mut Reception, now: Instant, sequence: u16, timestamp: u32, ssrc: u32) {
        let header = write_header(false, 0, sequence, timestamp, ssrc);
        let info = RtpInfo::parse(&header).unwrap();
        reception.rtp(now, &info, 160, Some(&kind("PCMU")));
    }

    #[test]
    fn loss_is_counted_across_the_wrap_and_late_packets_are_not_lost() {
        let mut reception = Reception::default();
        let now = Instant::now();
        for sequence in [65_533, 65_535, 65_534, 1, 2] {
            feed(&mut reception, now, sequence, 0, 1);
        }
        assert_eq!(reception.totals().lost, 1, "only 0 is missing");
    }

    #[test]
    fn a_new_source_starts_its_own_count() {
        let mut reception = Reception::default();
        let now = Instant::now();
        feed(&mut reception, now, 10, 0, 1);
        feed(&mut reception, now, 12, 0, 1);
        feed(&mut reception, now, 40_000, 0, 2);
        feed(&mut reception, now, 40_002, 0, 2);
        assert_eq!(reception.totals().lost, 2);
    }

    #[test]
    fn steady_packets_have_no_jitter_and_uneven_ones_do() {
        let start = Instant::now();
        let mut reception = Reception::default();
        for n in 0..100u16 {
            let late = Duration::from_millis(u64::from(n) * 20);
            feed(&mut reception, start + late, n, u32::from(n) * 160, 1);
        }
        assert_eq!(reception.totals().jitter_us, 0);
        for n in 100..400u16 {
            let late = Duration::from_millis(u64::from(n) * 20 + u64::from(n % 2) * 10);
            feed(&mut reception, start + late, n, u32::from(n) * 160, 1);
        }
        let jitter = reception.totals().jitter_us;
        assert!((9_000..=10_500).contains(&jitter), "{jitter}");
    }

    #[test]
    fn an_event_counts_once_however_many_packets_carry_it() {
        let mut reception = Reception::default();
        for (sequence, timestamp) in [(1, 800), (2, 800), (3, 800), (4, 4000), (5, 800), (6, 4000)]
        {
            let info = RtpInfo::parse(&write_header(false, 101, sequence, timestamp, 1)).unwrap();
            reception.rtp(Instant::now(), &info, 4, Some(&kind("TELEPHONE-EVENT")));
        }
        assert_eq!(reception.totals().dtmf_events, 2);
    }
}
