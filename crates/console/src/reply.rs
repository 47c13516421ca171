//! What a route answers, and how it becomes an HTTP response.

use aws_lc_rs::digest;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::audio::Wav;
use crate::problem::Problem;

pub struct Reply {
    pub status: StatusCode,
    pub body: Payload,
    pub headers: Vec<(HeaderName, String)>,
}

pub enum Payload {
    Nothing,
    Json(Vec<u8>),
    /// Of this media type; not kept for an idempotency key, without an ETag.
    Stream(&'static str, Body),
}

impl Reply {
    pub fn json(value: &impl Serialize) -> Result<Self, Problem> {
        Self::with_status(StatusCode::OK, value)
    }

    pub fn with_status(status: StatusCode, value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "an answer cannot be written");
            Problem::internal()
        })?;
        Ok(Self { status, body: Payload::Json(body), headers: Vec::new() })
    }

    pub fn created(value: &impl Serialize, location: &str) -> Result<Self, Problem> {
        let mut reply = Self::with_status(StatusCode::CREATED, value)?;
        reply.headers.push((header::LOCATION, location.to_owned()));
        Ok(reply)
    }

    pub fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Payload::Nothing, headers: Vec::new() }
    }

    pub fn stream(media_type: &'static str, body: Body) -> Self {
        let body = Payload::Stream(media_type, body);
        Self { status: StatusCode::OK, body, headers: Vec::new() }
    }

    pub fn wav(wav: Wav) -> Self {
        let mut reply = Self::stream("audio/wav", wav.body);
        reply.headers.push((header::CONTENT_LENGTH, wav.octets.to_string()));
        reply
    }

    pub fn etag(&self) -> Option<String> {
        match &self.body {
            Payload::Json(body) if self.status == StatusCode::OK => Some(etag_of(body)),
            _ => None,
        }
    }

    /// RFC 9110 §13.1.2: `if_none_match` is what the client has already.
    pub fn into_response(self, if_none_match: Option<&str>) -> Response<Body> {
        let etag = self.etag();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().append(name, value);
            }
        };
        for (name, value) in &self.headers {
            put(name.clone(), value);
        }
        if let Some(etag) = &etag {
            put(header::ETAG, etag);
        }
        if etag.is_some_and(|etag| if_none_match.is_some_and(|known| names(known, &etag))) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        match self.body {
            Payload::Nothing => {}
            Payload::Json(body) => {
                put(header::CONTENT_TYPE, "application/json");
                *response.body_mut() = Body::from(body);
            }
            Payload::Stream(media_type, body) => {
                put(header::CONTENT_TYPE, media_type);
                *response.body_mut() = body;
            }
        }
        response
    }
}

/// A thing's version: equal for equal representations.
pub fn etag_of(body: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, body);
    format!("\"{}\"", hex::encode(hash.as_ref().get(..16).unwrap_or_default()))
}

/// Whether a list of entity tags (RFC 9110 §8.8.3) names this one. Weak
/// comparison: nothing here has two representations of one version.
pub fn names(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// RFC 9110 §13.1.1: a change that was meant for another version is refused.
/// `current` is what a GET would answer.
pub fn check_unchanged(if_match: Option<&str>, current: &impl Serialize) -> Result<(), Problem> {
    let Some(wanted) = if_match else { return Ok(()) };
    let body = serde_json::to_vec(current).map_err(|_| Problem::internal())?;
    match names(wanted, &etag_of(&body)) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "changed",
            "It was changed meanwhile",
            "`If-Match` names another version than the present one: read it again",
        )
        .with("etag", Value::String(etag_of(&body)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_names_one_of_them_or_all() {
        assert!(names("\"a\", W/\"b\"", "\"b\"") && names("*", "\"b\""));
        assert!(!names("\"a\"", "\"b\"") && !names("b", "\"b\"") && !names("", "\"b\""));
    }
}
