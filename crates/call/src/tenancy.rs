//! The accounts of one region as a proxy holds them in memory: who exists,
//! what they may do, where a number leads.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use landline_control::Sound;
use landline_region::{AccountSid, Personal, RegionCode, Secret, SoundSid, TrunkSid, UserSid};

/// Everything the home proxy knows of its accounts. Loaded from the region's
/// database at start and replaced whole when its revision there changes; the
/// parts are shared, so replacing costs what changed.
#[derive(Debug, Clone, Default)]
pub struct Tenancy {
    pub revision: i64,
    pub accounts: Vec<Arc<Account>>,
    pub users: Vec<Arc<User>>,
    pub numbers: Vec<Arc<Number>>,
    pub trunks: Vec<Arc<Trunk>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub sid: AccountSid,
    pub name: Personal<String>,
    /// The SIP domain, lower case.
    pub domain: String,
    pub home_region: RegionCode,
    pub edge_policy: EdgePolicy,
    pub recording: RecordingPolicy,
    pub encryption: EncryptionPolicy,
    pub calls_from: CallsFrom,
    pub hold_music: HoldMusic,
    /// Its own, if it has some.
    pub hold_sound: Option<SoundSid>,
    pub mailbox: AccountMailbox,
    /// Who the customer's contract is with: derived from the region by default.
    pub contracting_entity: String,
}

/// What holds for the mailboxes of an account's users who have said nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountMailbox {
    pub policy: VoicemailPolicy,
    pub greeting: Option<SoundSid>,
}

/// Of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserMailbox {
    /// `None`: as the account says.
    pub policy: Option<VoicemailPolicy>,
    pub greeting: Option<SoundSid>,
    /// Messages that wait (RFC 3842 §3.5), and those that were heard.
    pub new: u32,
    pub old: u32,
}

impl UserMailbox {
    pub const fn is_full(&self, most: u32) -> bool {
        self.new.saturating_add(self.old) >= most
    }
}

impl User {
    /// Calls that nobody takes are taken by the user's mailbox.
    pub fn has_mailbox(&self, account: &Account) -> bool {
        self.mailbox.policy.unwrap_or(account.mailbox.policy) == VoicemailPolicy::On
    }
}

/// Whether callers may leave messages. Off unless somebody says so: a call that a
/// mailbox takes is answered, and so charged for, and its caller recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VoicemailPolicy {
    #[default]
    Off,
    On,
}

/// The place that a user's calls are sent on to which is the user's own mailbox;
/// a user of that name comes first.
pub const MAILBOX: &str = "voicemail";

impl Account {
    /// What those hear who are put on hold in its calls.
    pub fn hold_sound(&self) -> Option<Sound> {
        match self.hold_music {
            HoldMusic::Off => None,
            HoldMusic::BuiltIn => Some(Sound::Tune),
            HoldMusic::Own => Some(self.hold_sound.map_or(Sound::Tune, Sound::Own)),
        }
    }
}

/// What is played to those who are put on hold (RFC 5359 §2.3), unless the phone
/// that holds them plays something itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HoldMusic {
    Off,
    #[default]
    BuiltIn,
    Own,
}

/// What another region's proxy does with requests for this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EdgePolicy {
    /// Forward over mTLS to the home proxy.
    #[default]
    Forward,
    /// Answer 302 with the home proxy as Contact.
    Redirect,
    /// Answer 403.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordingPolicy {
    #[default]
    Off,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncryptionPolicy {
    /// An app leg that offers plain RTP gets 488, unless its user's media
    /// policy is `rtp`.
    #[default]
    Required,
    Optional,
}

/// Which other accounts may call this one's users by their addresses and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallsFrom {
    #[default]
    None,
    /// Those with the same home region.
    Region,
    Any,
}

impl CallsFrom {
    /// Whether an account at home in `caller` may call one at home in `callee`.
    pub fn allows(self, caller: RegionCode, callee: RegionCode) -> bool {
        match self {
            Self::None => false,
            Self::Region => caller == callee,
            Self::Any => true,
        }
    }
}

/// Between whom and us an asserted identity counts (RFC 3325 §2): the carrier's
/// word for who calls us, ours for who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asserted {
    #[default]
    Both,
    /// The carrier is believed, and told nothing.
    In,
    /// The carrier is told, and not believed.
    Out,
    None,
}

