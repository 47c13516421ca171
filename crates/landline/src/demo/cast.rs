//! Who plays in the demo: three regions, an account in each, three users of
//! each account.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use landline_call::tenancy::{CallsFrom, MediaPolicy, RecordingPolicy};
use landline_region::{AccountSid, Personal};
use landline_store::{NewAccount, NewUser, Store, StoreError, password as passwords};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::files;

pub struct DemoRegion {
    pub code: &'static str,
    pub jurisdiction: &'static str,
    pub entity: &'static str,
}

pub const REGIONS: [DemoRegion; 3] = [
    DemoRegion { code: "us1", jurisdiction: "US", entity: "Landline US Inc" },
    DemoRegion { code: "ie1", jurisdiction: "IE", entity: "Landline Ireland Ltd" },
    DemoRegion { code: "au1", jurisdiction: "AU", entity: "Landline Australia Pty Ltd" },
];

pub struct DemoAccount {
    pub name: &'static str,
    pub domain: &'static str,
    pub region: &'static str,
    /// Numbers are this and two digits.
    number_prefix: &'static str,
    /// What its caller and its callee send each other, in Hz: all different,
    /// none a harmonic of another.
    pub tones: (u32, u32),
}

/// Numbers are of ranges that their regulators keep for fiction.
pub const ACCOUNTS: [DemoAccount; 3] = [
    DemoAccount {
        name: "acme",
        domain: "acme.test",
        region: "ie1",
        number_prefix: "+3532091000",
        tones: (440, 620),
    },
    DemoAccount {
        name: "globex",
        domain: "globex.test",
        region: "us1",
        number_prefix: "+120255501",
        tones: (500, 740),
    },
    DemoAccount {
        name: "southern",
        domain: "southern.test",
        region: "au1",
        number_prefix: "+612555001",
        tones: (560, 820),
    },
];

/// The user who calls, the one who is called, and one left for softphones.
pub const CALLER: &str = "alice";
pub const CALLEE: &str = "bob";
const USERS: [(&str, MediaPolicy); 3] =
    [(CALLER, MediaPolicy::Dtls), (CALLEE, MediaPolicy::Dtls), ("carol", MediaPolicy::Auto)];

/// An account as it now exists, with its users' passwords.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub sid: AccountSid,
    pub name: String,
    pub domain: String,
    pub home_region: String,
    pub users: Vec<User>,
}

#[derive(Clone, Serialize)]
pub struct User {
    pub user: String,
    pub password: String,
    pub number: String,
    pub media: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(..)")
    }
}

/// Creates what does not exist yet; passwords stay what they were.
pub async fn provide(
    layout: &Layout,
    stores: &BTreeMap<&'static str, Store>,
) -> Result<Vec<Account>> {
    let mut passwords = Passwords::read(&layout.data)?;
    let mut accounts = Vec::new();
    for wanted in &ACCOUNTS {
        let store = stores.get(wanted.region).context("a demo account without its region")?;
        let sid = provide_account(layout, store, wanted).await?;
        let mut users = Vec::new();
        for (index, (name, media)) in (1..).zip(USERS) {
            let password = passwords.of(wanted.domain, name)?;
            let number = format!("{}{index:02}", wanted.number_prefix);
            provide_user(store, sid, wanted.domain, name, &password, &number, media).await?;
            let media = media.name().to_owned();
            users.push(User { user: name.to_owned(), password, number, media });
        }
        crate::admin::publish_numbers(&layout.directory_file(), store, sid).await?;
        accounts.push(Account {
            sid,
            name: wanted.name.to_owned(),
            domain: wanted.domain.to_owned(),
            home_region: wanted.region.to_owned(),
            users,
        });
    }
    Ok(accounts)
}

async fn provide_account(
    layout: &Layout,
    store: &Store,
    wanted: &DemoAccount,
) -> Result<AccountSid> {
    let account = match store.account_find(wanted.domain).await {
        Ok(account) => account,
        Err(StoreError::NotFound { .. }) => {
            let entity = layout.site(wanted.region).map(|site| site.entity.to_owned());
            let new = NewAccount {
                recording: RecordingPolicy::All,
                calls_from: CallsFrom::Any,
                contracting_entity: entity,
                ..NewAccount::new(wanted.name, wanted.domain, store.region())
            };
            store.account_create(&new).await?
        }
        Err(error) => return Err(error.into()),
    };
    crate::admin::enter_in_directory(store, &layout.directory_file(), &account).await?;
    Ok(account.sid)
}

async fn provide_user(
    store: &Store,
    account: AccountSid,
    domain: &str,
    name: &str,
    password: &str,
    number: &str,
    media: MediaPolicy,
) -> Result<()> {
    let digest = passwords::digest_secrets(name, domain, password);
    match store.user_find(account, name).await {
        Ok(user) => {
            // The password file may be newer than the database.
            let known = user.digest.sha256.expose() == digest.sha256.expose();
            if !known {
                let change =
                    landline_store::UserChange { digest: Some(digest), ..Default::default() };
                store.user_set(account, name, &change).await?;
            }
        }
        Err(StoreError::NotFound { .. }) => {
            let new = NewUser {
                name: Personal::new(name.to_owned()),
                digest,
                number: Some(Personal::new(number.to_owned())),
                media,
                recording: None,
            };
            store.user_add(account, &new).await?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The demo's passwords by user and domain, in a file for its owner alone.
#[derive(Default, Serialize, Deserialize)]
struct Passwords {
    passwords: BTreeMap<String, String>,
    #[serde(skip)]
    file: std::path::PathBuf,
}

impl Passwords {
    fn read(data: &Path) -> Result<Self> {
        let file = data.join("demo.json");
        let mut known: Self = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!("{} is not what a demo wrote; remove it", file.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        known.file = file;
        Ok(known)
    }

    fn of(&mut self, domain: &str, user: &str) -> Result<String> {
        let key = format!("{user}@{domain}");
        if let Some(password) = self.passwords.get(&key) {
            return Ok(password.clone());
        }
        let password = passwords::generate();
        self.passwords.insert(key, password.clone());
        // Before it is used: a password that is lost locks the demo's phones out.
        let text = serde_json::to_vec_pretty(self)?;
        files::replace(&self.file, &text, 0o600)
            .with_context(|| format!("{}", self.file.display()))?;
        Ok(password)
    }
}
