//! How a user of a phone proves who it is: HTTP Digest (RFC 7616), with the secret
//! that its SIP registration is proven with. Each request is proven by itself; no
//! session is kept, and the password crosses no wire.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use landline_call::tenancy::User;
use landline_region::Secret;
use landline_sip::ByteStr;
use landline_sip::Method;
use landline_sip::digest::{
    self, Algorithm, Challenge, Credentials, NonceIssuer, NonceStatus, ReplayWindow,
};
use landline_store::{Store, StoreError};

use crate::app::App;
use crate::auth::network;
use crate::problem::Problem;

/// How long a nonce may be answered, in ms.
const LIFETIME: i64 = 300_000;
/// Nonces whose uses are remembered; those of before must be asked for anew.
const NONCES: usize = 20_000;

pub struct Proofs {
    issued: Mutex<Issued>,
    /// Stands in for the secret of a user who is not there, so that the answer takes
    /// as long.
    nobody: Secret<String>,
}

struct Issued {
    nonces: NonceIssuer,
    replays: ReplayWindow,
}

/// What credentials come to.
#[derive(Debug, PartialEq)]
enum Verdict {
    Proven,
    /// By another process's nonce, or an old one, or one count of it twice: asked again,
    /// without the person.
    Stale,
    Wrong,
}

impl Proofs {
    pub fn new() -> Self {
        let nonces = NonceIssuer::new(&random(), random(), LIFETIME);
        let issued = Issued { nonces, replays: ReplayWindow::new(NONCES) };
        Self { issued: Mutex::new(issued), nobody: Secret::new(hex::encode(random::<32>())) }
    }

    fn issued(&self) -> std::sync::MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 7616 §3.3, in the one algorithm that is not broken.
    fn challenge(&self, domain: &str, is_stale: bool, now: i64) -> String {
        let challenge = Challenge {
            realm: domain.to_owned(),
            nonce: self.issued().nonces.issue(now, domain),
            algorithm: Algorithm::Sha256,
            qop: true,
            stale: is_stale,
            opaque: None,
        };
        challenge.to_string()
    }

    fn is_fresh(&self, given: &Credentials, domain: &str, now: i64) -> bool {
        self.issued().nonces.check(&given.nonce, domain, now) == NonceStatus::Fresh
    }

    /// `secret` is the user's, if there is such a user.
    fn judge(
        &self,
        given: &Credentials,
        secret: Option<&str>,
        method: &Method,
        domain: &str,
        now: i64,
    ) -> Verdict {
        let is_proven =
            digest::verify(given, secret.unwrap_or_else(|| self.nobody.expose()), method);
        let mut issued = self.issued();
        match (issued.nonces.check(&given.nonce, domain, now), is_proven) {
            (NonceStatus::Stale, _) | (NonceStatus::Forged, true) => Verdict::Stale,
            (_, false) => Verdict::Wrong,
            (NonceStatus::Fresh, true) => {
                let (count, expired) = (given.nonce_count(), issued.nonces.oldest(now));
                let is_first =
                    issued.replays.check_and_record(&given.nonce, count.unwrap_or(0), expired);
                if is_first { Verdict::Proven } else { Verdict::Stale }
            }
        }
    }
}

impl App {
    /// Who asks for what is of `domain`, whose home this region is.
    pub async fn authenticate_user(
        &self,
        head: &Parts,
        source: IpAddr,
        domain: &str,
    ) -> Result<User, Problem> {
        let (source, now) = (network(source), now());
        if let Some(wait) = self.failures.waits(&source, Instant::now()) {
            let detail = "too many failed authentications from this address";
            return Err(Problem::too_many(wait, detail));
        }
        self.at_home_here(domain, source, head.uri.path())?;
        let refused =
            |is_stale: bool| Err(wanted(&self.proofs.challenge(domain, is_stale, now), is_stale));
        let asked = head.uri.path_and_query().map_or("/", |asked| asked.as_str());
        let method = Method::parse(head.method.as_str());
        // What answers no challenge of ours for this request guesses nothing either.
        let Some((given, method)) = credentials(&head.headers, domain, asked).zip(method) else {
            return refused(false);
        };
        // Whoever has no nonce of ours that is good learns nothing of who there is, and
        // costs the database nothing.
        if !self.proofs.is_fresh(&given, domain, now) {
            return refused(true);
        }
        let user = user_of(&self.store, domain, &given.username).await?;
        let secret = user.as_ref().map(|user| user.digest.sha256.expose().as_str());
        match (self.proofs.judge(&given, secret, &method, domain, now), user) {
            (Verdict::Proven, Some(user)) => Ok(user),
            (Verdict::Stale, _) => refused(true),
            _ => {
                let _counted = self.failures.take(source, Instant::now());
                refused(false)
            }
        }
    }

