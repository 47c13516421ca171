//! From a request to its answer: the one way that every route goes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use landline_call::tenancy::User;
use landline_region::{AccountSid, ApiKeySid, Personal, UserSid};
use landline_store::{ApiKey, Claim, NewAudit, RequestName, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::StartError;
use crate::config::{CallControl, ConsoleConfig, RegionInfo};
use crate::homes::Homes;
use crate::input::{Input, Query};
use crate::metrics::Metrics;
use crate::page::Page;
use crate::problem::Problem;
use crate::proof::Proofs;
use crate::rate::Buckets;
use crate::reply::{Payload, Reply};
use crate::route::{self, Audit, Route, Who};
use crate::webhook::Sender;

/// A body beyond this is refused with 413.
pub const MAX_BODY: usize = 64 << 10;
const BODY: Duration = Duration::from_secs(15);
/// As those of a file that is put.
pub const MAX_FILE: usize = 32 << 20;
const FILE: Duration = Duration::from_secs(60);
/// Files that are read at one time.
const FILES: usize = 2;
/// How long a route's code may take before its answer begins.
const WORK: Duration = Duration::from_secs(30);
/// Failed authentications of one source: so many at once, then one in six seconds.
const FAILURES: (f64, f64) = (1.0 / 6.0, 10.0);
/// Domains looked up by one source for its phones: so many a second, so many at once.
const LOOKUPS: (f64, f64) = (0.5, 30.0);
/// Recordings that are rendered at one time.
const RENDERERS: usize = 4;

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub struct App {
    pub region: RegionInfo,
    pub store: Store,
    pub homes: Homes,
    pub calls: Option<Arc<dyn CallControl>>,
    pub metrics: Metrics,
    pub webhooks: Arc<Sender>,
    pub failures: Buckets<IpAddr>,
    /// Where the web phone connects, if there is one.
    pub edges: Option<Vec<String>>,
    pub lookups: Buckets<IpAddr>,
    pub voicemail_code: Option<String>,
    /// What users of phones prove themselves with.
    pub proofs: Proofs,
    page: Option<Page>,
    renderers: Arc<Semaphore>,
    files: Arc<Semaphore>,
    rates: Buckets<ApiKeySid>,
    user_rates: Buckets<UserSid>,
}

impl App {
    pub fn new(config: ConsoleConfig, homes: Homes, metrics: Metrics) -> Result<Self, StartError> {
        let limits = &config.limits;
        let (steady, burst) = (f64::from(limits.requests_per_second), f64::from(limits.burst));
        let webhooks = Arc::new(Sender::new(
            config.region.clone(),
            config.store.clone(),
            config.webhooks,
            metrics.clone(),
        )?);
        let page = config
            .phone
            .as_ref()
            .map(|phone| Page::new(phone).ok_or_else(|| StartError::Edge(phone.edges.join(" "))));
        Ok(Self {
            page: page.transpose()?,
            voicemail_code: config.phone.as_ref().and_then(|phone| phone.voicemail_code.clone()),
            edges: config.phone.map(|phone| phone.edges),
            lookups: Buckets::new(LOOKUPS.0, LOOKUPS.1),
            region: config.region,
            store: config.store,
            homes,
            calls: config.calls,
            metrics,
            failures: Buckets::new(FAILURES.0, FAILURES.1),
            renderers: Arc::new(Semaphore::new(RENDERERS)),
            files: Arc::new(Semaphore::new(FILES)),
            rates: Buckets::new(steady, burst),
            user_rates: Buckets::new(steady, burst),
            proofs: Proofs::new(),
            webhooks,
        })
    }

    /// A place among those who listen to `what`, kept as long as they do.
    pub fn renderer(&self, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = |_| Problem::unavailable(format!("as many {what} are listened to as can be"));
        Arc::clone(&self.renderers).try_acquire_owned().map_err(busy)
    }

    pub async fn answer(self: Arc<Self>, request: Request<Body>, source: IpAddr) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let if_none_match = request.headers().get(header::IF_NONE_MATCH).cloned();
        let if_none_match = if_none_match.as_ref().and_then(|value| value.to_str().ok());
        if let Some(page) = &self.page
            && let Some(response) = page.answer(request.method(), &path, if_none_match)
        {
            self.metrics.answered("phone_page", response.status().as_u16());
            return secured(response);
        }
        let app = Arc::clone(&self);
        let (operation, answer) = match route::find(request.method(), &path) {
            Ok((route, parts)) => {
                (route.operation, app.on_route(route, parts, request, source).await)
            }
            Err(problem) => ("none", Err(problem)),
        };
        let mut response = match answer {
            Ok(reply) => reply.into_response(if_none_match),
            Err(problem) => problem.into_response(&path),
        };
        self.metrics.answered(operation, response.status().as_u16());
        tracing::debug!(operation, status = response.status().as_u16(), "answered");
        // Nothing here is for a cache to keep: it is one account's alone.
        let private = HeaderValue::from_static("private, no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, private);
        secured(response)
    }

    async fn on_route(
        self: Arc<Self>,
        route: &'static Route,
        parts: Vec<(&'static str, String)>,
        request: Request<Body>,
        source: IpAddr,
    ) -> Result<Reply, Problem> {
        let path = request.uri().path().to_owned();
        // Before anything else, the key included: whoever asks in the wrong
        // region is told the right one.
        let account = parts.iter().find(|(name, _)| *name == "account");
        let account = account.map(|(_, sid)| self.at_home(sid, &path)).transpose()?;
        let (head, body) = request.into_parts();
        let (key, user) = match route.who {
            Who::Anyone => (None, None),
            Who::Keys(_) => (Some(self.admit(&head.headers, source, &path, account).await?), None),
            Who::User => (None, Some(self.admit_user(&head, source, &parts).await?)),
        };
        let known: Vec<&str> = route.query.iter().map(|parameter| parameter.name).collect();
        let query = Query::parse(head.uri.query().unwrap_or_default(), &known)?;
        let (headers, body_sent) = (head.headers, body);
        let body = Bytes::new();
        let mut input = Input { route, path, parts, query, headers, body, source, key, user };
        let entry = self.entry(&input).await?;
        // What is put is a file.
        let is_file = route.method == Method::PUT;
        let _permit = match is_file {
            true => Some(
                Arc::clone(&self.files)
                    .try_acquire_owned()
                    .map_err(|_| Problem::unavailable("as many files are put as can be"))?,
            ),
            false => None,
        };
        let limits = if is_file { (FILE, MAX_FILE) } else { (BODY, MAX_BODY) };
        input.body = read(body_sent, limits).await?;
        match entry {
            Some(entry) => self.allowed(input, entry).await,
            None => self.work(input).await,
        }
    }

    /// The account of the path, if it is this region's.
    fn at_home(&self, sid: &str, path: &str) -> Result<AccountSid, Problem> {
        let account: AccountSid =
            sid.parse().map_err(|error| Problem::not_found(format!("account: {error}")))?;
        match self.homes.of(account) {
            Some(home) if home != self.region.code => {
                let base_url = self.homes.base_url(home);
                let what = format!("account {account}");
                Err(Problem::misdirected(&what, home.as_str(), base_url.as_deref(), path))
            }
            _ => Ok(account),
        }
    }

    async fn admit(
        &self,
        headers: &axum::http::HeaderMap,
        source: IpAddr,
        path: &str,
        account: Option<AccountSid>,
    ) -> Result<ApiKey, Problem> {
        let key = self.authenticate(headers, source, path).await?;
        self.rates.take(key.sid, Instant::now()).map_err(|wait| {
            Problem::too_many(wait, format!("key {} asks more often than it may", key.sid))
        })?;
        match account {
            Some(account) if account != key.account => {
                Err(Problem::not_found(format!("key {} is for another account", key.sid)))
            }
            _ => Ok(key),
        }
    }

    /// A user of the path's domain, which is at home here.
    async fn admit_user(
        &self,
        head: &Parts,
        source: IpAddr,
        parts: &[(&'static str, String)],
    ) -> Result<User, Problem> {
        let domain = parts.iter().find(|(name, _)| *name == "domain");
        let domain = domain.map_or("", |(_, domain)| domain.as_str()).to_ascii_lowercase();
        let user = self.authenticate_user(head, source, &domain).await?;
        self.user_rates
            .take(user.sid, Instant::now())
            .map_err(|wait| Problem::too_many(wait, "this phone asks more often than it may"))?;
        Ok(user)
    }

    /// Holds the key's role against the route's, before its body is waited for;
    /// what the audit is to have of it. `None` where nobody is asked who they are.
    async fn entry(&self, input: &Input) -> Result<Option<NewAudit>, Problem> {
        let route = input.route;
        let (account, role) = match (&input.key, &input.user) {
            (Some(key), _) => (key.account, key.role.name()),
            (None, Some(user)) => (user.account, "user"),
            (None, None) => return Ok(None),
        };
        let mut entry = NewAudit {
            account,
            actor: input.actor(),
            role,
            operation: route.operation,
            subject: subject(input),
            source: Personal::new(input.source.to_string()),
            status: None,
        };
        if let (Who::Keys(roles), Some(key)) = (route.who, &input.key)
            && !roles.contains(&key.role)
        {
            if route.audit != Audit::No {
                entry.status = Some(StatusCode::FORBIDDEN.as_u16());
                self.note(&entry).await?;
            }
            let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            let detail = format!(
                "{} is for {}; this key's role is {}",
                route.operation,
                roles.join(", "),
                key.role
            );
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "The key's role does not allow it",
                detail,
            )
            .with("role", key.role.name()));
        }
        Ok(Some(entry))
    }

    /// Writes the audit around the work: a change is written down before it is
    /// made, a disclosure before it is sent. What cannot be written down does not
    /// happen.
    async fn allowed(self: Arc<Self>, input: Input, mut entry: NewAudit) -> Result<Reply, Problem> {
        match input.route.audit {
            Audit::No => self.once(input).await,
            Audit::Write => {
                let row = self.note(&entry).await?;
                let outcome = Arc::clone(&self).once(input).await;
                let status = status_of(&outcome);
                if let Err(error) = self.store.audit_finish(&row, status).await {
                    tracing::error!(%error, "an audit row stays without its outcome");
                }
                outcome
            }
            Audit::Read => {
                let outcome = Arc::clone(&self).once(input).await;
                entry.status = Some(status_of(&outcome));
                self.note(&entry).await?;
                outcome
            }
        }
    }

    async fn note(&self, entry: &NewAudit) -> Result<String, Problem> {
        self.store.audit_add(entry).await.map_err(|error| {
            self.metrics.audit_failures.inc();
            tracing::error!(%error, "refused what cannot be written into the audit");
            Problem::unavailable("the request cannot be written into the audit, so it was not done")
        })
    }

    /// Carries a POST with an idempotency key out once.
    async fn once(self: Arc<Self>, input: Input) -> Result<Reply, Problem> {
        let (name, key) = match (input.header(&IDEMPOTENCY_KEY), input.key.clone()) {
            (Some(name), Some(key)) if input.route.method == Method::POST => (name.to_owned(), key),
            _ => return self.work(input).await,
        };
        if name.is_empty() || name.len() > 255 {
            return Err(Problem::invalid("Idempotency-Key", "wanted 1 to 255 characters"));
        }
        let request = RequestName { account: key.account, key: key.sid, name: &name };
        let conflict = |detail: &str| Problem::conflict(format!("`Idempotency-Key`: {detail}"));
        match self.store.answer_claim(request, &fingerprint(&input)).await? {
            Claim::New => {}
            Claim::Underway => return Err(conflict("the request of this key is still under way")),
            Claim::Other => return Err(conflict("another request was made with this key")),
            Claim::Answered { status, body } => return replayed(status, body),
        }
        let outcome = Arc::clone(&self).work(input).await;
        let kept = match &outcome {
            Ok(reply) => match &reply.body {
                Payload::Json(body) => {
                    self.store
                        .answer_keep(request, reply.status.as_u16(), &without_secrets(body))
                        .await
                }
                Payload::Nothing => {
                    self.store.answer_keep(request, reply.status.as_u16(), b"").await
                }
                Payload::Stream(..) => self.store.answer_release(request).await,
            },
            // What was refused changed nothing: it may be tried again, put right.
            Err(_) => self.store.answer_release(request).await,
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "an answer is not kept for its idempotency key");
        }
        outcome
    }

    async fn work(self: Arc<Self>, input: Input) -> Result<Reply, Problem> {
        let run = input.route.run;
        match timeout(WORK, run(self, input)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Problem::unavailable("the answer took too long")),
        }
    }
}

