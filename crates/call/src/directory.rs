//! The global directory as a proxy holds it: which region is home to which
//! account, and where that region's proxies are. No personal data.

use std::collections::BTreeMap;

use landline_region::{AccountSid, Jurisdiction, NumberToken, RegionCode};

use landline_sip::Destination;

use crate::tenancy::{Account, CallsFrom, EdgePolicy};

/// One snapshot. Replaced whole when a newer one is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    pub version: u64,
    pub regions: BTreeMap<RegionCode, RegionEntry>,
    /// By SIP domain, lower case.
    pub accounts: BTreeMap<String, AccountEntry>,
    /// The domain of the account that has the number.
    pub numbers: BTreeMap<NumberToken, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RegionEntry {
    pub jurisdiction: Jurisdiction,
    /// Where other regions' proxies reach this one's over mTLS, as `host:port`.
    pub proxies: Vec<InterRegionAddress>,
    /// Where clients reach it: the Contact of a redirect, as `sip:host:port;transport=tls`.
    pub public_uri: Option<String>,
    /// Where its HTTPS API is, as `https://api.ie1.example`.
    pub console: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterRegionAddress {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AccountEntry {
    pub sid: AccountSid,
    pub home_region: RegionCode,
    pub edge_policy: EdgePolicy,
    /// Asked before anything is sent there; the home region asks again.
    pub calls_from: CallsFrom,
}

impl From<&Account> for AccountEntry {
    fn from(account: &Account) -> Self {
        Self {
            sid: account.sid,
            home_region: account.home_region,
            edge_policy: account.edge_policy,
            calls_from: account.calls_from,
        }
    }
}

impl Directory {
    /// Whether a destination is one of that region's proxies.
    pub(crate) fn has_proxy(&self, code: RegionCode, destination: &Destination) -> bool {
        let Destination::Region { region, host, port } = destination else { return false };
        let proxies = self.regions.get(&code).map_or(&[][..], |it| &it.proxies);
        **region == *code.as_str()
            && proxies.iter().any(|it| it.host.eq_ignore_ascii_case(host) && it.port == *port)
    }

    /// Whose number it is: domain and account.
    pub fn number(&self, token: NumberToken) -> Option<(&str, &AccountEntry)> {
        let domain = self.numbers.get(&token)?;
        Some((domain, self.accounts.get(domain)?))
    }

    /// Looks a SIP domain up, whatever its case.
    pub fn account(&self, domain: &str) -> Option<&AccountEntry> {
        match domain.bytes().any(|b| b.is_ascii_uppercase()) {
            true => self.accounts.get(&domain.to_ascii_lowercase()),
            false => self.accounts.get(domain),
        }
    }
}
