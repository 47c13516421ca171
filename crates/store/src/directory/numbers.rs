//! Which account has a number, without saying which number.

use std::path::Path;

use landline_call::directory::Directory;
use landline_region::catalogue::fields::{NUMBER, SID};
use landline_region::egress::{Carried, Form, Gate};
use landline_region::{AccountSid, NumberToken, Personal};

use super::{DirectoryKeys, keys, keys_file, read_with, update_with};
use crate::error::{Result, StoreError};
use crate::store::Store;

/// What a number's entry holds of it: a token under the directory's key.
const NUMBERS: &[Carried] = &[(&NUMBER, Form::Pseudonym), (&SID, Form::Bare)];

/// Refuses a number that another account has, in whatever region.
pub fn number_free(path: &Path, account: AccountSid, e164: &Personal<String>) -> Result<()> {
    let file = keys_file(path);
    let known = DirectoryKeys::open(&file)?;
    let known = known.ok_or_else(|| StoreError::file(file, keys::MISSING))?;
    let directory = read_with(path, &known)?;
    unowned(&directory, account, known.numbers().token(e164.expose()))
}

impl Store {
    /// The directory's tokens follow the account's numbers; how many there are.
    pub async fn publish_numbers(&self, directory: &Path, account: AccountSid) -> Result<usize> {
        let numbers = self.number_list(account).await?;
        let numbers: Vec<_> = numbers.into_iter().map(|number| number.e164).collect();
        numbers_set(self.gate(), directory, account, &numbers)?;
        Ok(numbers.len())
    }
}

/// Makes these the account's numbers, and no others.
fn numbers_set(
    gate: &Gate,
    path: &Path,
    account: AccountSid,
    numbers: &[Personal<String>],
) -> Result<()> {
    update_with(gate, path, NUMBERS, |directory, keys| {
        let own = directory.accounts.iter().find(|(_, entry)| entry.sid == account);
        let domain = match own {
            Some((domain, _)) => domain.clone(),
            None => return Err(crate::account::unknown(&account.to_string())),
        };
        directory.numbers.retain(|_, owner| *owner != domain);
        for number in numbers {
            let token = keys.numbers().token(number.expose());
            unowned(directory, account, token)?;
            directory.numbers.insert(token, domain.clone());
        }
        Ok(())
    })
}

fn unowned(directory: &Directory, account: AccountSid, token: NumberToken) -> Result<()> {
    match directory.number(token).filter(|(_, owner)| owner.sid != account) {
        None => Ok(()),
        Some((_, owner)) => Err(StoreError::Conflict {
            what: "this number".to_owned(),
            next: format!(
                "account {} of region {} has it; remove it there first",
                owner.sid, owner.home_region
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use landline_call::directory::{AccountEntry, RegionEntry};
    use landline_call::tenancy::{CallsFrom, EdgePolicy};

    use super::super::{account_add, number_key, read, region_add};
    use super::*;

    #[test]
    fn a_number_has_one_owner_and_stands_nowhere_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.json");
        let ie1 = "ie1".parse().unwrap();
        let gate = Gate::new(ie1, Default::default());
        let region = RegionEntry {
            jurisdiction: "IE".parse().unwrap(),
            proxies: Vec::new(),
            public_uri: None,
            console: None,
        };
        region_add(&gate, &path, ie1, region).unwrap();
        let [acme, globex] = [1, 2].map(AccountSid::from_u128);
        for (domain, sid) in [("acme.test", acme), ("globex.test", globex)] {
            let entry = AccountEntry {
                sid,
                home_region: ie1,
                edge_policy: EdgePolicy::Forward,
                calls_from: CallsFrom::Any,
            };
            account_add(&gate, &path, domain, entry).unwrap();
        }
        let number = |text: &str| Personal::new(text.to_owned());
        let (first, second) = (number("+353155501234"), number("+353155501235"));
        numbers_set(&gate, &path, acme, &[first.clone(), second.clone()]).unwrap();
        let token = number_key(&path).unwrap().token(first.expose());
        assert_eq!(read(&path).unwrap().number(token).unwrap().0, "acme.test");
        let error = number_free(&path, globex, &first).unwrap_err().to_string();
        assert!(error.contains(&acme.to_string()) && !error.contains("5550"), "{error}");
        assert!(numbers_set(&gate, &path, globex, std::slice::from_ref(&first)).is_err());

        // It moves when its owner gives it up.
        numbers_set(&gate, &path, acme, &[second]).unwrap();
        numbers_set(&gate, &path, globex, &[first]).unwrap();
        assert_eq!(read(&path).unwrap().number(token).unwrap().0, "globex.test");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("5550"), "{text}");
    }
}
