//! The shared directory snapshot as a JSON file: which region is home to which
//! account, where its proxies are, and whose number a token stands for. It holds
//! no personal data, not even an account's name.
//!
//! The snapshot is signed, and read only when its signature is good: whoever
//! could change it could send a region's calls elsewhere.

mod keys;
mod numbers;
mod stamp;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use landline_call::directory::{AccountEntry, Directory, InterRegionAddress, RegionEntry};
use landline_call::tenancy::{Account, CallsFrom};
use landline_region::catalogue::fields::{ACCOUNT_DOMAIN, SID};
use landline_region::egress::{Carried, Destination, Flow, Form, Gate};
use landline_region::{AccountSid, Jurisdiction, NumberToken, RegionCode};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::file::replace;

pub use keys::{DirectoryKeys, keys_file, number_key};
pub use numbers::number_free;
pub use stamp::Stamp;

/// Beyond this a file is no directory of ours.
const MAX_OCTETS: u64 = 64 << 20;

/// What an account's entry holds of it.
const ACCOUNT: &[Carried] = &[(&ACCOUNT_DOMAIN, Form::Bare), (&SID, Form::Bare)];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryFile {
    version: u64,
    regions: BTreeMap<RegionCode, RegionFile>,
    accounts: Vec<AccountFile>,
    /// The account that has the number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    numbers: BTreeMap<NumberToken, AccountSid>,
    /// Ed25519, in hexadecimal, over the rest in compact JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionFile {
    jurisdiction: Jurisdiction,
    /// `HOST:PORT` each.
    proxies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    console: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountFile {
    sid: AccountSid,
    domain: String,
    home_region: RegionCode,
    edge_policy: String,
    #[serde(default = "nobody")]
    calls_from: String,
}

fn nobody() -> String {
    CallsFrom::None.name().to_owned()
}

/// Reads the snapshot and checks its signature.
pub fn read(path: &Path) -> Result<Directory> {
    let text = read_bounded(path).map_err(|error| StoreError::file(path, error))?;
    let keys = DirectoryKeys::open(&keys_file(path))?;
    let keys = keys.ok_or_else(|| StoreError::file(keys_file(path), keys::MISSING))?;
    parse(&text, &keys).map_err(|problem| StoreError::file(path, problem))
}

fn read_with(path: &Path, keys: &DirectoryKeys) -> Result<Directory> {
    let text = read_bounded(path).map_err(|error| StoreError::file(path, error))?;
    parse(&text, keys).map_err(|problem| StoreError::file(path, problem))
}

/// Makes the keys of a directory that has none yet, and signs a snapshot from
/// before there were signatures.
pub fn prepare(path: &Path) -> Result<()> {
    let _lock = locked(path)?;
    prepared(path).map(drop)
}

fn prepared(path: &Path) -> Result<DirectoryKeys> {
    let file = keys_file(path);
    if let Some(keys) = DirectoryKeys::open(&file)? {
        return Ok(keys);
    }
    let fail = |error: std::io::Error| StoreError::file(path, error);
    if !path.try_exists().map_err(fail)? {
        return DirectoryKeys::create(&file);
    }
    let text = read_bounded(path).map_err(fail)?;
    let read = serde_json::from_slice::<DirectoryFile>(&text);
    let unsigned = read.map_err(|error| StoreError::file(path, not_a_directory(&error)))?;
    if unsigned.signature.is_some() {
        return Err(StoreError::file(file, keys::MISSING));
    }
    let keys = DirectoryKeys::create(&file)?;
    replace(path, signed(unsigned, &keys)?.as_bytes()).map_err(fail)?;
    Ok(keys)
}

fn locked(path: &Path) -> Result<File> {
    let fail = |error: std::io::Error| StoreError::file(path, error);
    let mut lock_name = path.file_name().unwrap_or_default().to_owned();
    lock_name.push(".lock");
    let lock = File::create(path.with_file_name(lock_name)).map_err(fail)?;
    lock.lock().map_err(fail)?;
    Ok(lock)
}

/// Reads, changes, signs and replaces the file under a lock; the version rises
/// by one where anything changed. A missing file is an empty directory. Every
/// region reads it, so the gate decides whether what the change adds (`carried`)
/// may be there.
pub fn update<T>(
    gate: &Gate,
    path: &Path,
    carried: &[Carried],
    change: impl FnOnce(&mut Directory) -> Result<T>,
) -> Result<T> {
    update_with(gate, path, carried, |directory, _| change(directory))
}

fn update_with<T>(
    gate: &Gate,
    path: &Path,
    carried: &[Carried],
    change: impl FnOnce(&mut Directory, &DirectoryKeys) -> Result<T>,
) -> Result<T> {
    let fail = |error: std::io::Error| StoreError::file(path, error);
    let _lock = locked(path)?;
    let keys = prepared(path)?;
    let before = match path.try_exists().map_err(fail)? {
        true => read_with(path, &keys)?,
        false => Directory::default(),
    };
    let mut after = before.clone();
    let value = change(&mut after, &keys)?;
    if after != before || before.version == 0 {
        gate.decide(Flow::Directory, &Destination::Directory, carried)?;
        after.version = before.version + 1;
        replace(path, print(&after, &keys)?.as_bytes()).map_err(fail)?;
    }
    Ok(value)
}

/// Adds a region or replaces what is known of it.
pub fn region_add(gate: &Gate, path: &Path, code: RegionCode, entry: RegionEntry) -> Result<()> {
    update(gate, path, &[], |directory| {
        directory.regions.insert(code, entry);
        Ok(())
    })
}

/// Adds an account. Domains are unique across all regions.
pub fn account_add(gate: &Gate, path: &Path, domain: &str, entry: AccountEntry) -> Result<()> {
    let domain = domain.to_ascii_lowercase();
    update(gate, path, ACCOUNT, |directory| {
        if !directory.regions.contains_key(&entry.home_region) {
            return Err(StoreError::NotFound {
                what: format!("region {} in the directory", entry.home_region),
                next: format!("its regions are {}", known_regions(directory)),
            });
        }
        if let Some(known) = directory.accounts.get(&domain).filter(|known| known.sid != entry.sid)
        {
            return Err(StoreError::Conflict {
                what: format!("domain {domain}"),
                next: format!(
                    "it belongs to account {} of region {}; choose another",
                    known.sid, known.home_region
                ),
            });
        }
        directory.accounts.insert(domain, entry);
        Ok(())
    })
}

/// Enters an account of this region, or what changed of it.
pub fn account_enter(gate: &Gate, path: &Path, account: &Account) -> Result<()> {
    account_add(gate, path, &account.domain, account.into())
}

/// The snapshot in the file's form, signed.
pub fn print(directory: &Directory, keys: &DirectoryKeys) -> Result<String> {
    let file = DirectoryFile {
        version: directory.version,
        regions: directory
            .regions
            .iter()
            .map(|(code, region)| (*code, region_file(region)))
            .collect(),
        accounts: directory
            .accounts
            .iter()
            .map(|(domain, account)| AccountFile {
                sid: account.sid,
                domain: domain.clone(),
                home_region: account.home_region,
                edge_policy: account.edge_policy.name().to_owned(),
                calls_from: account.calls_from.name().to_owned(),
            })
            .collect(),
        numbers: directory
            .numbers
            .iter()
            .filter_map(|(token, domain)| Some((*token, directory.accounts.get(domain)?.sid)))
            .collect(),
        signature: None,
    };
    signed(file, keys)
}

fn signed(mut file: DirectoryFile, keys: &DirectoryKeys) -> Result<String> {
    let unprintable = |error| StoreError::file("directory", error);
    file.signature = None;
    let plain = serde_json::to_vec(&file).map_err(unprintable)?;
    file.signature = Some(hex::encode(keys.sign(&plain)?));
    let text = serde_json::to_string_pretty(&file);
    text.map(|text| text + "\n").map_err(unprintable)
}

fn not_a_directory(error: &serde_json::Error) -> String {
    format!("not a directory: {error}")
}

/// `Err` says what is wrong and where.
pub fn parse(text: &[u8], keys: &DirectoryKeys) -> Result<Directory, String> {
    let mut file: DirectoryFile =
        serde_json::from_slice(text).map_err(|error| not_a_directory(&error))?;
    let signature = file.signature.take().ok_or(
        "it has no signature: restore a signed copy from a machine that can sign the directory",
    )?;
    let plain = serde_json::to_vec(&file).map_err(|error| not_a_directory(&error))?;
    let signature = hex::decode(signature).map_err(|_| "its signature cannot be read")?;
    if !keys.verify(&plain, &signature) {
        return Err("its signature is not by this directory's key: the file was altered, or \
                    belongs to another directory; restore a signed copy"
            .to_owned());
    }
    directory_of(file)
}

fn directory_of(file: DirectoryFile) -> Result<Directory, String> {
    let mut directory = Directory { version: file.version, ..Directory::default() };
    for (code, region) in file.regions {
        directory.regions.insert(code, region_entry(code, region)?);
    }
    let mut domains = BTreeMap::new();
    for account in file.accounts {
        let domain = account.domain.to_ascii_lowercase();
        if !directory.regions.contains_key(&account.home_region) {
            return Err(format!(
                "account {domain}: its home region {} is not among the regions {}",
                account.home_region,
                known_regions(&directory)
            ));
        }
        let edge_policy = account
            .edge_policy
            .parse()
            .map_err(|error| format!("account {domain}: edge_policy: {error}"))?;
        let calls_from = account
            .calls_from
            .parse()
            .map_err(|error| format!("account {domain}: calls_from: {error}"))?;
        let (sid, home_region) = (account.sid, account.home_region);
        let entry = AccountEntry { sid, home_region, edge_policy, calls_from };
        domains.insert(sid, domain.clone());
        if directory.accounts.insert(domain.clone(), entry).is_some() {
            return Err(format!("account {domain} is listed twice"));
        }
    }
    for (token, sid) in file.numbers {
        let domain = domains.get(&sid);
        let domain = domain.ok_or_else(|| format!("number {token}: no account {sid} is listed"))?;
        directory.numbers.insert(token, domain.clone());
    }
    Ok(directory)
}

fn region_file(region: &RegionEntry) -> RegionFile {
    RegionFile {
        jurisdiction: region.jurisdiction,
        proxies: region
            .proxies
            .iter()
            .map(|proxy| match proxy.host.contains(':') {
                true => format!("[{}]:{}", proxy.host, proxy.port),
                false => format!("{}:{}", proxy.host, proxy.port),
            })
            .collect(),
        public_uri: region.public_uri.clone(),
        console: region.console.clone(),
    }
}

fn region_entry(code: RegionCode, region: RegionFile) -> Result<RegionEntry, String> {
    let proxies = region.proxies.iter().map(|text| {
        proxy_address(text)
            .ok_or_else(|| format!("region {code}: proxy `{text}`: wanted HOST:PORT"))
    });
    Ok(RegionEntry {
        jurisdiction: region.jurisdiction,
        proxies: proxies.collect::<Result<_, _>>()?,
        public_uri: region.public_uri,
        console: region.console,
    })
}

/// IPv6 addresses stand in brackets.
fn proxy_address(text: &str) -> Option<InterRegionAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| !host.is_empty() && !host.contains([':', ' ', '/']))?,
    };
    let port = port.parse().ok().filter(|&port| port != 0)?;
    Some(InterRegionAddress { host: host.to_owned(), port })
}

