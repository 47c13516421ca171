//! Offer and answer with one peer: what was said, what is agreed, what the
//! relay has to know of it.

mod video;

pub(crate) use self::video::KeptVideo;

use std::net::SocketAddr;

use bytes::Bytes;
use landline_control::{
    Direction, DtlsParameters, DtlsRole, IpFamily, LegLocal, LegSpec, PayloadType, Protocol,
    Remote, SdesKey, SdesPair, Spoken,
};
use serde::{Deserialize, Serialize};

use super::Mismatch;
use super::codec::{Codec, common};
use super::profile::Profile;
use super::read::{Description, Line, Setup};
use super::transcoding::{answered, events_beside, is_event, widened, with_events};
use super::video::{Video, line};
use super::write::{Origin, OurVideo, Ours};

/// Kept with a call that outlives its process: changes go with a new
/// [`crate::Snapshot`] version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LegMedia {
    pub spec: LegSpec,
    /// Once the relay has told.
    pub local: Option<LegLocal>,
    /// Where the relay takes a connection for this leg; the relay tells it anew.
    #[serde(skip)]
    pub stream: Option<SocketAddr>,
    origin: Origin,
    /// The `m=` line's protocol between this peer and us.
    proto: String,
    /// Every `m=` line of the session; later descriptions keep them all
    /// (RFC 3264 §8).
    lines: Vec<Line>,
    audio: usize,
    bundle: bool,
    mux: bool,
    role: Option<DtlsRole>,
    /// The SDES key of ours that is in use, with the tag both sides know it by.
    key: Option<SdesKey>,
    /// Our offer while its answer is awaited.
    offered: Option<Terms>,
    pub agreed: Option<Agreed>,
    /// The relay may transcode; a matter of configuration, and not kept.
    #[serde(skip)]
    transcodes: bool,
    /// It hears music where the other side wants to hear and say nothing; a matter
    /// of the account, and not kept.
    #[serde(skip)]
    hears_music: bool,
    /// It may have keys in its media although the other side has not; as that one
    /// says, and not kept.
    #[serde(skip)]
    adds_events: bool,
}

/// What one of our descriptions said, but for the codecs that transcoding adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub codecs: Vec<Codec>,
    pub direction: Direction,
    pub ptime: Option<String>,
    pub maxptime: Option<String>,
    /// Of the side that these are told of; who is no browser is told none.
    #[serde(skip)]
    pub video: Option<Video>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Agreed {
    pub peer: Description,
    /// Our side of it: the direction as our description has it.
    pub terms: Terms,
    /// What the other side wanted this peer to know.
    pub told: Terms,
}

impl LegMedia {
    /// For a peer that made the offer.
    pub(crate) fn answering(offer: &Description, session: u64) -> Result<Self, Mismatch> {
        let suites = match offer.protocol {
            Protocol::Sdes => vec![offer.crypto.first().ok_or(Mismatch::Keys)?.suite],
            Protocol::Dtls if offer.fingerprints.is_empty() => return Err(Mismatch::Keys),
            Protocol::Dtls | Protocol::Rtp => Vec::new(),
        };
        let spec = LegSpec {
            protocol: offer.protocol,
            ice: offer.ice.is_some(),
            rtcp_mux: offer.mux,
            family: offer.family,
            suites,
        };
        Ok(Self::new(spec, offer.proto.clone(), session))
    }

    /// For a peer that we make the offer to.
    pub(crate) fn offering(profile: Profile, family: IpFamily, session: u64) -> Self {
        let mut media = Self::new(profile.spec(family), profile.proto().to_owned(), session);
        media.bundle = matches!(profile, Profile::Webrtc | Profile::WebrtcPhone);
        media.mux = media.may_multiplex();
        media.lines = vec![Line {
            kind: "audio".to_owned(),
            proto: media.proto.clone(),
            formats: Vec::new(),
            mid: media.bundle.then(|| "0".to_owned()),
        }];
        media
    }

    /// Whether the other side may speak what this one does not.
    pub(crate) fn transcoding(self, transcodes: bool) -> Self {
        Self { transcodes, ..self }
    }

