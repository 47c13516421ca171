//! What went wrong, told as a problem document (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use landline_store::StoreError;
use serde_json::{Map, Value, json};

/// An answer that is no success. Its words go to the client alone, never to a log.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// The end of the type's URI: stable, for programs.
    kind: &'static str,
    title: &'static str,
    /// Names the culprit and what would be right.
    detail: String,
    /// Boxed: an error should be small to hand on.
    more: Box<Map<String, Value>>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

const TYPES: &str = "urn:landline:problem:";
pub const CONTENT_TYPE: &str = "application/problem+json";

impl Problem {
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Self { status, kind, title, detail, more: Box::default(), headers: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub fn with_header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request cannot be understood",
            detail,
        )
    }

    /// A field of the body or a parameter of the query holds what it must not.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::bad_request(format!("`{field}`: {}", detail.into())).with("field", field)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "The state of things forbids it", detail)
    }

    /// RFC 9110 §11.6.1: 401 says how to do it.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "A key of this region is needed",
            detail,
        )
        .with_header(header::WWW_AUTHENTICATE, "Basic realm=\"landline\", charset=\"UTF-8\"")
        .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"landline\"")
    }

    pub fn too_many(wait: Duration, detail: impl Into<String>) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
            .with_header(header::RETRY_AFTER, &seconds.max(1).to_string())
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again later", detail)
            .with_header(header::RETRY_AFTER, "5")
    }

    /// A fault of ours. The client learns nothing of it; the log does.
    pub fn internal() -> Self {
        let detail = "this is a fault of the server; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something failed here", detail)
    }

    /// RFC 9110 §15.5.20 Misdirected Request: another region is home to what
    /// was asked for, and the answer says where that is.
    pub fn misdirected(what: &str, home: &str, base_url: Option<&str>, path: &str) -> Self {
        let detail = match base_url {
            Some(base) => format!("{what} is at home in region {home}: ask {base}"),
            None => {
                format!("{what} is at home in region {home}, whose API address is not known here")
            }
        };
        let problem = Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong-region",
            "Another region is home to this",
            detail,
        );
        let problem = problem.with("home_region", home);
        match base_url {
            Some(base) => problem.with("base_url", base).with("location", format!("{base}{path}")),
            None => problem.with("base_url", Value::Null),
        }
    }

    pub fn into_response(self, path: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(self.document(path).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }

    fn document(&self, path: &str) -> Value {
        let mut fields = Map::new();
        fields.insert("type".to_owned(), json!(format!("{TYPES}{}", self.kind)));
        fields.insert("title".to_owned(), json!(self.title));
        fields.insert("status".to_owned(), json!(self.status.as_u16()));
        fields.insert("detail".to_owned(), json!(self.detail));
        fields.insert("instance".to_owned(), json!(path));
        fields.extend(self.more.as_ref().clone());
        Value::Object(fields)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Invalid { field, .. } => {
                Self::bad_request(error.to_string()).with("field", *field)
            }
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::Conflict { .. } | StoreError::InUse { .. } => {
                Self::conflict(error.to_string())
            }
            StoreError::Deleted { .. } => {
                Self::new(StatusCode::GONE, "deleted", "It was deleted", error.to_string())
            }
            StoreError::KeyDestroyed { .. } => Self::new(
                StatusCode::GONE,
                "erased",
                "Its key was destroyed",
                "nobody can read this any more: its key was destroyed",
            ),
            _ if error.is_transient() => {
                tracing::warn!(%error, "the database is away");
                Self::unavailable("the region's database did not answer")
            }
            _ => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        for (millis, told) in [(0, "1"), (10, "1"), (1000, "1"), (1001, "2")] {
            let problem = Problem::too_many(Duration::from_millis(millis), "x").into_response("/");
            assert_eq!(problem.headers()[header::RETRY_AFTER], told, "{millis}");
        }
    }
}