fn known_regions(directory: &Directory) -> String {
    let codes: Vec<&str> = directory.regions.keys().map(RegionCode::as_str).collect();
    if codes.is_empty() { "none yet".to_owned() } else { codes.join(", ") }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    File::open(path)?.take(MAX_OCTETS + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_OCTETS {
        return Err(std::io::Error::other("it is larger than 64 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use landline_call::tenancy::EdgePolicy;

    use super::*;

    fn region(port: u16) -> RegionEntry {
        RegionEntry {
            jurisdiction: "IE".parse().unwrap(),
            proxies: vec![
                InterRegionAddress { host: "127.0.0.1".to_owned(), port },
                InterRegionAddress { host: "::1".to_owned(), port },
            ],
            public_uri: Some("sip:127.0.0.1:5060".to_owned()),
            console: Some("https://127.0.0.1:8443".to_owned()),
        }
    }

    fn gate() -> Gate {
        Gate::new("ie1".parse().unwrap(), Default::default())
    }

    fn account(number: u128) -> AccountEntry {
        AccountEntry {
            sid: AccountSid::from_u128(number),
            home_region: "ie1".parse().unwrap(),
            edge_policy: EdgePolicy::Redirect,
            calls_from: CallsFrom::Any,
        }
    }

    #[test]
    fn what_was_added_is_read_back_and_the_version_rises() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        assert!(read(&path).unwrap_err().to_string().contains("directory.json"));
        region_add(&gate(), &path, "ie1".parse().unwrap(), region(7060)).unwrap();
        account_add(&gate(), &path, "Acme.Test", account(1)).unwrap();
        let directory = read(&path).unwrap();
        assert_eq!(directory.version, 2);
        assert_eq!(directory.account("ACME.test"), Some(&account(1)));
        assert_eq!(directory.regions[&"ie1".parse().unwrap()], region(7060));
        account_add(&gate(), &path, "acme.test", account(1)).unwrap();
        assert_eq!(read(&path).unwrap().version, 2, "nothing changed");
        let refusing = AccountEntry { edge_policy: EdgePolicy::Refuse, ..account(1) };
        account_add(&gate(), &path, "acme.test", refusing).unwrap();
        assert_eq!(read(&path).unwrap().accounts["acme.test"].edge_policy, EdgePolicy::Refuse);
    }

    #[test]
    fn a_domain_belongs_to_one_account_and_its_region_must_be_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        let error = account_add(&gate(), &path, "acme.test", account(1)).unwrap_err().to_string();
        assert!(error.contains("region ie1"), "{error}");
        region_add(&gate(), &path, "ie1".parse().unwrap(), region(7060)).unwrap();
        account_add(&gate(), &path, "acme.test", account(1)).unwrap();
        let error = account_add(&gate(), &path, "ACME.test", account(2)).unwrap_err().to_string();
        assert!(error.contains(&account(1).sid.to_string()), "{error}");
    }

    #[test]
    fn administrators_who_write_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        region_add(&gate(), &path, "ie1".parse().unwrap(), region(7060)).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    account_add(&gate(), path, &format!("a{number}.test"), account(number))
                        .unwrap();
                });
            }
        });
        let directory = read(&path).unwrap();
        assert_eq!((directory.accounts.len(), directory.version), (8, 9));
    }

    /// What another program might write: signed, whatever it says.
    fn reading(text: &str, keys: &DirectoryKeys) -> Result<Directory, String> {
        let file: DirectoryFile =
            serde_json::from_str(text).map_err(|error| not_a_directory(&error))?;
        parse(signed(file, keys).unwrap().as_bytes(), keys)
    }

    #[test]
    fn a_wrong_file_is_refused_by_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let keys = DirectoryKeys::create(&dir.path().join("keys")).unwrap();
        let account = |region: &str, policy: &str| {
            format!(
                r#"{{"version":1,"regions":{{"ie1":{{"jurisdiction":"IE","proxies":["h:1"]}}}},
                "accounts":[{{"sid":"{}","domain":"acme.test","home_region":"{region}",
                "edge_policy":"{policy}"}}]}}"#,
                AccountSid::from_u128(1)
            )
        };
        assert!(reading(&account("ie1", "forward"), &keys).is_ok());
        let wrong = |text: &str| reading(text, &keys).unwrap_err();
        assert!(wrong(&account("us1", "forward")).contains("home region us1"));
        assert!(wrong(&account("ie1", "drop")).contains("forward, redirect, refuse"));
        assert!(wrong(&account("ie1", "forward").replace("h:1", "h")).contains("proxy `h`"));
        assert!(
            wrong(&account("ie1", "forward").replace("\"sid\"", "\"name\":\"x\",\"sid\""))
                .contains("name")
        );
        assert!(wrong("{").contains("line 1"));
    }

    #[test]
    fn an_altered_or_unsigned_snapshot_is_refused_and_a_stale_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        region_add(&gate(), &path, "ie1".parse().unwrap(), region(7060)).unwrap();
        account_add(&gate(), &path, "acme.test", account(1)).unwrap();
        let stale = std::fs::read_to_string(&path).unwrap();
        region_add(&gate(), &path, "us1".parse().unwrap(), region(7061)).unwrap();
        std::fs::write(&path, &stale).unwrap();
        assert_eq!(read(&path).unwrap().version, 2);

        std::fs::write(&path, stale.replace("127.0.0.1:7060", "127.0.0.1:7061")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("directory.json") && error.contains("altered"), "{error}");
        let error = account_add(&gate(), &path, "b.test", account(2)).unwrap_err().to_string();
        assert!(error.contains("altered"), "an altered file is not signed anew: {error}");

        let mut unsigned: serde_json::Value = serde_json::from_str(&stale).unwrap();
        unsigned.as_object_mut().unwrap().remove("signature");
        std::fs::write(&path, unsigned.to_string()).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no signature"));
    }

    #[test]
    fn a_snapshot_from_before_signatures_is_signed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        let former = r#"{"version":7,"regions":{"ie1":{"jurisdiction":"IE","proxies":["h:1"]}},
            "accounts":[{"sid":"AC00000000000000000000000000000001","domain":"acme.test",
            "home_region":"ie1","edge_policy":"forward"}]}"#;
        std::fs::write(&path, former).unwrap();
        assert!(read(&path).is_err());
        prepare(&path).unwrap();
        let directory = read(&path).unwrap();
        assert_eq!(directory.version, 7);
        assert_eq!(directory.accounts["acme.test"].calls_from, CallsFrom::None);
        // Signed it is not taken in without the keys it was signed with.
        std::fs::remove_file(keys_file(&path)).unwrap();
        assert!(prepare(&path).unwrap_err().to_string().contains("copy it"));
        assert!(read(&path).unwrap_err().to_string().contains("copy it"));
    }
}