    /// Whether it is played something while it is on hold.
    pub(crate) fn on_hold_hearing(self, hears_music: bool) -> Self {
        Self { hears_music, ..self }
    }

    /// For a peer that may serve many calls by one address, as a trunk does: they
    /// would not be told apart by that.
    pub(crate) fn by_ports(mut self) -> Self {
        self.spec.rtcp_mux &= !self.spec.ice;
        self
    }

    /// With ICE a port for RTCP may be there and be left unused.
    fn may_multiplex(&self) -> bool {
        self.spec.rtcp_mux || self.spec.ice
    }

    /// The relay has no port for this leg alone: without ICE its peer is not found,
    /// nor is RTCP that comes by another.
    fn shares_port(&self) -> bool {
        self.spec.ice && self.local.as_ref().is_some_and(|local| local.rtcp == local.rtp)
    }

    fn new(spec: LegSpec, proto: String, session: u64) -> Self {
        Self {
            mux: spec.rtcp_mux,
            spec,
            local: None,
            stream: None,
            origin: Origin::new(session),
            proto,
            lines: Vec::new(),
            audio: 0,
            bundle: false,
            role: None,
            key: None,
            offered: None,
            agreed: None,
            transcodes: false,
            hears_music: false,
            adds_events: false,
        }
    }

    /// Another way to offer, the former one having been refused.
    pub(crate) fn replace(&mut self, profile: Profile) {
        let family = self.spec.family;
        let origin = self.origin.clone();
        let Self { transcodes, hears_music, adds_events, .. } = *self;
        let fresh = Self::offering(profile, family, 0);
        *self = Self { origin, transcodes, hears_music, adds_events, ..fresh };
    }

    /// Whether the peer's new offer can be served by the leg the relay has.
    pub(crate) fn fits(&self, offer: &Description) -> bool {
        let Some(local) = &self.local else { return false };
        let keys = offer.protocol != Protocol::Sdes
            || offer.crypto.iter().any(|it| local.sdes.iter().any(|key| key.suite == it.suite));
        let ports = offer.mux || !self.spec.rtcp_mux || local.rtcp != local.rtp;
        let family = offer.family == self.spec.family;
        let is_found = offer.ice.is_some() || !self.shares_port();
        offer.protocol == self.spec.protocol && keys && ports && family && is_found
    }

    /// A changed ufrag restarts ICE (RFC 8839 §4.4.1.1).
    pub(crate) fn restarts_ice(&self, offer: &Description) -> bool {
        let former = self.agreed.as_ref().and_then(|it| it.peer.ice.as_ref());
        match (former, &offer.ice) {
            (Some(former), Some(now)) => former.ufrag != now.ufrag && self.spec.ice,
            _ => false,
        }
    }

    /// The same session on a fresh leg of the relay's, for an offer that does
    /// not fit the former one.
    pub(crate) fn replaced(&self, offer: &Description, session: u64) -> Result<Self, Mismatch> {
        let mut fresh = Self::answering(offer, session)?;
        if self.spec.ice && !self.spec.rtcp_mux {
            fresh = fresh.by_ports();
        }
        let Self { transcodes, hears_music, adds_events, .. } = *self;
        let origin = self.origin.clone();
        Ok(Self { origin, transcodes, hears_music, adds_events, ..fresh })
    }

    /// The same session on a leg of another relay's: what was agreed stands, but
    /// for addresses, keys and roles, which are that relay's to give.
    pub(crate) fn renewed(&self) -> Self {
        let mut spec = self.spec.clone();
        // Who was offered it and did not take it needs the second port.
        spec.rtcp_mux &= self.mux || self.agreed.is_none();
        Self {
            origin: self.origin.clone(),
            lines: self.lines.clone(),
            audio: self.audio,
            bundle: self.bundle,
            mux: self.mux,
            agreed: self.agreed.clone(),
            transcodes: self.transcodes,
            hears_music: self.hears_music,
            adds_events: self.adds_events,
            ..Self::new(spec, self.proto.clone(), 0)
        }
    }

