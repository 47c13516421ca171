//! Event notification's own headers (RFC 6665 §8.2): what a subscription is for,
//! and how it stands.

use std::fmt;

use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::params::{self, Params};
use crate::scan;

/// The Event header: a package, and a name for one of several subscriptions in a
/// dialog. Packages compare as they are written (§8.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    pub package: String,
    pub id: Option<String>,
}

/// The Subscription-State of a NOTIFY (§8.2.3), as notifiers write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// For so many seconds more.
    Active(u32),
    Terminated(Ended),
}

/// Why a subscription is over (§4.1.3), and with that whether to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was not refreshed, or its end was asked for.
    Timeout,
    /// The subscriber may not see it any more.
    Rejected,
    /// What it was for is not there any more.
    NoResource,
}

/// Longest package or id that is taken for one.
const LONGEST: usize = 64;

impl EventType {
    /// Of a SUBSCRIBE or NOTIFY: exactly one.
    pub fn of(headers: &Headers) -> Result<Self, HeaderError> {
        let wrong = |problem| HeaderError { header: HeaderName::Event, problem };
        let mut values = headers.all(&HeaderName::Event);
        let value = values.next().ok_or(wrong("it is missing"))?;
        if values.next().is_some() {
            return Err(wrong("there is more than one"));
        }
        let bytes = value.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (package, parameters) = bytes.split_at_checked(end).unwrap_or_default();
        let package = scan::trim(package);
        if !scan::is_token(package) || package.len() > LONGEST {
            return Err(wrong("its package is not a token"));
        }
        params::check(parameters).map_or(Ok(()), |problem| Err(wrong(problem)))?;
        let parameters = Params::from_checked(value.part(parameters));
        let id = parameters.get("id").map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > LONGEST) {
            return Err(wrong("its id is too long"));
        }
        Ok(Self { package: String::from_utf8_lossy(package).into_owned(), id })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.package)?;
        match &self.id {
            Some(id) => write!(f, ";id={id}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active(seconds) => write!(f, "active;expires={seconds}"),
            Self::Terminated(ended) => write!(f, "terminated;reason={}", ended.name()),
        }
    }
}

impl Ended {
    const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::NoResource => "noresource",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(values: &[&str]) -> Result<String, String> {
        let mut headers = Headers::new();
        values.iter().for_each(|it| headers.push(HeaderName::Event, *it));
        EventType::of(&headers).map(|it| it.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_a_package_and_perhaps_an_id() {
        assert_eq!(event(&["dialog"]).unwrap(), "dialog");
        assert_eq!(event(&[" presence ;foo=1; id=7 "]).unwrap(), "presence;id=7");
        assert_eq!(event(&["dialog;sla"]).unwrap(), "dialog");
        assert_eq!(event(&["Dialog"]).unwrap(), "Dialog");
        let long = "x".repeat(65);
        for bad in [&[][..], &["a", "b"], &[""], &[";id=1"], &["a b"], &[&long]] {
            assert!(event(bad).unwrap_err().starts_with("Event: "), "{bad:?}");
        }
        assert!(event(&[&format!("dialog;id={long}")]).is_err());
    }

    #[test]
    fn a_subscription_says_how_it_stands() {
        assert_eq!(SubscriptionState::Active(60).to_string(), "active;expires=60");
        let over = SubscriptionState::Terminated(Ended::NoResource);
        assert_eq!(over.to_string(), "terminated;reason=noresource");
    }
}
