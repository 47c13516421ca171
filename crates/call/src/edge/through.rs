//! Requests that come with a Route of ours: along a registration's Path, or
//! within a dialog.

use landline_sip::{
    Destination, Flow, HeaderName, Method, NameAddr, Request, ServerKey, StatusCode,
};

use super::token::FlowToken;
use crate::core::Core;
use crate::crossing;

impl Core {
    /// Takes our own routes off a request, and sends it through where they
    /// carry a flow token: then it is no longer ours to serve.
    pub(crate) fn routed(
        &mut self,
        key: Option<ServerKey>,
        flow: &Flow,
        mut request: Request,
    ) -> Option<Request> {
        let mut token = None;
        // One for each side we route between, and not more.
        for _ in 0..2 {
            let Some(route) = request.headers.values(&HeaderName::Route).next() else { break };
            let Ok(route) = NameAddr::parse(&route.to_str_lossy()) else { break };
            if !self.is_own_route(&route) {
                break;
            }
            let user = route.uri.user_decoded();
            token = token.or(user.and_then(|user| self.edge.signer.read(&user)));
            request.headers.remove_first_value(&HeaderName::Route);
        }
        match token {
            None => Some(request),
            Some(token) => {
                self.through(key, flow, request, token);
                None
            }
        }
    }

    fn is_own_route(&self, route: &NameAddr) -> bool {
        self.cx.is_ours(&route.uri.host, route.uri.port)
    }

    fn through(
        &mut self,
        key: Option<ServerKey>,
        flow: &Flow,
        mut request: Request,
        token: FlowToken,
    ) {
        // Only the region the token was made for may send to the client, and
        // only the client may send to it.
        let from_home = flow.peer.as_deref() == Some(token.home.as_str());
        let from_client = flow.peer.is_none() && flow.remote.ip() == token.flow.remote.ip();
        if !from_home && !from_client {
            return match key {
                Some(key) => self.refuse_peer(key, flow, &request, "a route that is not its own"),
                None => self.cx.counters.stray_acks += 1,
            };
        }
        if let Err(status) = self.hop(&mut request) {
            if let Some(key) = key {
                self.cx.reply(key, &request, status);
            }
            return;
        }
        // What only a region may say is not for a client to say through us.
        request.headers.remove_all(&crate::between::join_header());
        let destination = match from_home {
            true => Destination::Flow(token.flow.clone()),
            false => match self.home_of_dialog(&request, &token) {
                Some(destination) => destination,
                None => {
                    if let Some(key) = key {
                        self.cx.reply(key, &request, StatusCode::SERVICE_UNAVAILABLE);
                    }
                    return;
                }
            },
        };
        let Some(key) = key else {
            // An ACK to a 2xx has no transaction (RFC 3261 §16.11).
            self.cx.counters.headers_withheld += crossing::withhold(&mut request.headers);
            return self.cx.send_ack(request, destination);
        };
        if from_home && matches!(request.method, Method::Invite | Method::Subscribe) {
            self.record_route(&mut request, &token);
        }
        let _refused = self.forward(key, request, destination, Vec::new(), None);
    }

    /// Which of the home region's proxies has the dialog: its Contact says.
    fn home_of_dialog(&self, request: &Request, token: &FlowToken) -> Option<Destination> {
        let mut known = self.cx.home_destinations(token.home);
        let host = request.uri.host.to_string();
        let named = known.iter().position(|it| match it {
            Destination::Region { host: known, port, .. } => {
                super::bracketed(known).eq_ignore_ascii_case(&host)
                    && Some(*port) == request.uri.port
            }
            _ => false,
        });
        (!known.is_empty()).then(|| known.swap_remove(named.unwrap_or(0)))
    }

    fn record_route(&mut self, request: &mut Request, token: &FlowToken) {
        let Some((host, port)) = self.cx.config.inter_region.clone() else { return };
        let user = self.edge.signer.write(token);
        let inner = format!("<sip:{user}@{}:{port};transport=tls;lr>", super::bracketed(&host));
        let outer = self.cx.outer_route(&token.flow, &user);
        request.headers.insert_before(HeaderName::RecordRoute, inner);
        request.headers.insert_before(HeaderName::RecordRoute, outer);
    }
}
