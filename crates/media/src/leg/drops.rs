use std::fmt;

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident = $name:literal,)*) => {
        /// Why a leg let a packet go.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropCause { $($(#[$doc])* $cause,)* }

        impl DropCause {
            pub const ALL: &[Self] = &[$(Self::$cause,)*];

            /// The cause as metrics and statistics name it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$cause => $name,)* }
            }
        }
    };
}

causes! {
    /// The first octet is of no protocol of RFC 7983.
    UnknownProtocol = "unknown_protocol",
    MalformedRtp = "malformed_rtp",
    MalformedRtcp = "malformed_rtcp",
    MalformedStun = "malformed_stun",
    /// STUN whose user name or integrity is not ours.
    StunIntegrity = "stun_integrity",
    /// STUN that this leg has no use for.
    StunUnexpected = "stun_unexpected",
    /// DTLS on a leg without it, or from a source that may not be heard.
    DtlsUnexpected = "dtls_unexpected",
    /// DTLS that its state machine refused.
    DtlsRefused = "dtls_refused",
    /// From an address that proved nothing.
    UnprovenSource = "unproven_source",
    /// The keys are not there yet.
    NoKeys = "no_keys",
    SrtpAuthentication = "srtp_authentication",
    SrtpReplay = "srtp_replay",
    SrtcpUnencrypted = "srtcp_unencrypted",
    /// More streams under one key than are allowed.
    SrtpStreams = "srtp_streams",
    /// Sound from before others spoke.
    Overtaken = "overtaken",
    /// The leg's direction does not allow it.
    Direction = "direction",
    /// There is no address to send to yet.
    NoAddress = "no_address",
    /// The leg's output queue is full.
    Overflow = "overflow",
    /// A check from where another leg's peer was heard a moment ago.
    AddressInUse = "ice_address_in_use",
    /// A check from a new address, with as many known as there may be.
    TooManyAddresses = "ice_too_many_addresses",
    /// Beyond what one address may send within a second.
    TooFast = "ice_too_fast",
}

/// Packets dropped, by cause.
#[derive(Clone, Default)]
pub struct Drops([u64; DropCause::ALL.len()]);

impl Drops {
    pub(super) fn count(&mut self, cause: DropCause) {
        if let Some(counter) = self.0.get_mut(cause as usize) {
            *counter += 1;
        }
    }

    pub fn of(&self, cause: DropCause) -> u64 {
        self.0.get(cause as usize).copied().unwrap_or_default()
    }

    /// The causes that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL.iter().map(|cause| (*cause, self.of(*cause))).filter(|(_, n)| *n > 0)
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(cause, n)| (cause.name(), n))).finish()
    }
}
