//! Who sent a request: digest (RFC 3261 §22, RFC 8760) with signed nonces.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use landline_region::{DataClass, Entropy, Secret};
use landline_sip::digest::{
    self, Algorithm, Challenge, Credentials, NonceIssuer, NonceStatus, ReplayWindow,
};
use landline_sip::{ByteStr, HeaderName, Host, Method, Request, Response, StatusCode, Uri};

use crate::config::CoreConfig;
use crate::context::Context;
use crate::io::Log;
use crate::tenancy::{Account, User};
use crate::throttle::{Suspect, Throttle};

pub(crate) struct Authenticator {
    nonces: NonceIssuer,
    replays: ReplayWindow,
    throttle: Throttle,
    /// Stands in for a secret where there is no such user, so that the answer
    /// takes as long.
    nobody: Secret<String>,
}

/// What a request's credentials come to.
pub(crate) enum Verdict {
    Accepted(Arc<User>),
    /// None, or none for this realm, or no longer fresh ones.
    Challenge {
        stale: bool,
    },
    /// Too many failures of this user from this source.
    ShutOut,
}

impl Authenticator {
    pub(crate) fn new(config: &CoreConfig, entropy: &mut Entropy) -> Self {
        let lifetime = config.timers.nonce.as_millis() as i64;
        let limits = &config.limits;
        Self {
            nonces: NonceIssuer::new(&config.signing_key, entropy.seed(), lifetime),
            replays: ReplayWindow::new(limits.nonces),
            throttle: Throttle::new(limits.failures, config.timers.throttle, limits.throttled),
            nobody: Secret::new(entropy.hex::<16>()),
        }
    }

    /// Judges a request that claims to come from a user of `account`.
    pub(crate) fn judge(
        &mut self,
        cx: &mut Context,
        account: &Arc<Account>,
        request: &Request,
        source: IpAddr,
    ) -> Verdict {
        let header = match request.method {
            Method::Register => HeaderName::Authorization,
            _ => HeaderName::ProxyAuthorization,
        };
        let given = request
            .headers
            .all(&header)
            .take(4)
            .filter_map(|value| Credentials::parse(value).ok())
            .find(|it| it.realm.eq_ignore_ascii_case(&account.domain));
        let Some(credentials) = given else {
            return Verdict::Challenge { stale: false };
        };
        let now = cx.now;
        let suspect = Suspect::new(source, &account.domain, &credentials.username);
        if self.throttle.is_shut_out(suspect, now.instant) {
            cx.counters.auth_shut_out += 1;
            return Verdict::ShutOut;
        }
        let nonce = self.nonces.check(&credentials.nonce, &account.domain, now.unix.0);
        if nonce == NonceStatus::Stale {
            cx.counters.auth_stale += 1;
            return Verdict::Challenge { stale: true };
        }
        match self.verified(cx, account, request, &credentials) {
            Some(user) if nonce == NonceStatus::Fresh => self.unreplayed(cx, &credentials, user),
            // The right secret over a nonce of before a change of key.
            Some(_) => Verdict::Challenge { stale: true },
            None => self.failed(cx, account, &credentials, source, suspect, now.instant),
        }
    }

    /// The user whose secret made the answer, for this request and no other.
    fn verified(
        &self,
        cx: &Context,
        account: &Account,
        request: &Request,
        credentials: &Credentials,
    ) -> Option<Arc<User>> {
        let user = cx.tenants.user(account.sid, &credentials.username);
        let secret = match (user, credentials.algorithm) {
            (Some(user), Algorithm::Md5) => user.digest.md5.expose(),
            (Some(user), Algorithm::Sha256) => user.digest.sha256.expose(),
            (None, _) => self.nobody.expose(),
        };
        let proven = digest::verify(credentials, secret, &request.method);
        // The account's domain, or this proxy.
        let is_ours = |host: &Host| {
            cx.is_ours(host, None)
                || host.name().is_some_and(|it| it.eq_ignore_ascii_case(&account.domain))
        };
        user.filter(|_| proven && is_for(&credentials.uri, &request.uri, is_ours)).cloned()
    }

    /// Each count of a nonce serves once (RFC 7616 §3.4); an answer without
    /// counts (RFC 2069) is its nonce's only one.
    fn unreplayed(
        &mut self,
        cx: &mut Context,
        credentials: &Credentials,
        user: Arc<User>,
    ) -> Verdict {
        let count = match credentials.qop {
            true => credentials.nonce_count().unwrap_or(0),
            false => 1,
        };
        let expired = self.nonces.oldest(cx.now.unix.0);
        match self.replays.check_and_record(&credentials.nonce, count, expired) {
            true => {
                cx.counters.auth_accepted += 1;
                Verdict::Accepted(user)
            }
            false => {
                cx.counters.auth_replays += 1;
                Verdict::Challenge { stale: true }
            }
        }
    }

    /// One answer for a wrong password, an unknown user and a forged nonce.
    fn failed(
        &mut self,
        cx: &mut Context,
        account: &Account,
        credentials: &Credentials,
        source: IpAddr,
        suspect: Suspect,
        now: Instant,
    ) -> Verdict {
        cx.counters.auth_failures += 1;
        let user = cx.pseudonym(DataClass::Identity, &credentials.username);
        let source = cx.pseudonym(DataClass::Address, &source.to_string());
        let account = account.sid;
        cx.log(Log::AuthenticationFailed { account, user, source });
        if self.throttle.failed(suspect, now) {
            cx.log(Log::ShutOut { account, user, source });
        }
        Verdict::Challenge { stale: false }
    }

