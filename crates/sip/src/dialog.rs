//! Dialogs, RFC 3261 §12: what both sides of a call agree on between requests.

use std::fmt;

use crate::{
    ByteStr, Contacts, HeaderError, HeaderName, Method, NameAddr, Request, Response, StatusCode,
    Uri,
};

/// Call-ID and tags as one side sees them, RFC 3261 §12.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    pub call_id: ByteStr,
    pub local_tag: ByteStr,
    pub remote_tag: ByteStr,
}

impl DialogId {
    /// Of a request received: the To tag is ours. A request outside any dialog
    /// has an empty one.
    pub fn of_request(request: &Request) -> Result<Self, HeaderError> {
        Ok(Self {
            call_id: request.call_id()?,
            local_tag: tag_of(&request.to()?),
            remote_tag: tag_of(&request.from()?),
        })
    }

    /// Of a response received: the From tag is ours.
    pub fn of_response(response: &Response) -> Result<Self, HeaderError> {
        Ok(Self {
            call_id: response.call_id()?,
            local_tag: tag_of(&response.from()?),
            remote_tag: tag_of(&response.to()?),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogState {
    /// A provisional response with a To tag made it.
    Early,
    Confirmed,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// No Contact where RFC 3261 §12.1 needs one, or one that is no SIP URI.
    #[error("no usable Contact")]
    NoContact,
    /// A provisional response without a To tag makes no dialog.
    #[error("no To tag")]
    NoTag,
    /// Overtaken by a later request of the same sender, RFC 3261 §12.2.2.
    #[error("the CSeq number is lower than one seen before")]
    LowerCSeq,
    #[error("the request is of another dialog")]
    OtherDialog,
}

impl DialogError {
    /// What to answer the request with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Header(_) | Self::NoContact | Self::NoTag => StatusCode::BAD_REQUEST,
            Self::LowerCSeq => StatusCode::SERVER_INTERNAL_ERROR,
            Self::OtherDialog => StatusCode::CALL_DOES_NOT_EXIST,
        }
    }
}

#[derive(Clone)]
pub struct Dialog {
    call_id: ByteStr,
    /// From of what we send, with our tag.
    local: NameAddr,
    /// To of what we send, with the peer's tag.
    remote: NameAddr,
    local_contact: NameAddr,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route_set: Vec<NameAddr>,
    remote_target: Uri,
    is_secure: bool,
    state: DialogState,
}

/// Everything a dialog is, in plain parts: for whoever keeps it beyond the
/// process that made it.
#[derive(Clone, PartialEq)]
pub struct DialogParts {
    pub call_id: ByteStr,
    pub local: NameAddr,
    pub remote: NameAddr,
    pub local_contact: NameAddr,
    pub local_cseq: u32,
    pub remote_cseq: Option<u32>,
    pub route_set: Vec<NameAddr>,
    pub remote_target: Uri,
    pub is_secure: bool,
    pub state: DialogState,
}

impl From<DialogParts> for Dialog {
    fn from(parts: DialogParts) -> Self {
        let DialogParts { call_id, local, remote, local_contact, local_cseq, .. } = parts;
        let DialogParts { remote_cseq, route_set, remote_target, is_secure, state, .. } = parts;
        Self {
            call_id,
            local,
            remote,
            local_contact,
            local_cseq,
            remote_cseq,
            route_set,
            remote_target,
            is_secure,
            state,
        }
    }
}

impl Dialog {
    pub fn parts(&self) -> DialogParts {
        DialogParts {
            call_id: self.call_id.clone(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            local_contact: self.local_contact.clone(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            route_set: self.route_set.clone(),
            remote_target: self.remote_target.clone(),
            is_secure: self.is_secure,
            state: self.state,
        }
    }

    /// The dialog a response of ours to `request` makes, with `local_tag` as
    /// its To tag, RFC 3261 §12.1.1. It begins early; see [`Dialog::confirm`].
    pub fn uas(
        request: &Request,
        local_tag: &str,
        local_contact: NameAddr,
    ) -> Result<Self, DialogError> {
        let mut local = request.to()?;
        local.set_tag(local_tag);
        Ok(Self {
            call_id: request.call_id()?,
            local,
            remote: request.from()?,
            local_contact,
            local_cseq: 0,
            remote_cseq: Some(request.cseq()?.number),
            route_set: request.record_routes()?,
            remote_target: target(request.contacts()?).ok_or(DialogError::NoContact)?,
            is_secure: request.uri.scheme == crate::Scheme::Sips,
            state: DialogState::Early,
        })
    }

    /// The dialog `response` makes of the INVITE we sent, RFC 3261 §12.1.2:
    /// early for a provisional one, confirmed for a 2xx. Each To tag is a
    /// dialog of its own.
    pub fn uac(request: &Request, response: &Response) -> Result<Self, DialogError> {
        let remote = response.to()?;
        let state = match response.status.is_provisional() {
            true => DialogState::Early,
            false => DialogState::Confirmed,
        };
        if remote.tag().is_none() && state == DialogState::Early {
            return Err(DialogError::NoTag);
        }
        // Some phones leave the Contact out of a 180, though they must not.
        let remote_target = match (target(response.contacts()?), state) {
            (Some(uri), _) => uri,
            (None, DialogState::Early) => request.uri.clone(),
            (None, DialogState::Confirmed) => return Err(DialogError::NoContact),
        };
        Ok(Self {
            call_id: request.call_id()?,
            local: request.from()?,
            remote,
            local_contact: first_contact(request.contacts()?).ok_or(DialogError::NoContact)?,
            local_cseq: request.cseq()?.number,
            remote_cseq: None,
            route_set: reversed(response.record_routes()?),
            remote_target,
            is_secure: request.uri.scheme == crate::Scheme::Sips,
            state,
        })
    }

    pub fn id(&self) -> DialogId {
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: tag_of(&self.local),
            remote_tag: tag_of(&self.remote),
        }
    }

    pub fn state(&self) -> DialogState {
        self.state
    }

    /// The dialog was asked for with a `sips` URI: every hop has to be secure.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub fn call_id(&self) -> &ByteStr {
        &self.call_id
    }

    pub fn local(&self) -> &NameAddr {
        &self.local
    }

    pub fn remote(&self) -> &NameAddr {
        &self.remote
    }

    pub fn local_contact(&self) -> &NameAddr {
        &self.local_contact
    }

    pub fn set_local_contact(&mut self, contact: NameAddr) {
        self.local_contact = contact;
    }

    pub fn remote_target(&self) -> &Uri {
        &self.remote_target
    }

    pub fn route_set(&self) -> &[NameAddr] {
        &self.route_set
    }

    /// The CSeq number of our last request.
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    pub fn remote_cseq(&self) -> Option<u32> {
        self.remote_cseq
    }

    /// Our own 2xx has been sent.
    pub fn confirm(&mut self) {
        self.state = DialogState::Confirmed;
    }

    /// The peer's 2xx has come for our INVITE: it decides over the route set
    /// and the target, RFC 3261 §13.2.2.4.
    pub fn confirm_by(&mut self, response: &Response) -> Result<(), DialogError> {
        if self.state == DialogState::Early {
            self.route_set = reversed(response.record_routes()?);
        }
        self.state = DialogState::Confirmed;
        self.refresh_target(response.contacts()?);
        Ok(())
    }

    /// It was early before, and made anew by the 2xx: our requests go on counting
    /// from there.
    pub fn go_on_from(&mut self, early: &Self) {
        self.local_cseq = self.local_cseq.max(early.local_cseq);
    }

    /// The peer moved: call it with the Contact of its target refresh request
    /// (INVITE, UPDATE) once that is accepted, or of its 2xx to ours, RFC 3261
    /// §12.2. Without a SIP URI in it nothing changes.
    pub fn refresh_target(&mut self, contacts: Contacts) {
        if let Some(uri) = target(contacts) {
            self.remote_target = uri;
        }
    }

    /// Checks a request received inside this dialog and takes over its CSeq:
    /// a gap is fine, going back is not (RFC 3261 §12.2.2). ACK and CANCEL have
    /// the number of their INVITE.
    pub fn accept(&mut self, request: &Request) -> Result<(), DialogError> {
        if DialogId::of_request(request)? != self.id() {
            return Err(DialogError::OtherDialog);
        }
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        let number = request.cseq()?.number;
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(DialogError::LowerCSeq);
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// The next request of ours, RFC 3261 §12.2.1.1; send it to
    /// [`Dialog::next_hop`]. For an ACK see [`Dialog::ack`].
    pub fn request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.request_with(method, self.local_cseq)
    }

    /// The ACK to a 2xx of the INVITE with this CSeq number; its body is the
    /// answer where the 2xx carried the offer. Credentials of the INVITE are to
    /// be copied by whoever has them (RFC 3261 §13.2.2.4).
    pub fn ack(&self, cseq: u32) -> Request {
        self.request_with(Method::Ack, cseq)
    }

    /// A response to a request of this dialog, or to the one that made it: our
    /// tag, and our Contact where the peer learns its target from it.
    pub fn respond(&self, request: &Request, status: StatusCode) -> Response {
        let mut response = Response::for_request(request, status);
        if status == StatusCode::TRYING {
            return response;
        }
        if let Some(tag) = self.local.tag() {
            response = response.with_to_tag(tag);
        }
        if sets_target(&request.method) && status.class() <= 2 {
            response.headers.push(HeaderName::Contact, &self.local_contact);
        }
        response
    }

    /// Where requests go: the first route, or the peer's target, RFC 3261 §8.1.2.
    pub fn next_hop(&self) -> &Uri {
        self.route_set.first().map_or(&self.remote_target, |route| &route.uri)
    }

    fn request_with(&self, method: Method, cseq: u32) -> Request {
        let (uri, routes) = self.routed();
        let mut request = Request::new(method.clone(), uri);
        let headers = &mut request.headers;
        for route in &routes {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::MaxForwards, "70");
        headers.push(HeaderName::From, &self.local);
        headers.push(HeaderName::To, &self.remote);
        headers.push(HeaderName::CallId, self.call_id.clone());
        headers.push(HeaderName::CSeq, format!("{cseq} {method}"));
        if sets_target(&method) {
            headers.push(HeaderName::Contact, &self.local_contact);
        }
        request
    }

    /// Request-URI and Route: a strict router (no `lr`) comes first into the
    /// one, and the target last into the other, RFC 3261 §12.2.1.1.
    fn routed(&self) -> (Uri, Vec<NameAddr>) {
        match self.route_set.split_first() {
            Some((strict, rest)) if !strict.uri.is_loose_router() => {
                let mut uri = strict.uri.clone();
                uri.headers = None;
                uri.params.remove("method");
                let mut routes = rest.to_vec();
                routes.push(NameAddr::new(self.remote_target.clone()));
                (uri, routes)
            }
            _ => (self.remote_target.clone(), self.route_set.clone()),
        }
    }
}

/// Which requests carry a Contact that becomes the other side's target.
fn sets_target(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
    )
}

fn first_contact(contacts: Contacts) -> Option<NameAddr> {
    match contacts {
        Contacts::Star => None,
        Contacts::List(list) => list.into_iter().next().map(|contact| contact.0),
    }
}

fn target(contacts: Contacts) -> Option<Uri> {
    first_contact(contacts).map(|contact| contact.uri).filter(Uri::is_sip)
}

fn reversed(mut routes: Vec<NameAddr>) -> Vec<NameAddr> {
    routes.reverse();
    routes
}

fn tag_of(address: &NameAddr) -> ByteStr {
    address.params.get_byte_str("tag").unwrap_or_default()
}

/// Parties and targets are personal data.
impl fmt::Debug for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialog")
            .field("state", &self.state)
            .field("local_cseq", &self.local_cseq)
            .field("remote_cseq", &self.remote_cseq)
            .field("routes", &self.route_set.len())
            .finish_non_exhaustive()
    }
}
