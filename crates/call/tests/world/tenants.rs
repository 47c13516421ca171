//! Accounts to test with.

use std::sync::Arc;

use landline_call::tenancy::{
    Account, AccountMailbox, CallsFrom, DigestSecrets, EdgePolicy, EncryptionPolicy, Forwarding,
    HoldMusic, MediaPolicy, Number, NumberTarget, RecordingPolicy, Tenancy, Trunk,
    TrunkCredentials, User, UserMailbox,
};
use landline_region::{AccountSid, Personal, Secret, TrunkSid, UserSid};
use landline_sip::digest::{Algorithm, ha1};

pub const PASSWORD: &str = "correct horse";

/// `acme.test` at home in ie1: alice, bob and carol speak plain RTP, dave is
/// left to the account's policy; a carrier at 10.9.0.1.
pub fn acme() -> Tenancy {
    let account = account(1, "acme.test", "ie1");
    let mut tenancy = Tenancy { accounts: vec![account.clone()], ..Tenancy::default() };
    let numbers =
        [("alice", 1, "+353100000001"), ("bob", 2, "+353100000002"), ("carol", 3, "+353100000003")];
    for (name, sid, number) in numbers {
        let mut user = user(&account, name, sid);
        user.media = MediaPolicy::Rtp;
        user.number = Some(Personal::new(number.to_owned()));
        tenancy.users.push(Arc::new(user));
        tenancy.numbers.push(Arc::new(Number {
            e164: Personal::new(number.to_owned()),
            account: account.sid,
            target: NumberTarget::User(UserSid::from_u128(sid)),
        }));
    }
    tenancy.users.push(Arc::new(user(&account, "dave", 4)));
    tenancy.trunks.push(Arc::new(Trunk {
        sid: TrunkSid::from_u128(9),
        account: account.sid,
        name: "carrier".into(),
        send_to: "udp:10.9.0.1:5060".parse().unwrap(),
        accept_from: vec!["10.9.0.0/24".parse().unwrap()],
        prefixes: Vec::new(),
        asserted: Default::default(),
        media: MediaPolicy::Auto,
        credentials: Some(TrunkCredentials {
            username: Personal::new("acme-trunk".into()),
            password: Secret::new("trunk secret".into()),
        }),
    }));
    tenancy
}

/// `globex.test` at home in us1, with erin and frank.
pub fn globex() -> Tenancy {
    let account = account(2, "globex.test", "us1");
    let users = [("erin", 11), ("frank", 12)].map(|(name, sid)| {
        let mut user = user(&account, name, sid);
        user.media = MediaPolicy::Rtp;
        Arc::new(user)
    });
    Tenancy { accounts: vec![account], users: users.into(), ..Tenancy::default() }
}

pub fn account(sid: u128, domain: &str, home: &str) -> Arc<Account> {
    Arc::new(Account {
        sid: AccountSid::from_u128(sid),
        name: Personal::new(domain.to_owned()),
        domain: domain.to_owned(),
        home_region: home.parse().unwrap(),
        edge_policy: EdgePolicy::Forward,
        recording: RecordingPolicy::Off,
        encryption: EncryptionPolicy::Required,
        calls_from: CallsFrom::None,
        hold_music: HoldMusic::Off,
        hold_sound: None,
        mailbox: AccountMailbox::default(),
        contracting_entity: "Landline Test Ltd".into(),
    })
}

pub fn user(account: &Account, name: &str, sid: u128) -> User {
    let secret = |algorithm| Secret::new(ha1(algorithm, name, &account.domain, PASSWORD));
    User {
        sid: UserSid::from_u128(sid),
        account: account.sid,
        name: Personal::new(name.to_owned()),
        digest: DigestSecrets { md5: secret(Algorithm::Md5), sha256: secret(Algorithm::Sha256) },
        number: None,
        media: MediaPolicy::Auto,
        recording: None,
        forwarding: Forwarding::default(),
        mailbox: UserMailbox::default(),
    }
}

/// Changes one user of a tenancy.
pub fn with_user(mut tenancy: Tenancy, name: &str, change: impl Fn(&mut User)) -> Tenancy {
    for user in &mut tenancy.users {
        if user.name.expose() == name {
            change(Arc::make_mut(user));
        }
    }
    tenancy
}

pub fn with_account(mut tenancy: Tenancy, change: impl Fn(&mut Account)) -> Tenancy {
    change(Arc::make_mut(&mut tenancy.accounts[0]));
    tenancy
}
