use crate::streams::Refused;
use landline_control::RelayId;
use landline_region::RegionCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What the relay counts. Children of labelled families are looked up once,
/// here or at a shard's start, never per packet.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub sessions: IntGauge,
    pub legs: IntGauge,
    pub packets_received: IntCounter,
    pub packets_sent: IntCounter,
    pub octets_received: IntCounter,
    /// Of those received, what is no sound.
    pub video_packets: IntCounter,
    pub octets_sent: IntCounter,
    /// By cause: the media machine's, and the relay's own.
    pub drops: IntCounterVec,
    pub ports_used: IntGauge,
    pub ports_quarantined: IntGauge,
    pub ports_free: IntGauge,
    /// 1 of the one that moves its packets.
    pub engine: IntGaugeVec,
    pub wakeups: IntCounter,
    pub faults: IntCounterVec,
    pub recordings: IntGauge,
    pub recording_frames: IntCounter,
    pub recording_drops: IntCounter,
    pub transcoders: IntGauge,
    pub transcoded_packets: IntCounter,
    pub concealed_packets: IntCounter,
    pub late_packets: IntCounter,
    /// Legs that share a port.
    pub ice_legs: IntGauge,
    /// Addresses that their peers have proved.
    pub ice_peers: IntGauge,
    /// What their sockets have room for.
    pub ice_room_receive: IntGauge,
    pub ice_room_send: IntGauge,
    /// Peers' connections for media.
    pub streams: IntGauge,
    pub refused_streams: IntCounterVec,
    pub players: IntGauge,
    pub played_packets: IntCounter,
    pub sounds: IntGauge,
    pub missing_sounds: IntCounter,
    pub control_connections: IntGauge,
    /// By region of the peer's certificate.
    pub refused_peers: IntCounterVec,
    /// By reason: connections that were closed for what the peer sent.
    pub control_errors: IntCounterVec,
    pub refusals: IntCounterVec,
    pub orphaned_sessions: IntCounter,
    pub adopted_sessions: IntCounter,
}

impl Metrics {
    pub fn register(
        registry: &Registry,
        region: RegionCode,
        relay: &RelayId,
    ) -> prometheus::Result<Self> {
        let family = Family { registry, region, relay };
        let packets = family.counters("packets_total", "Media packets.", "direction")?;
        let octets = family.counters("octets_total", "Octets of media packets.", "direction")?;
        let ports = family.gauges("port_pairs", "Port pairs by state.", "state")?;
        let room = family.gauges(
            "ice_buffer_octets",
            "Room that the kernel gave the sockets of such legs: the least of them.",
            "direction",
        )?;
        Ok(Self {
            sessions: family.gauge("sessions", "Open media sessions.")?,
            legs: family.gauge("legs", "Open legs.")?,
            packets_received: packets.with_label_values(&["received"]),
            packets_sent: packets.with_label_values(&["sent"]),
            octets_received: octets.with_label_values(&["received"]),
            octets_sent: octets.with_label_values(&["sent"]),
            video_packets: family
                .counter("video_packets_total", "Media packets received that are video.")?,
            drops: family.counters("drops_total", "Packets dropped, by cause.", "cause")?,
            ports_used: ports.with_label_values(&["used"]),
            ports_quarantined: ports.with_label_values(&["quarantined"]),
            ports_free: ports.with_label_values(&["free"]),
            engine: family.gauges("engine", "1 of the one that moves its packets.", "engine")?,
            wakeups: family
                .counter("wakeups_total", "Times a shard woke to look at its sockets.")?,
            faults: family.counters("media_faults_total", "Faults of legs, by kind.", "fault")?,
            recordings: family.gauge("recordings", "Recordings that run.")?,
            recording_frames: family
                .counter("recording_frames_total", "Frames that recordings should hold.")?,
            recording_drops: family
                .counter("recording_drops_total", "Frames that found no room in the queue.")?,
            transcoders: family.gauge("transcoders", "Directions of calls that are transcoded.")?,
            transcoded_packets: family
                .counter("transcoded_packets_total", "Packets that were transcoded.")?,
            concealed_packets: family
                .counter("concealed_packets_total", "Packets lost and made up for, transcoding.")?,
            late_packets: family
                .counter("late_packets_total", "Packets that came too late to be transcoded.")?,
            ice_legs: family
                .gauge("ice_legs", "Legs with ICE that share a port: they use no port pair.")?,
            ice_peers: family
                .gauge("ice_addresses", "Addresses that the peers of such legs have proved.")?,
            ice_room_receive: room.with_label_values(&["receive"]),
            ice_room_send: room.with_label_values(&["send"]),
            streams: family.gauge("streams", "Connections that legs have with their peers.")?,
            refused_streams: family.counters(
                "refused_streams_total",
                "Connections for media that were closed, by reason.",
                "reason",
            )?,
            players: family.gauge("players", "Legs that are played something.")?,
            played_packets: family.counter("played_packets_total", "Packets that were played.")?,
            sounds: family.gauge("sounds", "Sounds that are kept to be played.")?,
            missing_sounds: family
                .counter("missing_sounds_total", "Sounds that could not be had to be played.")?,
            control_connections: family
                .gauge("control_connections", "Proxies that are connected.")?,
            refused_peers: family.counters(
                "refused_peers_total",
                "Peers refused for the region of their certificate.",
                "region",
            )?,
            control_errors: family.counters(
                "control_errors_total",
                "Control connections ended by the relay, by reason.",
                "reason",
            )?,
            refusals: family.counters(
                "refusals_total",
                "Requests refused, by reason.",
                "reason",
            )?,
            orphaned_sessions: family.counter(
                "orphaned_sessions_total",
                "Sessions closed because their proxy went away.",
            )?,
            adopted_sessions: family.counter(
                "adopted_sessions_total",
                "Sessions that another proxy, or its next run, took over.",
            )?,
        })
    }
}

impl Metrics {
    pub fn refuse_stream(&self, refused: Refused) {
        self.refused_streams.with_label_values(&[refused.name()]).inc();
    }
}

struct Family<'a> {
    registry: &'a Registry,
    region: RegionCode,
    relay: &'a RelayId,
}

impl Family<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("landline_relay_{name}"), help)
            .const_label("region", self.region.as_str())
            .const_label("relay", self.relay.0.as_str())
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::with_opts(self.opts(name, help))?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::with_opts(self.opts(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(self.opts(name, help), &[label])?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(self.opts(name, help), &[label])?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }
}