    /// The dialog of this session came over from another leg of the relay's: what
    /// was said in it stands, addresses and keys are this leg's.
    pub(crate) fn go_on_from(&mut self, former: &Self) {
        self.origin = former.origin.clone();
        self.lines.clone_from(&former.lines);
        (self.audio, self.bundle, self.mux) = (former.audio, former.bundle, former.mux);
        self.agreed.clone_from(&former.agreed);
    }

    /// The peer has seen a description that is of no more use: ours go on
    /// counting from there.
    pub(crate) fn count_on_from(&mut self, tried: Self) {
        self.origin = tried.origin;
    }

    /// What the peer was told last and agreed to.
    pub(crate) fn told(&self) -> Option<Terms> {
        Some(self.agreed.as_ref()?.told.clone())
    }

    /// Whether an offer of these terms would tell the peer anything new.
    pub(crate) fn is_news(&self, wanted: &Terms) -> bool {
        self.agreed.as_ref().is_none_or(|agreed| {
            agreed.told.direction != wanted.direction
                || agreed.told.codecs != wanted.codecs
                || self.is_video_news(agreed, wanted)
        })
    }

    /// Our offer. `None` while the relay has not told its side.
    pub(crate) fn offer(&mut self, terms: Terms) -> Option<Bytes> {
        let mut codecs = self.widened(&terms.codecs);
        let video_line = self.video_line(terms.video.as_ref());
        if let Some(video) = terms.video.as_ref().filter(|_| video_line.is_some()) {
            // One bundle, one meaning of a number.
            codecs.retain(|it| terms.codecs.contains(it) || !video.has(it.number));
        }
        let is_known = self.agreed.as_ref().is_some_and(|it| it.terms.video.is_some());
        let video = terms.video.as_ref().zip(video_line).map(|(video, line)| OurVideo {
            line,
            codecs: &video.codecs,
            direction: video.direction,
            is_known,
        });
        let local = self.local.as_ref()?;
        let crypto = match &self.key {
            Some(key) => std::slice::from_ref(key),
            None => local.sdes.as_slice(),
        };
        let ours = Ours {
            local,
            proto: &self.proto,
            codecs: &codecs,
            direction: self.heard(terms.direction),
            ptime: terms.ptime.as_deref(),
            maxptime: terms.maxptime.as_deref(),
            mux: self.mux,
            is_muxed: self.mux && self.agreed.is_some(),
            is_only_muxed: self.mux && self.shares_port(),
            ice: self.spec.ice,
            stream: self.stream.filter(|_| self.takes_streams()),
            // RFC 8842 §5.2: an offer leaves the roles open, also later ones.
            setup: (self.spec.protocol == Protocol::Dtls).then_some("actpass"),
            crypto,
            lines: &self.lines,
            audio: self.audio,
            bundle: self.bundle,
            video,
        };
        let body = ours.write(&mut self.origin);
        self.offered = Some(terms);
        Some(body)
    }

    /// How it is told what the other side does: who neither speaks nor hears is
    /// spoken for.
    fn heard(&self, direction: Direction) -> Direction {
        match direction {
            Direction::Inactive if self.hears_music => Direction::SendOnly,
            other => other,
        }
    }

    /// Whether the other side takes keys that this one has in its media, by another
    /// way.
    pub(crate) fn adds_events(&mut self, adds_events: bool) {
        self.adds_events = adds_events;
    }

    /// The peer has keys in its media (RFC 4733).
    pub(crate) fn takes_events(&self) -> bool {
        self.agreed.as_ref().is_some_and(|it| it.terms.codecs.iter().any(is_event))
    }

    /// The peer has put the other side on hold.
    pub(crate) fn holds(&self) -> bool {
        let direction = self.agreed.as_ref().map(|it| it.peer.direction);
        matches!(direction, Some(Direction::SendOnly | Direction::Inactive))
    }

    /// The peer may be sent something.
    pub(crate) fn listens(&self) -> bool {
        let direction = self.agreed.as_ref().map(|it| it.terms.direction);
        matches!(direction, Some(Direction::SendOnly | Direction::SendReceive))
    }

