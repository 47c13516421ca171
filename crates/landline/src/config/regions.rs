//! The list of all regions: one file, the same everywhere.

use std::path::Path;

use landline_region::{Jurisdiction, RegionCode};
use serde::{Deserialize, Serialize};

use super::load::Source;
use super::{ConfigError, HostPort};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    pub regions: Vec<RegionItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionItem {
    pub code: RegionCode,
    pub jurisdiction: Jurisdiction,
    /// Where the region's proxies take other regions' calls over mutual TLS.
    pub proxies: Vec<HostPort>,
    /// Where clients reach it: the Contact of a redirect.
    pub public_uri: Option<String>,
    /// Where its HTTPS API is: what a request in the wrong region is told.
    pub console: Option<String>,
}

impl Regions {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(file)?;
        let list: Self = source.parse()?;
        source.verdict(list.findings())?;
        Ok(list)
    }

    pub fn find(&self, code: RegionCode) -> Option<&RegionItem> {
        self.regions.iter().find(|item| item.code == code)
    }

    fn findings(&self) -> Vec<(String, String)> {
        let mut findings = Vec::new();
        for (index, item) in self.regions.iter().enumerate() {
            if self.regions[..index].iter().any(|earlier| earlier.code == item.code) {
                let text = format!("{} is listed twice; each region has one entry", item.code);
                findings.push((format!("regions[{index}].code"), text));
            }
            if item.proxies.is_empty() {
                let text = "wanted at least one HOST:PORT, as `[\"proxy.ie1.example:5062\"]`";
                findings.push((format!("regions[{index}].proxies"), text.to_owned()));
            }
            if item.public_uri.as_deref().is_some_and(|uri| !uri.starts_with("sip:")) {
                let text = "wanted a SIP URI, as `sip:sip.ie1.example:5061;transport=tls`";
                findings.push((format!("regions[{index}].public_uri"), text.to_owned()));
            }
            if item.console.as_deref().is_some_and(|url| !url.starts_with("https://")) {
                let text = "wanted an https URL, as `https://api.ie1.example`";
                findings.push((format!("regions[{index}].console"), text.to_owned()));
            }
        }
        findings
    }
}
