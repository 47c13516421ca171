//! Who sent a request: digest (RFC 3261 §22, RFC 8760) with signed nonces.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use landline_region::{DataClass, Entropy, Secret};
use landline_sip::digest::{
    self, Algorithm, Challenge, Credentials, NonceIssuer, NonceStatus, ReplayWindow,
};
use landline_sip::{ByteStr, HeaderName, Method, Request, Response, StatusCode, Uri};

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
        user.filter(|_| proven && is_for(&credentials.uri, &request.uri)).cloned()
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
        match self.replays.check_and_record(&credentials.nonce, count) {
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

    /// 401 or 407 with a challenge for each algorithm, the stronger first
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
        for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
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

/// RFC 7616 §3.4.6: the answer is for this Request-URI. Clients differ in the
/// parameters they leave out, so user and host decide.
fn is_for(answered: &str, uri: &Uri) -> bool {
    match Uri::parse(answered) {
        Ok(answered) => answered.user == uri.user && answered.host == uri.host,
        Err(_) => false,
    }
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
