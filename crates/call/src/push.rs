//! Devices that sleep until a push service wakes them (RFC 8599): what their
//! Contacts say of it, and whom a call has to wait for.

use std::sync::Arc;
use std::time::Duration;

use landline_region::{AccountSid, CallSid, Personal, RegionCode, UnixMillis};
use landline_sip::{HeaderName, Headers, Request, StatusCode, Uri};

use crate::context::Context;
use crate::diversion::Stead;
use crate::registrar::Contact;
use crate::route::{Target, contact_target};
use crate::tenancy::{Account, User};

/// A device that registered just now is awake: no push is needed to ring it.
const AWAKE: Duration = Duration::from_secs(10);

/// Which push services devices of this region may be woken by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPolicy {
    /// As `pn-provider` names them, as `apns`, `fcm` and `webpush`.
    pub providers: Vec<String>,
}

/// A device's address at a push service, as its Contact says it (RFC 8599
/// §4.1): still escaped as in a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    pub provider: String,
    pub prid: Personal<String>,
    pub param: Option<Personal<String>>,
}

/// Asks for one push message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    pub region: RegionCode,
    pub account: AccountSid,
    pub call: CallSid,
    pub target: PushTarget,
}

/// A device that a call waits for.
#[derive(Debug, Clone)]
pub(crate) struct Sleeper {
    pub user: Arc<User>,
    pub target: PushTarget,
    /// Rung for somebody who sent the call on.
    pub stead: Option<Arc<Stead>>,
    /// The push message was asked for.
    pub is_called: bool,
}

impl PushTarget {
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let said = |name: &str| uri.param(name).filter(|it| !it.is_empty()).map(str::to_owned);
        Some(Self {
            provider: said("pn-provider")?,
            prid: Personal::new(said("pn-prid")?),
            param: said("pn-param").map(Personal::new),
        })
    }
}

impl Contact {
    /// Most contacts have none, and their URIs need not be read for that.
    fn push(&self) -> Option<PushTarget> {
        let says_so = self.binding.contact_uri.expose().contains("pn-prid");
        PushTarget::of(&self.uri().filter(|_| says_so)?)
    }

    fn sleeps(&self, now: UnixMillis) -> bool {
        let since = now.0.saturating_sub(self.binding.updated_at.0);
        let is_fresh = since <= i64::try_from(AWAKE.as_millis()).unwrap_or(i64::MAX);
        !(is_fresh && self.destination().is_some())
    }
}

impl Context {
    /// Refuses a contact whose push service nobody here asks (RFC 8599 §5.6.1).
    /// Where none is asked at all, what a contact says of them is nothing to us.
    pub(crate) fn check_push(&self, uri: &Uri) -> Result<(), StatusCode> {
        let Some(policy) = &self.config.push else { return Ok(()) };
        match uri.param("pn-provider") {
            Some(provider) if !provider.is_empty() && !policy.knows(provider) => {
                Err(StatusCode::PUSH_NOTIFICATION_SERVICE_NOT_SUPPORTED)
            }
            _ => Ok(()),
        }
    }

    /// Tells the client which service it is woken by, or, where it asks without
    /// naming one, by which it may be (RFC 8599 §5.6.1.3).
    pub(crate) fn tell_push(&self, request: &Request, headers: &mut Headers) {
        let Some(policy) = &self.config.push else { return };
        let Ok(landline_sip::Contacts::List(list)) = request.contacts() else { return };
        let Some(asked) = list.iter().find_map(|it| it.uri.param("pn-provider")) else { return };
        let told = match asked.is_empty() {
            true => policy.providers.join(","),
            false if !policy.knows(asked) => return,
            false => asked.to_owned(),
        };
        let caps = HeaderName::parse("Feature-Caps");
        headers.push(caps, format!("*;+sip.pns=\"{told}\""));
    }

    /// A device that has to be woken before it rings.
    pub(crate) fn sleeper(&self, user: &Arc<User>, flows: &[&Contact]) -> Option<Sleeper> {
        self.config.push.as_ref()?;
        // By the flow that it registered last.
        let last = flows.iter().max_by_key(|it| it.binding.updated_at)?;
        let target = last.push().filter(|_| last.sleeps(self.now.unix))?;
        Some(Sleeper { user: user.clone(), target, stead: None, is_called: false })
    }

    /// The device that was waited for, if it is there now.
    pub(crate) fn woken(&self, account: &Account, sleeper: &Sleeper) -> Option<Target> {
        let mut contacts = self.registrar.contacts(sleeper.user.sid, self.now.unix);
        let is_it = |it: &&Contact| {
            !it.sleeps(self.now.unix)
                && it.push().is_some_and(|push| push.prid == sleeper.target.prid)
        };
        let target = contact_target(account, &sleeper.user, contacts.find(is_it)?)?;
        Some(Target { stead: sleeper.stead.clone(), ..target })
    }
}

impl PushPolicy {
    fn knows(&self, provider: &str) -> bool {
        self.providers.iter().any(|it| it.eq_ignore_ascii_case(provider))
    }
}