impl Asserted {
    pub const fn is_believed(self) -> bool {
        matches!(self, Self::Both | Self::In)
    }

    pub const fn is_told(self) -> bool {
        matches!(self, Self::Both | Self::Out)
    }
}

/// How a user's or trunk's media is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaPolicy {
    /// By the transport and by what the client registered with.
    #[default]
    Auto,
    /// Plain RTP, allowed explicitly.
    Rtp,
    Sdes,
    Dtls,
    /// DTLS-SRTP with ICE, rtcp-mux and AVPF, as browsers speak.
    Webrtc,
}

/// Names an enumeration's variants as configuration and the database write them.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownName { found: text.chars().take(32).collect(), wanted: Self::NAMES }),
                }
            }
        }
    };
}
pub(crate) use named;

named!(EdgePolicy { Forward = "forward", Redirect = "redirect", Refuse = "refuse" });
named!(HoldMusic { Off = "off", BuiltIn = "built-in", Own = "own" });
named!(VoicemailPolicy { Off = "off", On = "on" });
named!(RecordingPolicy { Off = "off", All = "all" });
named!(EncryptionPolicy { Required = "required", Optional = "optional" });
named!(Asserted { Both = "both", In = "in", Out = "out", None = "none" });
named!(CallsFrom { None = "none", Region = "region", Any = "any" });
named!(MediaPolicy { Auto = "auto", Rtp = "rtp", Sdes = "sdes", Dtls = "dtls", Webrtc = "webrtc" });
named!(TrunkTransport { Udp = "udp", Tcp = "tcp", Tls = "tls" });

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {}", .wanted.join(", "))]
pub struct UnknownName {
    pub(crate) found: String,
    pub(crate) wanted: &'static [&'static str],
}

#[derive(Debug, Clone)]
pub struct User {
    pub sid: UserSid,
    pub account: AccountSid,
    /// The user part of the address of record, and the digest username.
    pub name: Personal<String>,
    pub digest: DigestSecrets,
    /// E.164 with `+`; also listed in [`Tenancy::numbers`].
    pub number: Option<Personal<String>>,
    pub media: MediaPolicy,
    /// Overrides the account's policy.
    pub recording: Option<RecordingPolicy>,
    pub forwarding: Forwarding,
    pub mailbox: UserMailbox,
}

/// Where calls go in a user's stead: each to a user's name, or to a number of
/// E.164 with `+`, and no further than the user's own calls may; or to several of
/// them, see [`places`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// And no phone of the user rings.
    pub always: Option<Personal<String>>,
    /// Busy, or declined.
    pub busy: Option<Personal<String>>,
    pub no_answer: Option<Personal<String>>,
    /// No phone is registered, or none can be reached.
    pub unreachable: Option<Personal<String>>,
    /// How long the user's phones ring; `None`: as the proxy is configured.
    pub ring: Option<Duration>,
    /// As if busy: no phone rings.
    pub do_not_disturb: bool,
}

/// Places that one text may name.
pub const MOST_PLACES: usize = 12;

/// The places that a text names: one after the other between commas, and joined by
/// `&` those that are tried at once.
pub fn places(text: &str) -> Vec<Vec<&str>> {
    let named =
        |text| -> Vec<_> { str::trim_matches(text, ' ').split('&').map(str::trim).collect() };
    text.split(',').map(named).collect()
}

/// What of it is to change: `None` leaves a part as it is, `Some(None)` takes it
/// away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardingChange {
    pub always: Option<Option<Personal<String>>>,
    pub busy: Option<Option<Personal<String>>>,
    pub no_answer: Option<Option<Personal<String>>>,
    pub unreachable: Option<Option<Personal<String>>>,
    pub ring: Option<Option<Duration>>,
    pub do_not_disturb: Option<bool>,
}

impl Forwarding {
    pub fn changed(self, change: &ForwardingChange) -> Self {
        let place = |is: Option<_>, to: &Option<Option<_>>| to.clone().unwrap_or(is);
        Self {
            always: place(self.always, &change.always),
            busy: place(self.busy, &change.busy),
            no_answer: place(self.no_answer, &change.no_answer),
            unreachable: place(self.unreachable, &change.unreachable),
            ring: change.ring.unwrap_or(self.ring),
            do_not_disturb: change.do_not_disturb.unwrap_or(self.do_not_disturb),
        }
    }
}

