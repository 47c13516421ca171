use std::path::Path;

use anyhow::{Context, Result};
use landline_call::tenancy::Account;
use landline_media::audio::read_wav;
use landline_region::{AccountSid, RegionCode};
use landline_store::{
    AccountChange, MOST_SOUND_SECONDS, NewAccount, SOUND_RATE, Store, StoreError, directory,
};
use serde_json::{Value, json};

use super::Place;
use crate::cli::{AccountPolicies, AccountVerb};
use crate::open;
use crate::output::{Style, Table, card};

/// Of a file that is put to be played.
const MOST_OCTETS: u64 = 64 << 20;

pub async fn run(place: &Place, verb: AccountVerb, style: Style) -> Result<String> {
    match verb {
        AccountVerb::Create { name, domain, region, contracting_entity, policies } => {
            let config = place.config_of(region, &format!("account {domain}"))?;
            let store = open::store(config).await?;
            let entity =
                contracting_entity.unwrap_or_else(|| config.region.contracting_entity.clone());
            let new = NewAccount {
                contracting_entity: Some(entity),
                ..with(policies, name, domain, region)
            };
            Ok(card(&shown(&create(place, &store, &new).await?), style))
        }
        AccountVerb::List => {
            let mut rows = Vec::new();
            for (_, store) in place.stores().await? {
                rows.extend(store.account_list().await?.iter().map(shown));
            }
            let columns =
                ["domain", "name", "home_region", "recording", "encryption", "edge_policy", "sid"];
            Ok(Table::new(&columns, rows, "no accounts").render(style))
        }
        AccountVerb::Show { account } => {
            let home = place.home(&account).await?;
            let account = home.store.account_find(&home.domain).await?;
            Ok(card(&shown(&account), style))
        }
        AccountVerb::Set { account, policies } => {
            let home = place.home(&account).await?;
            let change = AccountChange {
                edge_policy: policies.edge_policy,
                recording: policies.recording,
                encryption: policies.encryption,
                calls_from: policies.calls_from,
                hold_music: policies.hold_music,
                voicemail: policies.voicemail,
            };
            let account = home.store.account_set(home.account, &change).await?;
            enter(&home.store, place.directory_file(), &account).await?;
            Ok(card(&shown(&account), style))
        }
        AccountVerb::Music { account, file, remove: _ } => {
            let home = place.home(&account).await?;
            match file {
                Some(file) => put_music(&home.store, home.account, &file).await?,
                None => home.store.hold_music_remove(home.account).await?,
            }
            let account = home.store.account_find(&home.domain).await?;
            Ok(card(&shown(&account), style))
        }
    }
}

async fn put_music(store: &Store, account: AccountSid, file: &Path) -> Result<()> {
    store.hold_music_put(account, &sound_in(file)?).await?;
    Ok(())
}

/// A file of sound that is put to be played.
pub fn sound_in(file: &Path) -> Result<Vec<i16>> {
    let named = || format!("{}", file.display());
    let length = std::fs::metadata(file).with_context(named)?.len();
    anyhow::ensure!(length <= MOST_OCTETS, "{}: it is larger than {MOST_OCTETS} octets", named());
    let octets = std::fs::read(file).with_context(named)?;
    read_wav(&octets, SOUND_RATE, MOST_SOUND_SECONDS).with_context(named)
}

/// Writes the account into its home region's database, then its domain and
/// home into the directory.
async fn create(place: &Place, store: &Store, new: &NewAccount) -> Result<Account> {
    if let Some(entry) = place.directory()?.account(&new.domain) {
        return Err(StoreError::Conflict {
            what: format!("domain {}", new.domain),
            next: format!("account {} of region {} has it", entry.sid, entry.home_region),
        }
        .into());
    }
    let account = store.account_create(new).await?;
    enter(store, place.directory_file(), &account).await?;
    Ok(account)
}

/// The directory's entry follows the account.
pub async fn enter(store: &Store, snapshot: &Path, account: &Account) -> Result<()> {
    directory::account_enter(store.gate(), snapshot, account).with_context(|| {
        format!(
            "account {} is in its home region's database, but not in the directory",
            account.sid
        )
    })?;
    Ok(store.write_egress().await?)
}

fn with(policies: AccountPolicies, name: String, domain: String, region: RegionCode) -> NewAccount {
    NewAccount {
        edge_policy: policies.edge_policy.unwrap_or_default(),
        recording: policies.recording.unwrap_or_default(),
        encryption: policies.encryption.unwrap_or_default(),
        calls_from: policies.calls_from.unwrap_or_default(),
        hold_music: policies.hold_music.unwrap_or_default(),
        voicemail: policies.voicemail.unwrap_or_default(),
        ..NewAccount::new(name, domain, region)
    }
}

fn shown(account: &Account) -> Value {
    json!({
        "sid": account.sid.to_string(),
        "name": account.name.expose(),
        "domain": account.domain,
        "home_region": account.home_region.to_string(),
        "edge_policy": account.edge_policy.name(),
        "recording": account.recording.name(),
        "encryption": account.encryption.name(),
        "calls_from": account.calls_from.name(),
        "hold_music": account.hold_music.name(),
        "voicemail": account.mailbox.policy.name(),
        "contracting_entity": account.contracting_entity,
    })
}
