//! Commands that administer a region, beside its running processes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use landline_call::tenancy::{
    Asserted, CallsFrom, EdgePolicy, EncryptionPolicy, HoldMusic, MediaPolicy, RecordingPolicy,
    TrunkAddress, VoicemailPolicy, is_e164, is_prefix,
};
use landline_region::{ApiKeySid, CallSid, Jurisdiction, RecordingSid, RegionCode, VoicemailSid};
use landline_store::ApiRole;

use super::receipt::{CheckArgs, ProveArgs};
use crate::config::HostPort;

/// Which region's data a command works on, and how it answers.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// One region's configuration.
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "data")]
    pub config: Option<PathBuf>,
    /// A demo's directory, with the configurations of its regions.
    #[arg(long, value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// Print JSON with stable keys.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum RegionVerb {
    List,
    /// Enter a region into the directory, or change its entry.
    Add {
        code: RegionCode,
        /// The law it stands under: a country code, as IE.
        #[arg(long, value_name = "CC")]
        jurisdiction: Jurisdiction,
        /// Where its proxies take other regions' calls; may be repeated.
        #[arg(long = "proxy", value_name = "HOST:PORT", required = true)]
        proxies: Vec<HostPort>,
        /// Where its clients connect, as sip:sip.ie1.example:5061;transport=tls.
        #[arg(long, value_name = "URI")]
        public_uri: Option<String>,
        /// Where its HTTPS API is, as https://api.ie1.example.
        #[arg(long, value_name = "URL")]
        console: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum AccountVerb {
    /// Create an account; its home region is the admin's choice and stays.
    Create {
        name: String,
        /// Its SIP domain, as acme.example.
        #[arg(long, value_parser = domain)]
        domain: String,
        /// Its home region.
        #[arg(long, value_name = "CODE")]
        region: RegionCode,
        /// Who the customer's contract is with, instead of the region's entity.
        #[arg(long, value_name = "NAME")]
        contracting_entity: Option<String>,
        #[command(flatten)]
        policies: AccountPolicies,
    },
    List,
    Show {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    Set {
        #[arg(help = ACCOUNT)]
        account: String,
        #[command(flatten)]
        policies: AccountPolicies,
    },
    /// Put a WAV file as the music that its callers hear on hold, or take it away.
    Music {
        #[arg(help = ACCOUNT)]
        account: String,
        /// One or two channels of 8 to 48 kHz, at most 300 seconds.
        #[arg(value_name = "FILE.wav", required_unless_present = "remove")]
        file: Option<PathBuf>,
        /// The built-in music is heard then.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
    },
}

const ACCOUNT: &str = "Its sid or its SIP domain";

#[derive(Debug, Clone, Args)]
pub struct AccountPolicies {
    /// What other regions' proxies do with its requests: forward, redirect or refuse.
    #[arg(long, alias = "edge", value_name = "POLICY")]
    pub edge_policy: Option<EdgePolicy>,
    /// Which calls are recorded: off or all.
    #[arg(long, alias = "record", value_name = "POLICY")]
    pub recording: Option<RecordingPolicy>,
    /// Whether apps must encrypt media: required or optional.
    #[arg(long, value_name = "POLICY")]
    pub encryption: Option<EncryptionPolicy>,
    /// Which other accounts may call its users: none, region (the same home) or any.
    #[arg(long, value_name = "POLICY")]
    pub calls_from: Option<CallsFrom>,
    /// What those hear who are put on hold: off, built-in, or own, which `account music` puts.
    #[arg(long, value_name = "MUSIC")]
    pub hold_music: Option<HoldMusic>,
    /// Whether callers may leave messages for users who do not answer: off or on.
    #[arg(long, value_name = "POLICY")]
    pub voicemail: Option<VoicemailPolicy>,
}

#[derive(Debug, Subcommand)]
pub enum UserVerb {
    Add {
        #[arg(help = ACCOUNT)]
        account: String,
        /// The user part of its SIP address.
        #[arg(value_parser = user_name)]
        user: String,
        #[command(flatten)]
        args: UserArgs,
    },
    Set {
        #[arg(help = ACCOUNT)]
        account: String,
        user: String,
        #[command(flatten)]
        changes: UserChanges,
    },
    List {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    Remove {
        #[arg(help = ACCOUNT)]
        account: String,
        user: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// Generated and printed once when left out.
    #[arg(long, value_parser = password)]
    pub password: Option<String>,
    /// An E.164 number that leads to the user.
    #[arg(long, value_name = "E164", value_parser = e164)]
    pub number: Option<String>,
    /// How its media is protected: auto, rtp, sdes, dtls or webrtc.
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub media: MediaPolicy,
    /// Overrides the account's policy: off or all.
    #[arg(long = "record", alias = "recording", value_name = "POLICY")]
    pub recording: Option<RecordingPolicy>,
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct UserChanges {
    #[arg(long, value_parser = password)]
    pub password: Option<String>,
    /// Replace the password by a generated one, printed once.
    #[arg(long, conflicts_with = "password")]
    pub new_password: bool,
    /// The E.164 number that leads to the user, or none.
    #[arg(long, value_name = "E164|none", value_parser = number_change)]
    pub number: Option<NumberChange>,
    #[arg(long, value_name = "POLICY")]
    pub media: Option<MediaPolicy>,
    /// off, all, or account to follow the account's policy.
    #[arg(long = "record", alias = "recording", value_name = "POLICY", value_parser = recording_override)]
    pub recording: Option<RecordingOverride>,
    /// Send all calls on: to a user, an E.164 number, voicemail, or none; to several, `a&b`
    /// rings them at once and `a,b` one after the other. So with the others.
    #[arg(long, value_name = "PLACES|none", value_parser = place_change)]
    pub forward_always: Option<PlaceChange>,
    /// When the user is busy or declines.
    #[arg(long, value_name = "PLACES|none", value_parser = place_change)]
    pub forward_busy: Option<PlaceChange>,
    /// When nobody answers.
    #[arg(long, value_name = "PLACES|none", value_parser = place_change)]
    pub forward_no_answer: Option<PlaceChange>,
    /// When no phone of the user is registered, or none can be reached.
    #[arg(long, value_name = "PLACES|none", value_parser = place_change)]
    pub forward_unreachable: Option<PlaceChange>,
    /// How long the user's phones ring (5 to 300), or none for the proxy's own time.
    #[arg(long, value_name = "SECONDS|none", value_parser = ring_change)]
    pub ring_seconds: Option<RingChange>,
    /// on: no phone rings, callers hear busy or go where busy calls are sent.
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    pub do_not_disturb: Option<bool>,
    /// Whether callers may leave messages: on, off, or account to follow the account.
    #[arg(long, value_name = "on|off|account", value_parser = voicemail_override)]
    pub voicemail: Option<VoicemailOverride>,
}

/// A user's own policy, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoicemailOverride(pub Option<VoicemailPolicy>);

/// Where calls are sent on to, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceChange(pub Option<String>);

/// How many seconds phones ring, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingChange(pub Option<u64>);

/// A user's number, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberChange(pub Option<String>);

/// A user's own recording policy, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingOverride(pub Option<RecordingPolicy>);

#[derive(Debug, Subcommand)]
pub enum NumberVerb {
    Add {
        #[arg(help = ACCOUNT)]
        account: String,
        #[arg(value_name = "E164", value_parser = e164)]
        number: String,
        /// Where it leads: user:NAME or trunk:NAME.
        #[arg(long, value_name = "TARGET")]
        to: NumberTargetArg,
    },
    List {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    /// Enters the account's numbers into the directory anew, as keyed tokens.
    Publish {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    Remove {
        #[arg(help = ACCOUNT)]
        account: String,
        #[arg(value_name = "E164", value_parser = e164)]
        number: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberTargetArg {
    User(String),
    Trunk(String),
}

impl FromStr for NumberTargetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.to_owned())),
            Some(("trunk", name)) if !name.is_empty() => Ok(Self::Trunk(name.to_owned())),
            _ => Err("wanted user:NAME or trunk:NAME".to_owned()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum TrunkVerb {
    Add {
        #[arg(help = ACCOUNT)]
        account: String,
        #[arg(value_parser = trunk_name)]
        name: String,
        #[command(flatten)]
        args: TrunkArgs,
    },
    List {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    Remove {
        #[arg(help = ACCOUNT)]
        account: String,
        name: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct TrunkArgs {
    /// Where calls go, as udp:carrier.example:5060.
    #[arg(long, value_name = "TRANSPORT:HOST:PORT")]
    pub send_to: TrunkAddress,
    /// Who may send calls in; may be repeated. Nobody when left out.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub accept_from: Vec<IpNet>,
    /// Beginning of the numbers that go out by it, as +353; may be repeated. All
    /// when left out. The longest that fits wins.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub prefix: Vec<String>,
    /// How its media is protected: auto, rtp, sdes, dtls or webrtc.
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub media: MediaPolicy,
    /// P-Asserted-Identity (RFC 3325): in, the carrier is believed who calls; out, it
    /// is told who calls it; both or none.
    #[arg(long, value_name = "both|in|out|none", default_value_t)]
    pub asserted: Asserted,
    /// For the carrier's digest challenge.
    #[arg(long, requires = "password")]
    pub username: Option<String>,
    #[arg(long, requires = "username")]
    pub password: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum CallsVerb {
    /// The newest first.
    List {
        /// Only this account's: a sid or a SIP domain.
        account: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    Show {
        call: CallSid,
    },
}

#[derive(Debug, Subcommand)]
pub enum RecordingVerb {
    /// The newest first.
    List {
        /// Only this account's: a sid or a SIP domain.
        account: Option<String>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Open, check and write a recording as a two-channel WAV file.
    Export {
        recording: RecordingSid,
        #[arg(value_name = "FILE.wav")]
        file: PathBuf,
    },
    /// Delete a recording's audio. That it was there, and why it went, is
    /// signed in the region's log.
    Delete {
        recording: RecordingSid,
        /// A person's data is to go (GDPR Art. 17).
        #[arg(long)]
        erasure: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum VoicemailVerb {
    /// What a user's mailbox holds, the newest first.
    List {
        #[arg(help = ACCOUNT)]
        account: String,
        user: String,
    },
    /// Open, check and write a message as a WAV file.
    Export {
        #[arg(help = ACCOUNT)]
        account: String,
        message: VoicemailSid,
        #[arg(value_name = "FILE.wav")]
        file: PathBuf,
    },
    /// Say that a message was heard.
    Heard {
        #[arg(help = ACCOUNT)]
        account: String,
        message: VoicemailSid,
        /// It counts as new again.
        #[arg(long)]
        not: bool,
    },
    /// Remove a message with what was recorded of it.
    Remove {
        #[arg(help = ACCOUNT)]
        account: String,
        message: VoicemailSid,
        /// A person's data is to go (GDPR Art. 17).
        #[arg(long)]
        erasure: bool,
    },
    /// Put a WAV file as what callers hear before they leave a message, or take it
    /// away: for one user, or for all who have none of their own.
    Greeting {
        #[arg(help = ACCOUNT)]
        account: String,
        /// One or two channels of 8 to 48 kHz, at most 300 seconds.
        #[arg(value_name = "FILE.wav", required_unless_present = "remove")]
        file: Option<PathBuf>,
        #[arg(long)]
        user: Option<String>,
        /// The account's greeting, or the built-in one, is heard then.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ResidencyVerb {
    /// A signed report of an account's calls over a period, with every receipt.
    Prove(ProveArgs),
    /// Re-hash everything against receipts and log.
    Check(CheckArgs),
    /// Every kind of personal data: class, purpose, retention, legal basis,
    /// where it lies, what may carry it out. Needs no region.
    Map,
    /// The record of processing activities (GDPR Art. 30), with what really left.
    Register,
    /// Who else processes data for the region.
    Subprocessors,
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key; its secret is printed once and not kept.
    Create {
        #[arg(help = ACCOUNT)]
        account: String,
        /// What it may do: admin, operator, auditor or read.
        #[arg(long)]
        role: ApiRole,
        /// What people are to call it.
        #[arg(long)]
        name: String,
    },
    /// The oldest first, revoked ones included.
    List {
        #[arg(help = ACCOUNT)]
        account: String,
    },
    /// From now on the key opens nothing.
    Revoke {
        #[arg(help = ACCOUNT)]
        account: String,
        key: ApiKeySid,
    },
}

#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// Read the journal and hold it against the database: opened = closed + open.
    Check,
}

fn domain(text: &str) -> Result<String, String> {
    let labels_fine = text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    match labels_fine && text.contains('.') && text.len() <= 253 {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("wanted a DNS name of two labels or more, as acme.example".to_owned()),
    }
}

/// RFC 3261 §25.1: the user part without escapes, so that it prints as it is.
fn user_name(text: &str) -> Result<String, String> {
    let fine = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'&=+$".contains(&b));
    match fine && !is_e164(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("wanted 1 to 64 letters, digits or -_.!~*'&=+$, and no E.164 number".to_owned())
        }
    }
}

fn trunk_name(text: &str) -> Result<String, String> {
    let fine = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fine.then(|| text.to_owned())
        .ok_or_else(|| "wanted 1 to 63 letters, digits, `-`, `_` or `.`".to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    match is_prefix(text) {
        true => Ok(text.to_owned()),
        false => Err("wanted + and 1 to 15 digits, as +353".to_owned()),
    }
}

fn e164(text: &str) -> Result<String, String> {
    match is_e164(text) {
        true => Ok(text.to_owned()),
        false => Err("wanted an E.164 number: + and 3 to 15 digits, as +35312345678".to_owned()),
    }
}

fn password(text: &str) -> Result<String, String> {
    match (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("wanted 1 to 128 characters, none of them a control character".to_owned()),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>()
        .ok()
        .or_else(single)
        .ok_or_else(|| "wanted an address or a network, as 192.0.2.0/24".to_owned())
}

fn place_change(text: &str) -> Result<PlaceChange, String> {
    match text {
        "none" => Ok(PlaceChange(None)),
        "" => Err("wanted a user's name, an E.164 number, or none".to_owned()),
        _ => Ok(PlaceChange(Some(text.to_owned()))),
    }
}

fn ring_change(text: &str) -> Result<RingChange, String> {
    match text {
        "none" => Ok(RingChange(None)),
        _ => text
            .parse()
            .map(|seconds| RingChange(Some(seconds)))
            .map_err(|_| "wanted whole seconds, or none".to_owned()),
    }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("wanted on or off".to_owned()),
    }
}

fn number_change(text: &str) -> Result<NumberChange, String> {
    match text {
        "none" => Ok(NumberChange(None)),
        _ => e164(text).map(|number| NumberChange(Some(number))),
    }
}

fn voicemail_override(text: &str) -> Result<VoicemailOverride, String> {
    match text {
        "account" => Ok(VoicemailOverride(None)),
        _ => text
            .parse()
            .map(|policy| VoicemailOverride(Some(policy)))
            .map_err(|_| "wanted on, off or account".to_owned()),
    }
}

fn recording_override(text: &str) -> Result<RecordingOverride, String> {
    match text {
        "account" => Ok(RecordingOverride(None)),
        _ => text
            .parse()
            .map(|policy| RecordingOverride(Some(policy)))
            .map_err(|_| "wanted off, all or account".to_owned()),
    }
}
