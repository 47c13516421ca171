//! Two accounts, each at home in a region of its own, with names that would be
//! recognised wherever they turn up.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use landline_call::directory::{Directory, InterRegionAddress, RegionEntry};
use landline_call::tenancy::{
    Account, AccountMailbox, CallsFrom, DigestSecrets, EdgePolicy, EncryptionPolicy, Forwarding,
    HoldMusic, MediaPolicy, RecordingPolicy, Tenancy, User, UserMailbox,
};
use landline_region::{AccountSid, Personal, RegionCode, Secret, UserSid};
use landline_sip::digest::{Algorithm, ha1};
use landline_store::KeyRing;

use crate::cx::border_address;
use crate::plan::Plan;

pub const PASSWORD: &str = "correct horse";
pub const DOMAINS: [&str; 2] = ["acme.test", "globex.test"];
/// At most as many phones as one account has users.
pub const NAMES: [[&str; 6]; 2] = [
    ["ailbhe", "brona", "cormac", "deirdre", "eoghan", "fiadh"],
    ["gustavo", "henrike", "ignatius", "jolanda", "kaspar", "leonor"],
];

pub fn region(number: usize) -> RegionCode {
    ["ie1", "us1"][number].parse().expect("a region's code")
}

pub fn tenancy(region_number: usize) -> Tenancy {
    let account = Arc::new(Account {
        sid: AccountSid::from_u128(region_number as u128 + 1),
        name: Personal::new(DOMAINS[region_number].to_owned()),
        domain: DOMAINS[region_number].to_owned(),
        home_region: region(region_number),
        edge_policy: EdgePolicy::Forward,
        recording: [RecordingPolicy::All, RecordingPolicy::Off][region_number],
        encryption: EncryptionPolicy::Optional,
        calls_from: CallsFrom::Any,
        hold_music: HoldMusic::Off,
        hold_sound: None,
        mailbox: AccountMailbox::default(),
        contracting_entity: "Landline Test Ltd".into(),
    });
    let names = NAMES[region_number].iter().enumerate();
    let users = names.map(|(number, name)| Arc::new(user(&account, name, number))).collect();
    Tenancy { accounts: vec![account], users, ..Tenancy::default() }
}

/// Every second user's media is SRTP with keys in the description. DTLS has no
/// place here: its library draws randomness of its own, and no run would be the
/// same twice.
pub fn media_of(number: usize) -> MediaPolicy {
    if number.is_multiple_of(2) { MediaPolicy::Rtp } else { MediaPolicy::Sdes }
}

fn user(account: &Account, name: &str, number: usize) -> User {
    let secret = |algorithm| Secret::new(ha1(algorithm, name, &account.domain, PASSWORD));
    let home = if account.domain == DOMAINS[0] { 0 } else { 1 };
    User {
        sid: UserSid::from_u128(home * 100 + number as u128 + 1),
        account: account.sid,
        name: Personal::new(name.to_owned()),
        digest: DigestSecrets { md5: secret(Algorithm::Md5), sha256: secret(Algorithm::Sha256) },
        number: None,
        media: media_of(number),
        recording: None,
        forwarding: Forwarding::default(),
        mailbox: UserMailbox::default(),
    }
}

/// The proxies of a region, by their number in the run.
pub fn proxies_of(plan: &Plan, region: usize) -> std::ops::Range<usize> {
    match region {
        0 => 0..plan.proxies[0],
        _ => plan.proxies[0]..plan.proxies[0] + plan.proxies[1],
    }
}

/// The proxies that stand in for this one.
pub fn peers_of(plan: &Plan, region: usize, proxy: usize) -> Vec<usize> {
    let others = proxies_of(plan, region).filter(|other| *other != proxy && plan.peers);
    others.collect()
}

pub fn directory(plan: &Plan) -> Directory {
    let mut directory = Directory { version: 1, ..Directory::default() };
    for number in 0..2 {
        let address = |proxy| {
            let address = border_address(proxy);
            InterRegionAddress { host: address.ip().to_string(), port: address.port() }
        };
        let entry = RegionEntry {
            jurisdiction: "IE".parse().expect("a country"),
            proxies: proxies_of(plan, number).map(address).collect(),
            public_uri: None,
            console: None,
        };
        directory.regions.insert(region(number), entry);
        for account in tenancy(number).accounts {
            directory.accounts.insert(account.domain.clone(), account.as_ref().into());
        }
    }
    directory
}

/// One key ring a region and process: what is sealed differs from run to run,
/// how long it is does not.
pub fn keys(number: usize) -> Arc<KeyRing> {
    static KEYS: OnceLock<BTreeMap<usize, Arc<KeyRing>>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ring = |number: usize| {
            let path = dir.path().join(number.to_string());
            (number, Arc::new(KeyRing::create(&path, region(number)).expect("a key ring")))
        };
        [0, 1].map(ring).into()
    };
    KEYS.get_or_init(make)[&number].clone()
}