    /// As these codecs of the other side are offered to this one.
    fn widened(&self, codecs: &[Codec]) -> Vec<Codec> {
        let codecs = match self.transcodes {
            true => widened(codecs),
            false => codecs.to_vec(),
        };
        if self.adds_events { with_events(codecs) } else { codecs }
    }

    pub(crate) fn awaits_answer(&self) -> bool {
        self.offered.is_some()
    }

    /// Taken up by another process: an offer under way is forgotten, and the next
    /// description's version is one that the peer cannot have seen.
    pub(crate) fn resume(&mut self) {
        self.offered = None;
        self.origin.skip_ahead();
    }

    /// Our offer was refused: what was agreed before stays.
    pub(crate) fn withdraw(&mut self) {
        self.offered = None;
    }

    /// Takes the peer's answer to our offer.
    pub(crate) fn accept(&mut self, answer: Description, plain: bool) -> Result<(), Mismatch> {
        self.preview(answer, plain)?;
        self.offered = None;
        Ok(())
    }

    /// Takes what an unreliable provisional response brings: fit for early
    /// media, while the answer that counts is still to come (RFC 6337 §2.1).
    pub(crate) fn preview(&mut self, answer: Description, plain: bool) -> Result<(), Mismatch> {
        let offered = self.offered.clone().ok_or(Mismatch::Unreadable)?;
        if self.shares_port() && (answer.ice.is_none() || !answer.mux) {
            return Err(Mismatch::Checks);
        }
        let codecs = self.widened(&offered.codecs);
        let codecs = common(&codecs, &answer.codecs).ok_or(Mismatch::Codec)?;
        match self.spec.protocol {
            Protocol::Rtp if !plain => return Err(Mismatch::Unencrypted),
            Protocol::Rtp => {}
            Protocol::Sdes => {
                let theirs = answer.crypto.first().ok_or(Mismatch::Keys)?;
                self.key = Some(self.own_key(theirs.tag, theirs).ok_or(Mismatch::Keys)?);
            }
            Protocol::Dtls if answer.fingerprints.is_empty() => return Err(Mismatch::Keys),
            Protocol::Dtls => {
                self.role = Some(match answer.setup {
                    Some(Setup::Passive) => DtlsRole::Client,
                    _ => DtlsRole::Server,
                });
            }
        }
        self.mux = self.may_multiplex() && answer.mux;
        let direction = narrowed(self.heard(offered.direction), mirrored(answer.direction));
        // By what the peer wants: its direction is the other side's to know.
        let both = offered.video.as_ref().zip(answer.video.as_ref());
        let video = both.and_then(|(ours, theirs)| Video::common(ours, theirs));
        let video = video.filter(|_| self.carries_video());
        let terms = Terms { codecs, direction, video, ..offered.clone() };
        self.agreed = Some(Agreed { peer: answer, terms, told: offered });
        Ok(())
    }

    /// The key we made for the suite the peer chose, under the tag it goes by.
    fn own_key(&self, tag: u32, theirs: &SdesKey) -> Option<SdesKey> {
        let keys = self.key.iter().chain(self.local.iter().flat_map(|it| it.sdes.iter()));
        let mut keys = keys.filter(|key| key.suite == theirs.suite);
        let own = keys.find(|key| key.tag == tag)?;
        Some(own.clone())
    }

