//! How media is offered, by policy.

use landline_control::{IpFamily, LegSpec, Protocol, SrtpSuite};
use landline_sip::Transport;
use smallvec::{SmallVec, smallvec};

use crate::tenancy::{EncryptionPolicy, MediaPolicy, TrunkTransport};

/// One way to offer media to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Rtp,
    Sdes,
    Dtls,
    /// To a browser: it multiplexes RTCP, and is found by ICE alone, so its leg
    /// takes no ports.
    Webrtc,
    /// The same to others, who may do neither.
    WebrtcPhone,
    /// Between the relays of two regions.
    Region,
}

pub(crate) type Profiles = SmallVec<[Profile; 3]>;

impl Profile {
    /// The `m=` line's protocol. Phones that speak DTLS-SRTP without browsers'
    /// feedback profile answer `UDP/TLS/RTP/SAVP`, and more of them than
    /// answer SAVPF (RFC 5764 §8).
    pub(crate) fn proto(self) -> &'static str {
        match self {
            Self::Rtp => "RTP/AVP",
            Self::Sdes | Self::Region => "RTP/SAVP",
            Self::Dtls => "UDP/TLS/RTP/SAVP",
            Self::Webrtc | Self::WebrtcPhone => "UDP/TLS/RTP/SAVPF",
        }
    }

    pub(crate) fn spec(self, family: IpFamily) -> LegSpec {
        let (protocol, ice, rtcp_mux, suites) = match self {
            Self::Rtp => (Protocol::Rtp, false, false, Vec::new()),
            // The suite that every phone has stands first.
            Self::Sdes => (
                Protocol::Sdes,
                false,
                false,
                vec![SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AeadAes128Gcm],
            ),
            Self::Dtls => (Protocol::Dtls, false, true, Vec::new()),
            Self::Webrtc => (Protocol::Dtls, true, true, Vec::new()),
            Self::WebrtcPhone => (Protocol::Dtls, true, false, Vec::new()),
            // Both ends are ours: the cheaper suite first, and one port.
            Self::Region => (
                Protocol::Sdes,
                false,
                true,
                vec![SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_80],
            ),
        };
        LegSpec { protocol, ice, rtcp_mux, family, suites }
    }
}

/// The ways to offer media to a user's contact, in the order they are tried:
/// the next one after a 488.
///
/// Browsers (WebSocket) take DTLS-SRTP with ICE and in no other way, so `dtls`
/// means that there, as `auto` does. Others are offered DTLS-SRTP before SDES
/// by `auto` where encryption is required: a phone without it refuses the offer
/// cleanly, while some phones answer an SDES offer they cannot serve, and SDES
/// lays its keys into the signalling. Where encryption is optional plain RTP
/// stands first for the same reason. What the contact is known to speak goes
/// before all of them.
pub(crate) fn user_profiles(
    policy: MediaPolicy,
    transport: Transport,
    learnt: MediaPolicy,
    encryption: EncryptionPolicy,
) -> Profiles {
    let is_browser = matches!(transport, Transport::Ws | Transport::Wss);
    let named = |policy| match policy {
        MediaPolicy::Auto => None,
        MediaPolicy::Rtp => Some(Profile::Rtp),
        MediaPolicy::Sdes => Some(Profile::Sdes),
        MediaPolicy::Dtls => Some(Profile::Dtls),
        MediaPolicy::Webrtc if is_browser => Some(Profile::Webrtc),
        MediaPolicy::Webrtc => Some(Profile::WebrtcPhone),
    };
    if is_browser && matches!(policy, MediaPolicy::Auto | MediaPolicy::Dtls) {
        return smallvec![Profile::Webrtc];
    }
    if let Some(profile) = named(policy) {
        return smallvec![profile];
    }
    let mut profiles: Profiles = match encryption {
        EncryptionPolicy::Required => smallvec![Profile::Dtls, Profile::Sdes],
        EncryptionPolicy::Optional => smallvec![Profile::Rtp, Profile::Dtls, Profile::Sdes],
    };
    if let Some(learnt) = named(learnt)
        && (learnt != Profile::Rtp || encryption == EncryptionPolicy::Optional)
    {
        profiles.retain(|it| *it != learnt);
        profiles.insert(0, learnt);
    }
    profiles
}

