//! The web phone's page: static files, under a policy that lets it talk to its
//! own origin and to the region's WebSocket edges and to nobody else.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::config::Phone;
use crate::reply::{etag_of, names};

/// Where the page lies.
const AT: &str = "/phone/";

/// Microphone, sound and the choice of a speaker; nothing else of the machine.
const PERMISSIONS: &str = "microphone=(self), speaker-selection=(self), autoplay=(self), \
    camera=(), geolocation=(), display-capture=(), usb=(), serial=(), hid=(), \
    midi=(), payment=(), accelerometer=(), gyroscope=(), magnetometer=(), screen-wake-lock=(self)";

pub struct Page {
    files: Vec<Entry>,
    policy: HeaderValue,
}

struct Entry {
    path: &'static str,
    media_type: HeaderValue,
    bytes: &'static [u8],
    etag: HeaderValue,
}

impl Page {
    /// `None` where an edge's URL cannot stand in a header.
    pub fn new(phone: &Phone) -> Option<Self> {
        let entry = |file: &crate::PhoneFile| {
            Some(Entry {
                path: file.path,
                media_type: HeaderValue::from_static(file.media_type),
                bytes: file.bytes,
                etag: HeaderValue::from_str(&etag_of(file.bytes)).ok()?,
            })
        };
        Some(Self {
            files: phone.files.iter().map(entry).collect::<Option<_>>()?,
            policy: HeaderValue::from_str(&policy(&phone.edges)).ok()?,
        })
    }

    /// `None` for a path that is not the page's.
    pub fn answer(
        &self,
        method: &Method,
        path: &str,
        if_none_match: Option<&str>,
    ) -> Option<Response<Body>> {
        if path == AT.trim_end_matches('/') {
            return Some(moved());
        }
        let below = path.strip_prefix(AT)?;
        let wanted = if below.is_empty() { "index.html" } else { below };
        let file = self.files.iter().find(|file| file.path == wanted)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        let mut response = Response::new(Body::from(file.bytes));
        let known = file
            .etag
            .to_str()
            .is_ok_and(|etag| if_none_match.is_some_and(|list| names(list, etag)));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        self.dress(response.headers_mut(), file);
        Some(response)
    }

    fn dress(&self, headers: &mut axum::http::HeaderMap, file: &Entry) {
        headers.insert(header::CONTENT_TYPE, file.media_type.clone());
        headers.insert(header::ETAG, file.etag.clone());
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        let fixed: [(HeaderName, &'static str); 5] = [
            // The page and its parts change together, with the binary.
            (header::CACHE_CONTROL, "no-cache"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("permissions-policy"), PERMISSIONS),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Nothing inline, nothing of anybody else; SIP to the edges and nowhere else.
fn policy(edges: &[String]) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         manifest-src 'self'; media-src blob:; connect-src 'self' {}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        edges.join(" ")
    )
}

fn moved() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(AT));
    response
}