    /// Our answer to the peer's offer. `None` while the relay has not told its
    /// side, or when the offer's keys or codecs fit none of ours.
    pub(crate) fn answer(&mut self, offer: &Description, terms: Terms) -> Option<Bytes> {
        let local = self.local.as_ref()?;
        let mut codecs = answered(&offer.codecs, &terms.codecs, self.transcodes)?;
        if self.adds_events && !terms.codecs.iter().any(is_event) {
            codecs.extend(events_beside(&codecs, &offer.codecs));
        }
        if self.spec.protocol == Protocol::Sdes {
            let (theirs, own) = offer.crypto.iter().find_map(|theirs| {
                let own = local.sdes.iter().find(|own| own.suite == theirs.suite)?;
                Some((theirs, own))
            })?;
            // The answer goes by the offer's tag (RFC 4568 §5.1.2).
            let mut key = own.clone();
            key.tag = theirs.tag;
            self.key = Some(key);
        }
        let setup = (self.spec.protocol == Protocol::Dtls).then(|| self.answer_role(offer.setup));
        self.lines.clone_from(&offer.lines);
        self.audio = offer.audio;
        self.bundle = offer.bundle;
        self.proto.clone_from(&offer.proto);
        self.mux = offer.mux && self.may_multiplex();
        let direction = narrowed(self.heard(terms.direction), mirrored(offer.direction));
        let told = terms.clone();
        let both = offer.video.as_ref().zip(terms.video.as_ref());
        let answer = both
            .and_then(|(offered, said)| Video::common(offered, said)?.beside(&codecs))
            .filter(|_| self.carries_video());
        let wish = offer.video.as_ref().map(|it| it.direction).unwrap_or_default();
        let video = answer.as_ref().map(|it| Video { direction: wish, ..it.clone() });
        let terms = Terms { direction, codecs, video, ..terms };
        let video = answer.as_ref().zip(line(&self.lines)).map(|(video, line)| OurVideo {
            line,
            codecs: &video.codecs,
            direction: narrowed(video.direction, mirrored(wish)),
            is_known: true,
        });
        let ours = Ours {
            local: self.local.as_ref()?,
            proto: &self.proto,
            codecs: &terms.codecs,
            direction,
            ptime: terms.ptime.as_deref(),
            maxptime: terms.maxptime.as_deref(),
            mux: self.mux,
            is_muxed: self.mux,
            is_only_muxed: false,
            ice: self.spec.ice && offer.ice.is_some(),
            stream: self.stream.filter(|_| self.takes_streams()),
            setup,
            crypto: self.key.as_slice(),
            lines: &self.lines,
            audio: self.audio,
            bundle: self.bundle,
            video,
        };
        let body = ours.write(&mut self.origin);
        self.agreed = Some(Agreed { peer: offer.clone(), terms, told });
        Some(body)
    }

    /// Connections carry everything at once, and are for browsers: phones with
    /// ICE have UDP, and some stumble over what is not.
    fn takes_streams(&self) -> bool {
        self.spec.ice && self.mux && self.spec.protocol == Protocol::Dtls
    }

