//! Reading attributes where they stand: on the media, or for all media on the
//! session.

use std::net::IpAddr;

use super::{
    Attribute, Candidate, Connection, Crypto, Direction, Fingerprint, Fmtp, Media, Rtcp, RtpMap,
    SessionDescription, Setup,
};

/// What sessions and media have in common.
macro_rules! attribute_access {
    ($type:ty) => {
        impl $type {
            /// The value of the first attribute of that name; empty for a flag.
            pub fn attribute(&self, name: &str) -> Option<&str> {
                let attribute = self.attributes.iter().find(|known| known.name == name)?;
                Some(attribute.value.as_deref().unwrap_or_default())
            }

            pub fn attribute_values<'a>(
                &'a self,
                name: &'a str,
            ) -> impl Iterator<Item = &'a str> + 'a {
                self.attributes
                    .iter()
                    .filter(move |attribute| attribute.name == name)
                    .map(|attribute| attribute.value.as_deref().unwrap_or_default())
            }

            pub fn has_attribute(&self, name: &str) -> bool {
                self.attribute(name).is_some()
            }

            pub fn remove_attributes(&mut self, name: &str) {
                self.attributes.retain(|attribute| attribute.name != name);
            }

            /// Replaces every direction attribute by one.
            pub fn set_direction(&mut self, direction: Direction) {
                self.attributes.retain(|attribute| Direction::parse(&attribute.name).is_none());
                self.attributes.push(Attribute::flag(direction.as_str()));
            }

            fn own_direction(&self) -> Option<Direction> {
                self.attributes.iter().rev().find_map(|a| Direction::parse(&a.name))
            }
        }
    };
}

attribute_access!(SessionDescription);
attribute_access!(Media);

/// `media` has to be one of this session's.
impl SessionDescription {
    pub fn audio(&self) -> Option<&Media> {
        self.media.iter().find(|media| media.kind == "audio" && !media.is_disabled())
    }

    /// `sendrecv` unless said otherwise (RFC 8866 §6.7).
    pub fn direction(&self, media: &Media) -> Direction {
        media.own_direction().or(self.own_direction()).unwrap_or(Direction::SendRecv)
    }

    pub fn connection<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// Where the media is to be sent; `None` without an address.
    pub fn media_ip(&self, media: &Media) -> Option<IpAddr> {
        self.connection(media).and_then(Connection::ip)
    }

    /// RFC 3264 §8.4's old form of hold: the unspecified address.
    pub fn is_held_by_address(&self, media: &Media) -> bool {
        self.media_ip(media).is_some_and(|ip| ip.is_unspecified())
    }

    pub fn fingerprints(&self, media: &Media) -> Vec<Fingerprint> {
        let own: Vec<_> =
            media.attribute_values("fingerprint").filter_map(Fingerprint::parse).collect();
        if !own.is_empty() {
            return own;
        }
        self.attribute_values("fingerprint").filter_map(Fingerprint::parse).collect()
    }

    pub fn setup(&self, media: &Media) -> Option<Setup> {
        self.either(media, "setup").and_then(Setup::parse)
    }

    pub fn ice_ufrag<'a>(&'a self, media: &'a Media) -> Option<&'a str> {
        self.either(media, "ice-ufrag")
    }

    pub fn ice_pwd<'a>(&'a self, media: &'a Media) -> Option<&'a str> {
        self.either(media, "ice-pwd")
    }

    pub fn ice_lite(&self) -> bool {
        self.has_attribute("ice-lite")
    }

    fn either<'a>(&'a self, media: &'a Media, name: &str) -> Option<&'a str> {
        media.attribute(name).or_else(|| self.attribute(name))
    }
}

impl Media {
    /// The media's own; `None` leaves it to the session.
    pub fn direction(&self) -> Option<Direction> {
        self.own_direction()
    }

    pub fn rtpmaps(&self) -> Vec<RtpMap> {
        self.attribute_values("rtpmap").filter_map(RtpMap::parse).collect()
    }

    /// What a payload type means: its own rtpmap, or the static assignment of
    /// RFC 3551 §6 for the audio we meet.
    pub fn rtpmap(&self, payload_type: u8) -> Option<RtpMap> {
        let own = self.attribute_values("rtpmap").filter_map(RtpMap::parse);
        own.into_iter().find(|map| map.payload_type == payload_type).or_else(|| {
            let encoding = match payload_type {
                0 => "PCMU",
                3 => "GSM",
                8 => "PCMA",
                9 => "G722",
                13 => "CN",
                18 => "G729",
                _ => return None,
            };
            Some(RtpMap {
                payload_type,
                encoding: encoding.into(),
                clock_rate: 8000,
                channels: None,
            })
        })
    }

    /// Format parameters of a payload type.
    pub fn fmtp(&self, payload_type: u8) -> Option<String> {
        self.fmtps().into_iter().find(|fmtp| fmtp.payload_type == payload_type).map(|f| f.params)
    }

    pub fn fmtps(&self) -> Vec<Fmtp> {
        self.attribute_values("fmtp").filter_map(Fmtp::parse).collect()
    }

    /// In the order of preference; unreadable ones are passed over.
    pub fn cryptos(&self) -> Vec<Crypto> {
        self.attribute_values("crypto").filter_map(Crypto::parse).collect()
    }

    pub fn candidates(&self) -> Vec<Candidate> {
        self.attribute_values("candidate").filter_map(Candidate::parse).collect()
    }

    pub fn rtcp(&self) -> Option<Rtcp> {
        self.attribute("rtcp").and_then(Rtcp::parse)
    }

    pub fn rtcp_mux(&self) -> bool {
        self.has_attribute("rtcp-mux")
    }

    pub fn mid(&self) -> Option<&str> {
        self.attribute("mid")
    }

    /// Milliseconds.
    pub fn ptime(&self) -> Option<u16> {
        self.attribute("ptime").and_then(|value| value.trim().parse().ok())
    }

    pub fn maxptime(&self) -> Option<u16> {
        self.attribute("maxptime").and_then(|value| value.trim().parse().ok())
    }
}
