//! Prepares a region for the comparison with other servers: an account
//! `bench.local` with users `u000000` … whose passwords are `pw` and the name.
//!
//! usage: bench-region DIR IP USERS

use std::path::PathBuf;
use std::time::Instant;

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
    let ip = arguments.next().ok_or(usage)?;
    let users: u32 = arguments.next().ok_or(usage)?.parse()?;

    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("regions.toml"), regions(&ip))?;
    std::fs::write(directory.join("config.toml"), configuration(&ip))?;
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
    let own = RegionEntry { jurisdiction: "IE".parse()?, proxies: Vec::new(), public_uri: None };
    landline_store::directory::region_add(&snapshot, region, own)?;
    let entry =
        AccountEntry { sid: account.sid, home_region: region, edge_policy: account.edge_policy };
    landline_store::directory::account_add(&snapshot, DOMAIN, entry)?;
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

fn regions(ip: &str) -> String {
    format!("[[regions]]\ncode = \"ie1\"\njurisdiction = \"IE\"\nproxies = [\"{ip}:5062\"]\n")
}

fn configuration(ip: &str) -> String {
    format!(
        r#"data_dir = "data"
key_ring = "keys.json"
ca = "pki/ca.pem"

[region]
code = "ie1"
jurisdiction = "IE"
contracting_entity = "Bench"

[database]
url = "sqlite:database.sqlite"

[directory]
snapshot = "directory.json"
regions = "regions.toml"

[proxy]
name = "ie1-proxy-1"

[[proxy.listen]]
transport = "udp"
address = "{ip}:5060"

[proxy.identity]
certificate = "pki/ie1/proxy.pem"
key = "pki/ie1/proxy.key"

[proxy.inter_region]
address = "{ip}:5062"

[[proxy.relays]]
name = "bench-relay"
address = "{ip}:5065"

[relay]
name = "bench-relay"
control = "{ip}:5065"
ports = "10000-59999"

[relay.identity]
certificate = "pki/ie1/relay.pem"
key = "pki/ie1/relay.key"

[[relay.media]]
address = "{ip}"

[telemetry]
address = "{ip}:9090"
"#
    )
}