    /// RFC 8842 §5.3. Where the choice is ours the peer is to begin the
    /// handshake, so that its first packet opens whatever NAT it sits behind;
    /// a role that is in force stays.
    fn answer_role(&mut self, offered: Option<Setup>) -> &'static str {
        let role = match (offered, self.role) {
            (Some(Setup::Passive), _) => DtlsRole::Client,
            (Some(Setup::ActPass), Some(role)) => role,
            _ => DtlsRole::Server,
        };
        self.role = Some(role);
        match role {
            DtlsRole::Client => "active",
            DtlsRole::Server => "passive",
        }
    }

    /// What the relay has to know of the peer.
    pub(crate) fn remote(&self) -> Option<Remote> {
        let Agreed { peer, terms, .. } = self.agreed.as_ref()?;
        let dtls = (self.spec.protocol == Protocol::Dtls).then(|| DtlsParameters {
            fingerprints: peer.fingerprints.clone(),
            role: self.role.unwrap_or(DtlsRole::Server),
        });
        let sdes = match (&self.key, self.spec.protocol) {
            (Some(own), Protocol::Sdes) => {
                let theirs = peer.crypto.iter().find(|key| key.suite == own.suite)?;
                Some(SdesPair { send: own.clone(), receive: theirs.clone() })
            }
            _ => None,
        };
        Some(Remote {
            rtp: peer.rtp,
            rtcp: if self.mux { peer.rtp } else { peer.rtcp },
            rtcp_mux: self.mux,
            ice: peer.ice.clone().filter(|_| self.spec.ice),
            dtls,
            sdes,
            direction: terms.direction,
            payload_types: self.said()?.iter().map(Codec::payload_type).collect(),
        })
    }

    /// What the peer may say: what both agreed to, by the numbers of the answer,
    /// and by those of our offer where they are others.
    fn said(&self) -> Option<Vec<Codec>> {
        let Agreed { terms, told, .. } = self.agreed.as_ref()?;
        let mut said = terms.codecs.clone();
        for ours in self.widened(&told.codecs) {
            let is_agreed = terms.codecs.iter().any(|it| it.is_same(&ours));
            if is_agreed && said.iter().all(|it| it.number != ours.number) {
                said.push(ours);
            }
        }
        Some(said)
    }

    /// What the relay has to know of the peer where it may have to transcode.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        let Agreed { peer, .. } = self.agreed.as_ref().filter(|_| self.transcodes)?;
        let types = |codecs: &[Codec]| -> Vec<PayloadType> {
            codecs.iter().map(Codec::payload_type).collect()
        };
        let ms = |text: &Option<String>| text.as_deref()?.parse::<f32>().ok().map(|it| it as u16);
        let longest = ms(&peer.maxptime).unwrap_or(u16::MAX);
        let packet_ms = ms(&peer.ptime).map(|it| it.min(longest));
        Some(Spoken { says: types(&self.said()?), takes: types(&peer.codecs), packet_ms })
    }

    /// The codecs and times to offer to the other side on this peer's behalf.
    pub(crate) fn terms_of(peer: &Description) -> Terms {
        Terms {
            codecs: peer.codecs.clone(),
            direction: peer.direction,
            ptime: peer.ptime.clone(),
            maxptime: peer.maxptime.clone(),
            video: peer.video.clone(),
        }
    }
}

/// A direction as the other side sees it.
pub(crate) fn mirrored(direction: Direction) -> Direction {
    match direction {
        Direction::SendOnly => Direction::ReceiveOnly,
        Direction::ReceiveOnly => Direction::SendOnly,
        both => both,
    }
}

/// What both allow (RFC 3264 §6.1).
pub(crate) fn narrowed(a: Direction, b: Direction) -> Direction {
    let sends = |it| matches!(it, Direction::SendReceive | Direction::SendOnly);
    let receives = |it| matches!(it, Direction::SendReceive | Direction::ReceiveOnly);
    match (sends(a) && sends(b), receives(a) && receives(b)) {
        (true, true) => Direction::SendReceive,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::ReceiveOnly,
        (false, false) => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_control::IceCredentials;
    use landline_sip::Limits;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:active\r\n\
        a=mid:0\r\na=rtcp-mux\r\n";

    fn read(text: &str) -> Description {
        Description::read(text.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn what_a_refused_answer_says_of_roles_is_forgotten() {
        let mut media = LegMedia::offering(Profile::Webrtc, IpFamily::V4, 7);
        let at = "192.0.2.9:4000".parse().unwrap();
        let pwd = "p".repeat(24);
        media.local = Some(LegLocal {
            rtp: at,
            rtcp: at,
            ice: Some(IceCredentials { ufrag: "ours".into(), pwd }),
            fingerprint: read(ANSWER).fingerprints.first().cloned(),
            sdes: Vec::new(),
        });
        let terms = LegMedia::terms_of(&read(ANSWER));
        media.offer(terms.clone()).unwrap();
        media.accept(read(ANSWER), false).unwrap();
        let agreed = media.remote();
        media.offer(terms).unwrap();
        let passive = ANSWER.replace("setup:active", "setup:passive");
        let without_ice = passive.replace("a=ice-ufrag:abcd\r\n", "").replace("a=ice-pwd:", "a=x:");
        for answer in [passive.replace("a=rtcp-mux\r\n", ""), without_ice] {
            let refused = media.accept(read(&answer), false);
            assert!(matches!(refused, Err(Mismatch::Checks)), "{answer}");
            assert_eq!(media.remote(), agreed);
        }
        media.accept(read(&passive), false).unwrap();
        assert_eq!(media.remote().unwrap().dtls.unwrap().role, DtlsRole::Client);
    }
}
