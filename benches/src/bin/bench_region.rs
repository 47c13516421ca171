//! Prepares a region for the comparison with other servers: an account
//! `bench.local` with users `u000000` … whose passwords are `pw` and the name.
//!
//! usage: bench-region DIR IP USERS

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use landline::config::{Draft, PortRange, RegionItem, Regions, Transport};
use landline_call::directory::{AccountEntry, RegionEntry};
use landline_call::tenancy::{DigestSecrets, EncryptionPolicy, MediaPolicy};
use landline_region::{Personal, RegionCode, Secret};
use landline_sip::digest::{Algorithm, ha1};
use landline_store::{KeyRing, NewAccount, NewUser, Store, StoreConfig};

const DOMAIN: &str = "bench.local";

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bench-region DIR IP USERS";
    let directory = PathBuf::from(arguments.next().ok_or(usage)?);
    let ip: IpAddr = arguments.next().ok_or(usage)?.parse()?;
    let users: u32 = arguments.next().ok_or(usage)?.parse()?;

    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("regions.toml"), regions(ip)?)?;
    std::fs::write(directory.join("config.toml"), configuration(ip)?)?;
    let begun = Instant::now();
    fill(&directory, users).await?;
    eprintln!("{users} users in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn fill(directory: &std::path::Path, users: u32) -> Result<(), Failure> {
    let region: RegionCode = "ie1".parse()?;
    let key_ring = directory.join("keys.json");
    KeyRing::create(&key_ring, region)?;
    let url = format!("sqlite:{}", directory.join("database.sqlite").display());
    let store = Store::open(&StoreConfig::new(url, region, key_ring)).await?;
    let account = store
        .account_create(&NewAccount {
            encryption: EncryptionPolicy::Optional,
            ..NewAccount::new("bench", DOMAIN, region)
        })
        .await?;
    let snapshot = directory.join("directory.json");
    let own = RegionEntry {
        jurisdiction: "IE".parse()?,
        proxies: Vec::new(),
        public_uri: None,
        console: None,
    };
    landline_store::directory::region_add(store.gate(), &snapshot, region, own)?;
    let entry = AccountEntry {
        sid: account.sid,
        home_region: region,
        edge_policy: account.edge_policy,
        calls_from: account.calls_from,
    };
    landline_store::directory::account_add(store.gate(), &snapshot, DOMAIN, entry)?;
    for number in 0..users {
        let name = format!("u{number:06}");
        let password = format!("pw{name}");
        let secret = |algorithm| Secret::new(ha1(algorithm, &name, DOMAIN, &password));
        let user = NewUser {
            digest: DigestSecrets {
                md5: secret(Algorithm::Md5),
                sha256: secret(Algorithm::Sha256),
            },
            name: Personal::new(name.clone()),
            number: None,
            media: MediaPolicy::Rtp,
            recording: None,
        };
        store.user_add(account.sid, &user).await?;
    }
    store.close().await;
    Ok(())
}

fn regions(ip: IpAddr) -> Result<String, Failure> {
    let item = RegionItem {
        code: "ie1".parse()?,
        jurisdiction: "IE".parse()?,
        proxies: vec![SocketAddr::new(ip, 5062).into()],
        public_uri: None,
        console: None,
    };
    Ok(Regions { regions: vec![item] }.to_toml()?)
}

fn configuration(ip: IpAddr) -> Result<String, Failure> {
    let at = |port| SocketAddr::new(ip, port);
    let draft = Draft {
        code: "ie1".parse()?,
        jurisdiction: "IE".parse()?,
        contracting_entity: "Bench".to_owned(),
        database: "sqlite:database.sqlite".parse()?,
        shared: ".".into(),
        ca: "pki/ca.pem".into(),
        certificates: "pki/ie1".into(),
        listen: vec![(Transport::Udp, at(5060)), (Transport::Wss, at(5063))],
        origins: None,
        inter_region: at(5062),
        control: at(5065),
        media: ip,
        ports: PortRange { first: 10_000, last: 59_999 },
        media_tcp: None,
        shards: 0,
        telemetry: at(9090),
        relay_telemetry: None,
        console: None,
        log_level: "info".to_owned(),
    };
    Ok(draft.config().to_toml()?)
}
