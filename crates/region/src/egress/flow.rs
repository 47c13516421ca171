use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AccountSid, Jurisdiction, RegionCode};

/// A way out of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// Signalling between the proxies of two regions, over mutual TLS: of an
    /// account's users who come in elsewhere, and of calls between regions.
    InterRegionSip,
    /// The directory that all regions share.
    Directory,
    /// Counters and gauges that somebody outside the region reads.
    Metrics,
    /// Log lines and traces that go to a collector outside the region.
    Logs,
    /// Requests to an address that the account itself named.
    Webhook,
    Mail,
    Push,
    /// Copies of a region's database or keys.
    Backup,
    /// What an administrator exports to a party outside: usage, invoices.
    Export,
}

impl Flow {
    pub const ALL: [Self; 9] = [
        Self::InterRegionSip,
        Self::Directory,
        Self::Metrics,
        Self::Logs,
        Self::Webhook,
        Self::Mail,
        Self::Push,
        Self::Backup,
        Self::Export,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::InterRegionSip => "inter_region_sip",
            Self::Directory => "directory",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::Push => "push",
            Self::Backup => "backup",
            Self::Export => "export",
        }
    }

    pub const fn what(self) -> &'static str {
        match self {
            Self::InterRegionSip => {
                "signalling between the proxies of two regions, over mutual TLS"
            }
            Self::Directory => "entries of the directory that all regions share",
            Self::Metrics => "aggregates that somebody outside the region reads",
            Self::Logs => "log lines and traces to a collector outside the region",
            Self::Webhook => "requests to an address that the account named",
            Self::Mail => "mail through a sub-processor",
            Self::Push => "push messages through a sub-processor",
            Self::Backup => {
                "sealed copies of the database, within the region or kept by a sub-processor"
            }
            Self::Export => "exports to a sub-processor",
        }
    }

    pub(super) const fn goes_to(self, destination: &Destination<'_>) -> bool {
        matches!(
            (self, destination),
            (Self::InterRegionSip, Destination::Region(_))
                | (Self::Directory, Destination::Directory)
                | (Self::Webhook, Destination::Account(..))
                | (Self::Backup, Destination::Region(_))
                | (
                    Self::Metrics
                        | Self::Logs
                        | Self::Mail
                        | Self::Push
                        | Self::Backup
                        | Self::Export,
                    Destination::Party(_)
                )
        )
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no flow goes by this name")]
pub struct UnknownFlow;

impl FromStr for Flow {
    type Err = UnknownFlow;

    fn from_str(text: &str) -> Result<Self, UnknownFlow> {
        Self::ALL.into_iter().find(|flow| flow.name() == text).ok_or(UnknownFlow)
    }
}

/// How a field leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is.
    Bare,
    /// As a keyed pseudonym ([`crate::Token`]).
    Pseudonym,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Pseudonym => "pseudonym",
        }
    }
}

/// Who receives what leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A region of this platform. Must be in the list of regions.
    Region(RegionCode),
    /// The directory that all regions share.
    Directory,
    /// An address that the account named, which decides over its own data; and
    /// the country that it says the address is in.
    Account(AccountSid, Jurisdiction),
    /// Anybody else, by host name. Must be in the registry of sub-processors.
    Party(&'a str),
}

impl Destination<'_> {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Region(_) => "a region",
            Self::Directory => "the directory",
            Self::Account(..) => "an account's own address",
            Self::Party(_) => "a sub-processor",
        }
    }
}
