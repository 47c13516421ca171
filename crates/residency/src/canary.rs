//! What is looked for, and what may be found: the list that a run is given.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::search::{Hit, PlaceKind};

/// Shorter words stand by chance in a gigabyte of anything, once encoded.
const SHORTEST: usize = 8;

/// Canaries of every region, and the exceptions that were declared beforehand.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryList {
    pub canaries: Vec<Canary>,
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// What belongs to one region alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    pub region: String,
    pub words: Vec<Word>,
    /// The voices: each a steady tone, in Hz, at least 20 Hz from any other's, also
    /// when played at twice, three or six times the rate.
    #[serde(default)]
    pub tones: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// What it is, as "user name of the caller": the report says this in
    /// place of the text.
    pub what: String,
    pub text: String,
    #[serde(default)]
    pub kind: WordKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordKind {
    #[default]
    Text,
    /// E.164: searched without its plus sign, reversed, packed, as an integer.
    Number,
}

/// A hit that was declared beforehand. Every field must agree; `*` alone
/// agrees with anything, and at an end of `name` with any start or end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    pub id: String,
    /// The region whose canary it is.
    pub canary: String,
    /// The region that holds it.
    pub held_by: String,
    /// The word's `what`, or `tone`.
    pub what: String,
    pub place: PlaceKind,
    /// The place's name, as the report writes it.
    pub name: String,
    pub why: String,
}

#[derive(Debug)]
pub enum CanaryError {
    File(String),
    TooShort { what: String },
    NotE164 { what: String },
    Shared { what: String, other: String },
    TonesTooClose { one: u32, other: u32 },
}

impl std::error::Error for CanaryError {}

impl std::fmt::Display for CanaryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(problem) => write!(f, "the canary list: {problem}"),
            Self::TooShort { what } => {
                write!(f, "the {what} has fewer than {SHORTEST} octets: found by chance")
            }
            Self::NotE164 { what } => {
                write!(f, "the {what} is no E.164 number of 9 digits or more")
            }
            Self::Shared { what, other } => {
                write!(f, "the {what} is within the {other} of another region")
            }
            Self::TonesTooClose { one, other } => {
                write!(
                    f,
                    "{one} Hz and {other} Hz are of two regions and within 20 Hz, \
                     perhaps played at another rate"
                )
            }
        }
    }
}

impl CanaryList {
    pub fn load(path: &Path) -> Result<Self, CanaryError> {
        let fail = |error: String| CanaryError::File(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let list: Self = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
        list.check()?;
        Ok(list)
    }

    /// Fails where a search could not tell a leak from chance, or one
    /// region's canary from another's.
    pub fn check(&self) -> Result<(), CanaryError> {
        for (region, word) in self.words() {
            let number = word.text.trim_start_matches('+');
            if word.kind == WordKind::Number
                && (number.len() < 9 || !number.bytes().all(|it| it.is_ascii_digit()))
            {
                return Err(CanaryError::NotE164 { what: word.what.clone() });
            }
            if word.text.len() < SHORTEST {
                return Err(CanaryError::TooShort { what: word.what.clone() });
            }
            let needle = word.text.to_lowercase();
            let shared = self
                .words()
                .find(|(other, it)| *other != region && it.text.to_lowercase().contains(&needle));
            if let Some((other, it)) = shared {
                let other = format!("{} ({other})", it.what);
                return Err(CanaryError::Shared { what: word.what.clone(), other });
            }
        }
        self.check_tones()
    }

    fn check_tones(&self) -> Result<(), CanaryError> {
        for canary in &self.canaries {
            for other in self.canaries.iter().filter(|it| it.region != canary.region) {
                for &one in &canary.tones {
                    if let Some(&other) = other.tones.iter().find(|it| sounds_like(one, **it)) {
                        return Err(CanaryError::TonesTooClose { one, other });
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = (&str, &Word)> {
        self.canaries
            .iter()
            .flat_map(|canary| canary.words.iter().map(|word| (canary.region.as_str(), word)))
    }
}

impl Exception {
    pub fn covers(&self, hit: &Hit) -> bool {
        let same = |pattern: &str, text: &str| pattern == "*" || pattern == text;
        same(&self.canary, &hit.canary)
            && same(&self.held_by, &hit.held_by)
            && same(&self.what, &hit.what)
            && self.place == hit.place
            && agrees(&self.name, &hit.name)
    }
}

/// Samples do not say at which rate they are: those of 563 Hz at 8 kHz are
/// those of 1126 Hz at 16 kHz.
fn sounds_like(one: u32, other: u32) -> bool {
    [1, 2, 3, 6].iter().any(|times| (one * times).abs_diff(other) < 20)
}

fn agrees(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (None, None) => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[(&str, &str, WordKind)]) -> CanaryList {
        let canary = |&(region, text, kind): &(&str, &str, WordKind)| Canary {
            region: region.to_owned(),
            words: vec![Word { what: "name".to_owned(), text: text.to_owned(), kind }],
            tones: Vec::new(),
        };
        CanaryList { canaries: words.iter().map(canary).collect(), exceptions: Vec::new() }
    }

    #[test]
    fn canaries_that_prove_nothing_are_refused() {
        let text = WordKind::Text;
        assert!(
            list(&[("ie1", "siobhan.quill", text), ("us1", "dakota.birch", text)]).check().is_ok()
        );
        assert!(list(&[("ie1", "bob", text)]).check().is_err(), "too short");
        assert!(list(&[("ie1", "+35312x45678", WordKind::Number)]).check().is_err());
        let shared = list(&[("ie1", "marmalade", text), ("us1", "old-Marmalade", text)]);
        assert!(shared.check().is_err(), "one within the other");
    }

    #[test]
    fn tones_of_two_regions_must_lie_apart() {
        let mut list = list(&[
            ("ie1", "siobhan.quill", WordKind::Text),
            ("us1", "dakota.birch", WordKind::Text),
        ]);
        list.canaries[0].tones = vec![500];
        list.canaries[1].tones = vec![515];
        assert!(list.check().is_err());
        list.canaries[1].tones = vec![540];
        assert!(list.check().is_ok());
        for at_another_rate in [1001, 1499, 2999] {
            list.canaries[1].tones = vec![at_another_rate];
            assert!(list.check().is_err(), "{at_another_rate}");
        }
    }

    #[test]
    fn an_exception_covers_what_it_names_and_nothing_beside_it() {
        let exception = Exception {
            id: "directory-domain".to_owned(),
            canary: "*".to_owned(),
            held_by: "us1".to_owned(),
            what: "SIP domain".to_owned(),
            place: PlaceKind::Directory,
            name: "*/directory.json".to_owned(),
            why: "routing".to_owned(),
        };
        let hit = Hit {
            place: PlaceKind::Directory,
            held_by: "us1".to_owned(),
            name: "shared/directory.json".to_owned(),
            canary: "ie1".to_owned(),
            what: "SIP domain".to_owned(),
            encoding: "plain".to_owned(),
            count: 1,
            first_at: 0,
            exception: None,
        };
        assert!(exception.covers(&hit));
        assert!(!exception.covers(&Hit { what: "user name".to_owned(), ..hit.clone() }));
        assert!(
            !exception.covers(&Hit { name: "shared/directory.json.bak".to_owned(), ..hit.clone() })
        );
        assert!(!exception.covers(&Hit { place: PlaceKind::Log, ..hit.clone() }));
        assert!(!exception.covers(&Hit { held_by: "au1".to_owned(), ..hit }));
    }
}