    fn at_home_here(&self, domain: &str, source: IpAddr, path: &str) -> Result<(), Problem> {
        match self.homes.of_domain(domain) {
            Some((home, _)) if home == self.region.code => Ok(()),
            Some((home, _)) => {
                let base_url = self.homes.base_url(home);
                Err(Problem::misdirected("this domain", home.as_str(), base_url.as_deref(), path))
            }
            None => {
                self.lookups.take(source, Instant::now()).map_err(|wait| {
                    Problem::too_many(wait, "this address asks for more domains than a person does")
                })?;
                Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    "unknown-domain",
                    "No account has this domain",
                    "no account has this domain",
                ))
            }
        }
    }
}

/// An answer to our challenge, for this request and no other.
fn credentials(headers: &HeaderMap, domain: &str, asked: &str) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let given = Credentials::parse(&ByteStr::from(value.to_owned())).ok()?;
    let is_ours = given.algorithm == Algorithm::Sha256
        && given.qop
        && given.realm.eq_ignore_ascii_case(domain)
        && given.uri == asked;
    is_ours.then_some(given)
}

async fn user_of(store: &Store, domain: &str, name: &str) -> Result<Option<User>, Problem> {
    let account = match store.account_find(domain).await {
        Ok(account) => account,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match store.user_find(account.sid, name).await {
        // It may be found by its sid as well, which proves nothing here.
        Ok(user) => Ok((user.name.expose() == name).then_some(user)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn wanted(challenge: &str, is_stale: bool) -> Problem {
    let detail = match is_stale {
        true => "the nonce is no longer good: answer the new one",
        false => {
            "wanted `Authorization: Digest` (RFC 7616) with SHA-256, by the name and the \
                  password of the user's phone"
        }
    };
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "A user of this domain is needed",
        detail,
    )
    .with_header(header::WWW_AUTHENTICATE, challenge)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "acme.test";
    const NOW: i64 = 1_800_000_000_000;

    fn answered(proofs: &Proofs, count: u32, nonce: Option<&str>) -> Credentials {
        let text = proofs.challenge(DOMAIN, false, NOW);
        let mut challenge = Challenge::parse(&ByteStr::from(text)).unwrap();
        challenge.nonce = nonce.map_or(challenge.nonce, str::to_owned);
        let get = Method::parse("GET").unwrap();
        digest::answer(&[challenge], &get, "/x", "bob", "secret", count, "c").unwrap()
    }

    fn judged(proofs: &Proofs, given: &Credentials, password: &str, at: i64) -> Verdict {
        let secret = digest::ha1(Algorithm::Sha256, "bob", DOMAIN, password);
        proofs.judge(given, Some(&secret), &Method::parse("GET").unwrap(), DOMAIN, at)
    }

    #[test]
    fn each_count_of_a_nonce_proves_once_and_for_five_minutes() {
        let proofs = Proofs::new();
        let first = answered(&proofs, 1, None);
        assert_eq!(judged(&proofs, &first, "secret", NOW), Verdict::Proven);
        assert_eq!(judged(&proofs, &first, "secret", NOW), Verdict::Stale);
        let second = answered(&proofs, 2, Some(&first.nonce));
        assert_eq!(judged(&proofs, &second, "secret", NOW + LIFETIME), Verdict::Proven);
        let third = answered(&proofs, 3, Some(&first.nonce));
        assert_eq!(judged(&proofs, &third, "secret", NOW + LIFETIME + 1), Verdict::Stale);
    }

    #[test]
    fn a_wrong_secret_a_missing_user_and_another_method_prove_nothing() {
        let proofs = Proofs::new();
        let given = answered(&proofs, 1, None);
        assert_eq!(judged(&proofs, &given, "another", NOW), Verdict::Wrong);
        let get = Method::parse("GET").unwrap();
        assert_eq!(proofs.judge(&given, None, &get, DOMAIN, NOW), Verdict::Wrong);
        let secret = digest::ha1(Algorithm::Sha256, "bob", DOMAIN, "secret");
        let delete = Method::parse("DELETE").unwrap();
        assert_eq!(proofs.judge(&given, Some(&secret), &delete, DOMAIN, NOW), Verdict::Wrong);
    }

    #[test]
    fn the_right_secret_over_a_nonce_of_another_process_is_asked_again() {
        let (former, proofs) = (Proofs::new(), Proofs::new());
        let given = answered(&former, 1, None);
        assert_eq!(judged(&proofs, &given, "secret", NOW), Verdict::Stale);
        assert_eq!(judged(&proofs, &given, "another", NOW), Verdict::Wrong);
    }
}