/// H(username:realm:password) with the account's domain as realm (RFC 7616
/// §3.4.2), in lower-case hexadecimal. The password itself is not kept.
#[derive(Debug, Clone)]
pub struct DigestSecrets {
    pub md5: Secret<String>,
    pub sha256: Secret<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// With `+`.
    pub e164: Personal<String>,
    pub account: AccountSid,
    pub target: NumberTarget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberTarget {
    User(UserSid),
    Trunk(TrunkSid),
}

#[derive(Debug, Clone)]
pub struct Trunk {
    pub sid: TrunkSid,
    pub account: AccountSid,
    pub name: String,
    pub send_to: TrunkAddress,
    /// Who may send calls in by this trunk. Empty: nobody.
    pub accept_from: Vec<IpNet>,
    /// Beginnings of the E.164 numbers that go out by this trunk, with `+`.
    /// Empty: all.
    pub prefixes: Vec<String>,
    pub media: MediaPolicy,
    pub asserted: Asserted,
    /// For the carrier's digest challenge.
    pub credentials: Option<TrunkCredentials>,
}

/// Whether this can begin an E.164 number: `+` and up to 15 digits.
pub fn is_prefix(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (1..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
}

impl Trunk {
    /// How much of the number its longest fitting prefix covers; 0 where it
    /// carries all. `None`: it does not carry this one.
    pub fn carries(&self, number: &str) -> Option<usize> {
        if self.prefixes.is_empty() {
            return Some(0);
        }
        let fitting = self.prefixes.iter().filter(|prefix| number.starts_with(prefix.as_str()));
        fitting.map(String::len).max()
    }

    pub fn accepts(&self, source: IpAddr) -> bool {
        self.accept_from.iter().any(|network| network.contains(&source))
    }
}

#[derive(Debug, Clone)]
pub struct TrunkCredentials {
    pub username: Personal<String>,
    pub password: Secret<String>,
}

/// Where a trunk's calls are sent, as `udp:carrier.example:5060`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkAddress {
    pub transport: TrunkTransport,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkTransport {
    Udp,
    Tcp,
    Tls,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a trunk's address: wanted TRANSPORT:HOST:PORT, as `udp:carrier.example:5060`"
)]
pub struct InvalidTrunkAddress(String);

impl FromStr for TrunkAddress {
    type Err = InvalidTrunkAddress;

    fn from_str(text: &str) -> Result<Self, InvalidTrunkAddress> {
        let parse = || {
            let (transport, rest) = text.split_once(':')?;
            let (host, port) = rest.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(v6) => {
                    v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?
                }
                None => Some(host).filter(|name| {
                    !name.is_empty()
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                })?,
            };
            Some(Self {
                transport: transport.parse().ok()?,
                host: host.to_owned(),
                port: port.parse().ok().filter(|&port| port != 0)?,
            })
        };
        parse().ok_or_else(|| InvalidTrunkAddress(text.chars().take(64).collect()))
    }
}

impl fmt::Display for TrunkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}:[{}]:{}", self.transport, self.host, self.port)
        } else {
            write!(f, "{}:{}:{}", self.transport, self.host, self.port)
        }
    }
}

/// Whether `text` is an E.164 number: `+`, then 3 to 15 digits, the first not 0.
pub fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (3..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_address_names_transport_host_and_port() {
        for good in ["udp:carrier.example:5060", "tls:[2001:db8::1]:5061", "tcp:127.0.0.1:1"] {
            assert_eq!(good.parse::<TrunkAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "udp:x",
            "sctp:x:1",
            "udp::5060",
            "udp:x:0",
            "udp:x:70000",
            "udp:[zz]:1",
            "udp:a b:1",
        ] {
            assert!(bad.parse::<TrunkAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_parse_back_and_others_are_refused_by_name() {
        assert_eq!("webrtc".parse(), Ok(MediaPolicy::Webrtc));
        let error = "zrtp".parse::<MediaPolicy>().unwrap_err().to_string();
        assert_eq!(error, "`zrtp` is none of auto, rtp, sdes, dtls, webrtc");
    }

    #[test]
    fn e164_wants_a_plus_and_digits() {
        assert!(is_e164("+353123456789") && is_e164("+112"));
        for bad in ["353123", "+", "+0123", "+12a", "+1234567890123456", "+12"] {
            assert!(!is_e164(bad), "{bad}");
        }
    }
}
