use serde::{Deserialize, Serialize};

use super::Flow;
use crate::{Jurisdiction, RegionCode};

/// The exhaustive list of parties that process data for the platform
/// (GDPR Art. 28(2)). What is not in it receives nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Rises with every change that customers are told of.
    pub version: u32,
    #[serde(default)]
    pub subprocessors: Vec<Subprocessor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subprocessor {
    pub name: String,
    /// Host names it is reached by; `*.example.com` takes every name below.
    pub hosts: Vec<String>,
    /// What may go to it.
    pub flows: Vec<Flow>,
    /// Which regions use it.
    pub regions: Vec<RegionCode>,
    pub purpose: String,
    /// The law it stands under.
    pub jurisdiction: Jurisdiction,
    /// The day it is used from, as `2026-11-22`.
    pub since: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidRegistry {
    /// As `subprocessors[2].hosts`.
    pub key: String,
    pub problem: String,
}

impl Registry {
    /// Every problem, by its key.
    pub fn problems(&self) -> Vec<InvalidRegistry> {
        let mut problems = Vec::new();
        let mut add = |key: String, problem: &str| {
            problems.push(InvalidRegistry { key, problem: problem.to_owned() });
        };
        for (index, item) in self.subprocessors.iter().enumerate() {
            let key = |name: &str| format!("subprocessors[{index}].{name}");
            if item.name.trim().is_empty() {
                add(key("name"), "wanted a name");
            }
            if self.subprocessors[..index].iter().any(|earlier| earlier.name == item.name) {
                add(key("name"), "is listed twice; each has one entry");
            }
            if item.hosts.is_empty() || !item.hosts.iter().all(|host| is_host(host)) {
                add(
                    key("hosts"),
                    "wanted host names, as `[\"smtp.post.example\", \"*.push.example\"]`",
                );
            }
            if item.flows.is_empty() {
                add(key("flows"), "wanted at least one flow, as `[\"mail\"]`");
            }
            if item.regions.is_empty() {
                add(key("regions"), "wanted the regions that use it, as `[\"ie1\"]`");
            }
        }
        problems
    }

    /// The entry that a host belongs to.
    pub fn by_host(&self, host: &str) -> Option<&Subprocessor> {
        self.subprocessors.iter().find(|item| item.hosts.iter().any(|known| covers(known, host)))
    }
}

impl Subprocessor {
    pub fn serves(&self, flow: Flow, region: RegionCode) -> bool {
        self.flows.contains(&flow) && self.regions.contains(&region)
    }
}

/// Whether a pattern takes a host name, whatever the case (RFC 4343).
fn covers(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix('*') {
        // The dot stays, so that `*.example` does not take `evilexample`.
        Some(below) => {
            host.len() > below.len()
                && host
                    .get(host.len() - below.len()..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(below))
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// A name, an address, or every name below a domain of two labels or more.
fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-.:".contains(&b);
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(fine)
        && (name.len() == text.len() || name.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_names_below_and_no_others() {
        for (pattern, host, taken) in [
            ("smtp.post.example", "SMTP.post.example.", true),
            ("smtp.post.example", "a.smtp.post.example", false),
            ("*.post.example", "smtp.post.example", true),
            ("*.post.example", "post.example", false),
            ("*.post.example", "evilpost.example", false),
            ("*.post.example", "smtp.post.example.evil", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("*.é.example", "é", false),
        ] {
            assert_eq!(covers(pattern, host), taken, "{pattern} {host}");
        }
    }

    #[test]
    fn every_problem_of_a_registry_is_named() {
        let item = Subprocessor {
            name: "Post".to_owned(),
            hosts: vec!["*.example".to_owned()],
            flows: Vec::new(),
            regions: Vec::new(),
            purpose: String::new(),
            jurisdiction: "IE".parse().unwrap(),
            since: String::new(),
        };
        let registry = Registry { version: 1, subprocessors: vec![item.clone(), item] };
        let keys: Vec<String> = registry.problems().into_iter().map(|it| it.key).collect();
        assert_eq!(keys.iter().filter(|key| key.starts_with("subprocessors[0]")).count(), 3);
        assert!(keys.contains(&"subprocessors[1].name".to_owned()));
    }
}