/// The ways to offer media to a trunk: `auto` is RTP, and SDES where the
/// signalling that carries the keys is encrypted.
pub(crate) fn trunk_profiles(policy: MediaPolicy, transport: TrunkTransport) -> Profiles {
    smallvec![match (policy, transport) {
        (MediaPolicy::Rtp, _) => Profile::Rtp,
        (MediaPolicy::Sdes, _) | (MediaPolicy::Auto, TrunkTransport::Tls) => Profile::Sdes,
        (MediaPolicy::Auto, _) => Profile::Rtp,
        (MediaPolicy::Dtls, _) => Profile::Dtls,
        (MediaPolicy::Webrtc, _) => Profile::WebrtcPhone,
    }]
}

/// The one way to offer media to another region. Its keys lie in the
/// signalling, which goes from home proxy to home proxy over mutual TLS, and no
/// handshake delays the first word across continents.
pub(crate) fn region_profiles() -> Profiles {
    smallvec![Profile::Region]
}

/// Whether a user may offer or answer plain RTP.
pub(crate) fn accepts_plain_user(policy: MediaPolicy, encryption: EncryptionPolicy) -> bool {
    match policy {
        MediaPolicy::Rtp => true,
        MediaPolicy::Auto => encryption == EncryptionPolicy::Optional,
        MediaPolicy::Sdes | MediaPolicy::Dtls | MediaPolicy::Webrtc => false,
    }
}

/// Whether a trunk may offer or answer plain RTP.
pub(crate) fn accepts_plain_trunk(policy: MediaPolicy, transport: TrunkTransport) -> bool {
    match policy {
        MediaPolicy::Rtp => true,
        MediaPolicy::Auto => transport != TrunkTransport::Tls,
        MediaPolicy::Sdes | MediaPolicy::Dtls | MediaPolicy::Webrtc => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_rtp_is_offered_only_where_it_is_allowed() {
        for transport in Transport::ALL {
            for learnt in [MediaPolicy::Auto, MediaPolicy::Rtp, MediaPolicy::Sdes] {
                let offers =
                    user_profiles(MediaPolicy::Auto, transport, learnt, EncryptionPolicy::Required);
                assert!(!offers.contains(&Profile::Rtp), "{transport} {learnt}");
            }
        }
        let spoken = user_profiles(
            MediaPolicy::Auto,
            Transport::Tls,
            MediaPolicy::Sdes,
            EncryptionPolicy::Required,
        );
        assert_eq!(spoken.as_slice(), [Profile::Sdes, Profile::Dtls]);
        let by_browser = user_profiles(
            MediaPolicy::Dtls,
            Transport::Wss,
            MediaPolicy::Auto,
            EncryptionPolicy::Required,
        );
        assert_eq!(by_browser.as_slice(), [Profile::Webrtc]);
        let named = user_profiles(
            MediaPolicy::Rtp,
            Transport::Udp,
            MediaPolicy::Auto,
            EncryptionPolicy::Required,
        );
        assert_eq!(named.as_slice(), [Profile::Rtp]);
    }

    #[test]
    fn only_a_browser_is_taken_to_do_as_browsers_do() {
        for transport in Transport::ALL {
            let auto = MediaPolicy::Auto;
            let required = EncryptionPolicy::Required;
            let offers = user_profiles(MediaPolicy::Webrtc, transport, auto, required);
            let is_browser = matches!(transport, Transport::Ws | Transport::Wss);
            let expected = if is_browser { Profile::Webrtc } else { Profile::WebrtcPhone };
            assert_eq!(offers.as_slice(), [expected], "{transport}");
        }
    }
}
