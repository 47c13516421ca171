use std::fmt;
use std::hash::{Hash, Hasher};

use serde::Serialize;
use zeroize::Zeroize;

/// What kind of personal data a field holds; decides redaction, sealing and
/// what may leave the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataClass {
    /// Names: of users, display names, SIP user parts.
    Identity,
    /// Telephone numbers.
    Number,
    /// Network addresses of people's devices.
    Address,
    /// What was said or written.
    Content,
    /// Who was in contact with whom, when, for how long.
    Traffic,
    /// Passwords, keys and what is derived from them.
    Credential,
}

impl DataClass {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Number => "number",
            Self::Address => "address",
            Self::Content => "content",
            Self::Traffic => "traffic",
            Self::Credential => "credential",
        }
    }
}

/// A value that says something about a person.
///
/// It has no `Display`, a redacted `Debug` and no `Serialize`: the only ways
/// out are [`Personal::expose`], called by the store and by the SIP and SDP
/// writers, and a keyed pseudonym.
#[derive(Clone, Default)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The bare value. Only the store, the SIP and SDP writers and an
    /// administrator's own listing may call this.
    pub fn expose(&self) -> &T {
        &self.0
    }

    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹personal›")
    }
}

impl<T: PartialEq> PartialEq for Personal<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq> Eq for Personal<T> {}

impl<T: PartialOrd> PartialOrd for Personal<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl<T: Ord> Ord for Personal<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T: Hash> Hash for Personal<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A password, key or digest input: redacted like [`Personal`], wiped on drop,
/// and not comparable by `==`, which would leak by timing.
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹secret›")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let name = Personal::new("alice".to_owned());
        let password = Secret::new("hunter2".to_owned());
        let shown = format!("{name:?} {password:?} {:?}", Some(&name));
        assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }
}
