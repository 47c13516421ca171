use std::fmt;

use bytes::Bytes;

use crate::byte_str::ByteStr;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::method::Method;
use crate::status::StatusCode;
use crate::uri::Uri;

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "taken apart at once; a box would cost each parse")]
pub enum Message {
    Request(Request),
    Response(Response),
}

#[derive(Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: Headers,
    pub body: Bytes,
}

#[derive(Clone, PartialEq)]
pub struct Response {
    pub status: StatusCode,
    pub reason: ByteStr,
    pub headers: Headers,
    pub body: Bytes,
}

impl Request {
    /// Without any header yet.
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::with_capacity(16), body: Bytes::new() }
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl Into<ByteStr>) -> Self {
        self.headers.push(name, value);
        self
    }

    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.set_body(content_type, body);
        self
    }

    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        set_body(&mut self.headers, &mut self.body, content_type, body.into());
    }

    /// Whether the To has a tag: the request belongs to a dialog, or to one
    /// that is no more (RFC 3261 §12.2.2).
    pub fn is_in_dialog(&self) -> bool {
        self.to().is_ok_and(|to| to.tag().is_some())
    }
}

impl Response {
    /// Without any header yet, with the registry's reason phrase.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            reason: ByteStr::from_static(status.reason()),
            headers: Headers::with_capacity(16),
            body: Bytes::new(),
        }
    }

    /// With the headers that RFC 3261 §8.2.6.2 copies, and those that make a
    /// dialog (§12.1.1); the To tag is the caller's to set.
    pub fn for_request(request: &Request, status: StatusCode) -> Self {
        let mut response = Self::new(status);
        let makes_dialog = matches!(
            request.method,
            Method::Invite | Method::Subscribe | Method::Refer | Method::Notify
        ) && (101..300).contains(&status.code());
        for (name, value) in request.headers.iter() {
            let copied = match name {
                HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq => true,
                HeaderName::Timestamp => status == StatusCode::TRYING,
                HeaderName::RecordRoute => makes_dialog,
                _ => false,
            };
            if copied {
                response.headers.push(name.clone(), value.clone());
            }
        }
        response
    }

    /// Adds the tag to the To unless it has one already.
    #[must_use]
    pub fn with_to_tag(mut self, tag: &str) -> Self {
        if let Ok(mut to) = self.to()
            && to.tag().is_none()
        {
            to.set_tag(tag);
            self.headers.set(HeaderName::To, to);
        }
        self
    }

    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<ByteStr>) -> Self {
        self.reason = reason.into();
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl Into<ByteStr>) -> Self {
        self.headers.push(name, value);
        self
    }

    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.set_body(content_type, body);
        self
    }

    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        set_body(&mut self.headers, &mut self.body, content_type, body.into());
    }
}

fn set_body(headers: &mut Headers, slot: &mut Bytes, content_type: &str, body: Bytes) {
    headers.set(HeaderName::ContentType, content_type);
    *slot = body;
}

impl Message {
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    pub fn body(&self) -> &Bytes {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// Shape, not content: header values and bodies are personal data.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status.code())
            .field("headers", &self.headers)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}