    /// 401 or 407 with a challenge for each algorithm, preferred ones first
    /// (RFC 8760 §2.4).
    pub(crate) fn challenge(
        &mut self,
        cx: &mut Context,
        account: &Account,
        request: &Request,
        stale: bool,
    ) -> Response {
        cx.counters.auth_challenges += 1;
        let (status, header) = match request.method {
            Method::Register => (StatusCode::UNAUTHORIZED, HeaderName::WwwAuthenticate),
            _ => (StatusCode::PROXY_AUTHENTICATION_REQUIRED, HeaderName::ProxyAuthenticate),
        };
        let mut response = cx.response(request, status);
        for algorithm in algorithms(request.headers.get(&HeaderName::UserAgent)).iter().copied() {
            let challenge = Challenge {
                realm: account.domain.clone(),
                nonce: self.nonces.issue(cx.now.unix.0, &account.domain),
                algorithm,
                qop: true,
                stale,
                opaque: None,
            };
            response.headers.push(header.clone(), challenge.to_string());
        }
        response
    }
}

/// Which algorithms a client is offered, in which order.
///
/// RFC 8760 wants the strongest first and clients to take the first they know.
/// Some give up instead at one they do not know, wherever it stands, or look at
/// the first challenge alone. Others, JsSIP and SIP.js, look at the last alone
/// and know MD5 alone: it stands last. Naming the first kinds weakens nobody: who
/// could forge a User-Agent on the way could take a challenge away as well.
fn algorithms(user_agent: Option<&ByteStr>) -> &'static [Algorithm] {
    const ONE_ONLY: [&str; 2] = ["baresip v0.", "baresip v1."];
    const FIRST_ONLY: [&str; 1] = ["SIPp"];
    let is_one_of = |names: &[&str]| match user_agent {
        Some(agent) => names.iter().any(|name| agent.as_bytes().starts_with(name.as_bytes())),
        None => false,
    };
    if is_one_of(&ONE_ONLY) {
        &[Algorithm::Md5]
    } else if user_agent.is_none() || is_one_of(&FIRST_ONLY) {
        &[Algorithm::Md5, Algorithm::Sha256]
    } else {
        &[Algorithm::Sha256, Algorithm::Md5]
    }
}

/// RFC 7616 §3.4.6: the answer is for this Request-URI. Clients differ in the
/// parameters they leave out, and some name the server they send to in place of
/// what they ask for; a user they name has to be the one.
fn is_for(answered: &str, uri: &Uri, is_ours: impl Fn(&Host) -> bool) -> bool {
    let Ok(answered) = Uri::parse(answered) else { return false };
    let user_fits = answered.user.is_none() || answered.user == uri.user;
    user_fits && (answered.host == uri.host || is_ours(&answered.host))
}

/// Takes everything off a request that proves its sender to us: it is nobody
/// else's to read.
pub(crate) fn strip_credentials(request: &mut Request) {
    request.headers.remove_all(&HeaderName::Authorization);
    request.headers.remove_all(&HeaderName::ProxyAuthorization);
}

/// Where a request's sender is, as far as it can be trusted: behind another
/// region's proxy it is what that proxy saw (RFC 3261 §18.2.1).
pub(crate) fn source_of(flow: &landline_sip::Flow, request: &Request) -> IpAddr {
    if flow.peer.is_none() {
        return flow.remote.ip();
    }
    let mut vias = request.headers.values(&HeaderName::Via).skip(1);
    let via =
        vias.next().and_then(|via: ByteStr| landline_sip::Via::parse(&via.to_str_lossy()).ok());
    via.and_then(|via| via.received().or_else(|| via.host.ip())).unwrap_or(flow.remote.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_trip_over_sha_256_are_spared_it() {
        let offered = |agent: &'static str| algorithms(Some(&ByteStr::from_static(agent)))[0];
        assert_eq!(offered("Linphone-Desktop/5.0"), Algorithm::Sha256);
        assert_eq!(offered("SIPp"), Algorithm::Md5);
        // JsSIP keeps the last WWW-Authenticate of a message, and knows MD5 alone.
        let last = |agent| algorithms(Some(&ByteStr::from_static(agent))).last().copied();
        assert_eq!(last("JsSIP 3.13.8"), Some(Algorithm::Md5));
        assert_eq!(last("An application that names itself"), Some(Algorithm::Md5));
        assert_eq!(algorithms(Some(&ByteStr::from_static("baresip v1.0.0 (x86_64)"))).len(), 1);
        assert_eq!(algorithms(None), [Algorithm::Md5, Algorithm::Sha256]);
    }

    #[test]
    fn an_answer_for_another_callee_is_none_for_this_one() {
        let uri = Uri::parse("sip:bob@acme.test").unwrap();
        let ours = |host: &Host| host.to_string() == "192.0.2.1";
        assert!(is_for("sip:bob@acme.test;transport=tcp", &uri, ours));
        assert!(is_for("sip:192.0.2.1:5060", &uri, ours));
        assert!(!is_for("sip:carol@acme.test", &uri, ours));
        assert!(!is_for("sip:192.0.2.9", &uri, ours));
        assert!(!is_for("nonsense", &uri, ours));
    }
}
