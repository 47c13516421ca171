use landline_media::DropCause;
use landline_media::translate::Figures;
use prometheus::IntCounter;

use crate::metrics::Metrics;

/// What a shard counts between two flushes: plain integers, so that a packet
/// costs no atomic operation.
pub(super) struct Counters {
    pub packets_received: u64,
    pub octets_received: u64,
    pub packets_sent: u64,
    pub octets_sent: u64,
    /// Of them, those that the kernel did not send after all.
    unsent: u64,
    pub video_packets: u64,
    pub recording_frames: u64,
    pub recording_drops: u64,
    transcoded_packets: u64,
    concealed_packets: u64,
    late_packets: u64,
    pub played_packets: u64,
    media_drops: [u64; DropCause::ALL.len()],
    own_drops: [u64; OwnDrop::ALL.len()],
    any_drop: bool,
    metrics: Metrics,
    media_drop_counters: Vec<IntCounter>,
    own_drop_counters: Vec<IntCounter>,
}

/// Why the relay itself let a packet go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnDrop {
    /// The leg is joined to no other.
    Unjoined,
    /// The partner could not send: no address, no keys or not its direction.
    PartnerNotReady,
    /// Longer than any packet may be.
    TooLong,
    /// The kernel refused it.
    SendFailed,
    ReceiveFailed,
    /// Nothing that the partner takes can be made of it.
    NoCodec,
    /// The peer reads its connection too slowly.
    StreamFull,
    /// Silence of a phone whose partner is played something in its place.
    PlayedOver,
    /// Keys that were pressed faster than anybody does, or more than can wait.
    TooManyKeys,
    /// Video of a call that is recorded: the recording would not hold it.
    Unrecorded,
    /// On the port that legs with ICE share: a check that names none of them.
    UnknownFragment,
    /// There, too: no check, and from an address that no check has proved.
    UnknownSource,
}

impl OwnDrop {
    const ALL: [Self; 12] = [
        Self::Unjoined,
        Self::PartnerNotReady,
        Self::TooLong,
        Self::SendFailed,
        Self::ReceiveFailed,
        Self::NoCodec,
        Self::StreamFull,
        Self::PlayedOver,
        Self::TooManyKeys,
        Self::Unrecorded,
        Self::UnknownFragment,
        Self::UnknownSource,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Unjoined => "unjoined",
            Self::PartnerNotReady => "partner_not_ready",
            Self::TooLong => "too_long",
            Self::SendFailed => "send_failed",
            Self::ReceiveFailed => "receive_failed",
            Self::NoCodec => "no_codec",
            Self::StreamFull => "stream_full",
            Self::PlayedOver => "played_over",
            Self::TooManyKeys => "too_many_keys",
            Self::Unrecorded => "unrecorded_video",
            Self::UnknownFragment => "ice_unknown_ufrag",
            Self::UnknownSource => "ice_unknown_source",
        }
    }
}

impl Counters {
    pub fn new(metrics: &Metrics) -> Self {
        let child = |name: &str| metrics.drops.with_label_values(&[name]);
        Self {
            packets_received: 0,
            octets_received: 0,
            packets_sent: 0,
            octets_sent: 0,
            unsent: 0,
            video_packets: 0,
            recording_frames: 0,
            recording_drops: 0,
            transcoded_packets: 0,
            concealed_packets: 0,
            late_packets: 0,
            played_packets: 0,
            media_drops: [0; DropCause::ALL.len()],
            own_drops: [0; OwnDrop::ALL.len()],
            any_drop: false,
            media_drop_counters: DropCause::ALL.iter().map(|cause| child(cause.name())).collect(),
            own_drop_counters: OwnDrop::ALL.iter().map(|cause| child(cause.name())).collect(),
            metrics: metrics.clone(),
        }
    }

    pub fn dropped(&mut self, cause: DropCause) {
        if let Some(count) = self.media_drops.get_mut(cause as usize) {
            *count += 1;
            self.any_drop = true;
        }
    }

    pub fn lost(&mut self, cause: OwnDrop) {
        self.lost_several(cause, 1);
    }

    /// What the kernel would not send, and could not receive.
    pub fn failed(&mut self, (sends, receives): (u64, u64)) {
        if sends + receives > 0 {
            self.unsent += sends;
            self.lost_several(OwnDrop::SendFailed, sends);
            self.lost_several(OwnDrop::ReceiveFailed, receives);
        }
    }

    fn lost_several(&mut self, cause: OwnDrop, several: u64) {
        if let Some(count) = self.own_drops.get_mut(cause as usize) {
            *count += several;
            self.any_drop = true;
        }
    }

    pub fn translated(&mut self, figures: Figures) {
        self.transcoded_packets += u64::from(figures.made);
        self.concealed_packets += u64::from(figures.concealed);
        self.late_packets += u64::from(figures.late);
        if figures.refused > 0 {
            self.lost_several(OwnDrop::NoCodec, u64::from(figures.refused));
        }
    }

    /// Adds to the metrics what was counted since the last time.
    pub fn flush(&mut self) {
        self.metrics.wakeups.inc();
        let unsent = self.unsent.min(self.packets_sent);
        (self.packets_sent, self.unsent) = (self.packets_sent - unsent, self.unsent - unsent);
        for (count, counter) in [
            (&mut self.packets_received, &self.metrics.packets_received),
            (&mut self.octets_received, &self.metrics.octets_received),
            (&mut self.packets_sent, &self.metrics.packets_sent),
            (&mut self.octets_sent, &self.metrics.octets_sent),
            (&mut self.video_packets, &self.metrics.video_packets),
            (&mut self.recording_frames, &self.metrics.recording_frames),
            (&mut self.recording_drops, &self.metrics.recording_drops),
            (&mut self.transcoded_packets, &self.metrics.transcoded_packets),
            (&mut self.concealed_packets, &self.metrics.concealed_packets),
            (&mut self.late_packets, &self.metrics.late_packets),
            (&mut self.played_packets, &self.metrics.played_packets),
        ] {
            move_into(count, counter);
        }
        if std::mem::take(&mut self.any_drop) {
            let media = self.media_drops.iter_mut().zip(&self.media_drop_counters);
            let own = self.own_drops.iter_mut().zip(&self.own_drop_counters);
            media.chain(own).for_each(|(count, counter)| move_into(count, counter));
        }
    }
}

fn move_into(count: &mut u64, counter: &IntCounter) {
    if *count > 0 {
        counter.inc_by(std::mem::take(count));
    }
}