fn secured(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let hsts = HeaderValue::from_static("max-age=31536000");
    headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    response
}

/// What the request is about: the last sid of its path.
fn subject(input: &Input) -> Option<String> {
    let (_, sid) =
        input.parts.iter().rev().find(|(name, _)| !["account", "domain"].contains(name))?;
    // Users and trunks may go by their names, which are not for the audit.
    let is_sid = sid.len() >= 34 && sid.bytes().all(|b| b.is_ascii_alphanumeric());
    is_sid.then(|| sid.clone())
}

fn status_of(outcome: &Result<Reply, Problem>) -> u16 {
    match outcome {
        Ok(reply) => reply.status.as_u16(),
        Err(problem) => problem.status.as_u16(),
    }
}

fn fingerprint(input: &Input) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [input.route.method.as_str(), &input.path] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.update(&input.body);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Passwords and secrets are shown once: the kept answer is without them.
fn without_secrets(body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(body) {
        Ok(serde_json::Value::Object(mut fields)) => {
            for name in ["password", "secret"] {
                if let Some(value) = fields.get_mut(name) {
                    *value = serde_json::Value::Null;
                }
            }
            serde_json::to_vec(&fields).unwrap_or_default()
        }
        _ => body.to_vec(),
    }
}

fn replayed(status: u16, body: Vec<u8>) -> Result<Reply, Problem> {
    let status = StatusCode::from_u16(status).map_err(|_| Problem::internal())?;
    let body = if body.is_empty() { Payload::Nothing } else { Payload::Json(body) };
    Ok(Reply { status, body, headers: vec![(REPLAYED, "true".to_owned())] })
}

async fn read(body: Body, (longest, most): (Duration, usize)) -> Result<Bytes, Problem> {
    let large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            format!("a body may have {most} octets here"),
        )
    };
    match timeout(longest, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            // axum tells a limit from a broken body by the error's source only.
            let limit = std::error::Error::source(&error)
                .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            Err(if limit { large() } else { Problem::bad_request("the body broke off") })
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body did not arrive in time",
            format!("a body may take {} seconds", longest.as_secs()),
        )),
    }
}
