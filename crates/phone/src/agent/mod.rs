//! The phone's user agent: one task that owns the endpoint, the path to the
//! server and the calls.

mod client;
mod line;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_media::Identity;
use landline_sip::digest::{self, Challenge};
use landline_sip::{
    ByteStr, ClientKey, Destination, Endpoint, EndpointConfig, Flow, HeaderName, Host, Input,
    Method, NameAddr, Output, Request, Response, SendTo, Transport, Uri,
};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use self::line::Line;
use crate::session::{Session, Setup};
use crate::wire::Wire;
use crate::{Call, MediaMode, PhoneConfig, PhoneError};

type Done = oneshot::Sender<Result<(), PhoneError>>;

pub(crate) enum Command {
    Register {
        keep: bool,
        done: oneshot::Sender<Result<(), PhoneError>>,
    },
    /// It is time to register again.
    Refresh,
    Call {
        target: String,
        done: oneshot::Sender<Result<Call, PhoneError>>,
    },
    Answer {
        line: u64,
        done: Option<Done>,
    },
    Decline {
        line: u64,
        status: u16,
        done: Done,
    },
    HangUp {
        line: u64,
        done: Done,
    },
    Hold {
        line: u64,
        hold: bool,
        /// How often the other side's change has come in between.
        collisions: u8,
        done: Done,
    },
}

pub(crate) struct Agent {
    config: PhoneConfig,
    identity: Option<Arc<Identity>>,
    random: ChaCha12Rng,
    wire: Wire,
    endpoint: Endpoint,
    last_key: u64,
    pending: BTreeMap<u64, Pending>,
    lines: BTreeMap<u64, Line>,
    last_line: u64,
    /// Call-ID and CSeq of our registrations.
    registration: (String, u32),
    commands: mpsc::WeakSender<Command>,
    incoming: mpsc::Sender<Call>,
}

/// A request of ours that waits for its final response.
struct Pending {
    purpose: Purpose,
    /// As sent, to be sent again with credentials.
    request: Request,
    challenged: bool,
}

enum Purpose {
    Register(Option<Done>),
    Invite(u64),
    /// A re-INVITE, and whether it holds.
    Modify {
        line: u64,
        collisions: u8,
        done: Done,
    },
    /// BYE and the like: the answer changes nothing.
    Goodbye(Option<Done>),
}

impl Agent {
    pub async fn new(
        config: PhoneConfig,
        identity: Option<Arc<Identity>>,
        commands: mpsc::WeakSender<Command>,
        incoming: mpsc::Sender<Call>,
    ) -> Result<Self, PhoneError> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| PhoneError::Tls("no randomness".into()))?;
        let mut random = ChaCha12Rng::from_seed(seed);
        let wire = Wire::open(&config).await?;
        let mut endpoint_seed = [0; 32];
        random.fill_bytes(&mut endpoint_seed);
        let endpoint = Endpoint::new(
            EndpointConfig {
                user_agent: Some("Landline phone".to_owned()),
                ..EndpointConfig::default()
            },
            endpoint_seed,
            Instant::now(),
        );
        let registration = (token(&mut random), 0);
        Ok(Self {
            config,
            identity,
            random,
            wire,
            endpoint,
            last_key: 0,
            pending: BTreeMap::new(),
            lines: BTreeMap::new(),
            last_line: 0,
            registration,
            commands,
            incoming,
        })
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.wire.flow.local
    }

    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            if self.drain().await.is_err() {
                return;
            }
            let timeout = self
                .endpoint
                .poll_timeout()
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                received = self.wire.receive() => match received {
                    Ok((flow, bytes)) => {
                        let keep_alive = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                        if !keep_alive {
                            self.endpoint.handle_input(Instant::now(), Input::Received { flow, bytes });
                        }
                    }
                    // Over UDP this is an ICMP error: somebody else's problem.
                    Err(_) if self.config.transport == Transport::Udp => {}
                    Err(_) => return,
                },
                () = sleep_until(timeout.into()) => {
                    self.endpoint.handle_timeout(Instant::now());
                }
            }
        }
    }

    async fn drain(&mut self) -> std::io::Result<()> {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { to, bytes, .. } => {
                    let address = match &to {
                        SendTo::Flow(flow) => flow.remote,
                        SendTo::Address { addr, .. } => *addr,
                        SendTo::Region { .. } => continue,
                    };
                    let sent = self.wire.send(address, bytes).await;
                    if self.config.transport != Transport::Udp {
                        sent?;
                    }
                }
                // Everything goes to the server; nothing has to be looked up.
                Output::Resolve { key, .. } => {
                    let input = Input::Resolved { key, targets: Vec::new() };
                    self.endpoint.handle_input(Instant::now(), input);
                }
                Output::Event(event) => self.event(event).await,
            }
        }
        Ok(())
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Register { keep, done } => {
                self.register(keep, Some(done));
            }
            Command::Refresh => self.register(true, None),
            Command::Call { target, done } => {
                let call = self.call(&target).await;
                let _ = done.send(call);
            }
            Command::Answer { line, done } => {
                let result = self.answer(line);
                if let Some(done) = done {
                    let _ = done.send(result);
                }
            }
            Command::Decline { line, status, done } => {
                let _ = done.send(self.decline(line, status));
            }
            Command::HangUp { line, done } => self.hang_up(line, done),
            Command::Hold { line, hold, collisions, done } => {
                self.hold(line, hold, collisions, done);
            }
        }
    }

    /// Starts the media of a call. `offering`: the first description is ours.
    async fn session(&mut self, offering: bool, peer_is_lite: bool) -> Result<Session, PhoneError> {
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        Session::start(Setup {
            spec: self.config.media.spec(self.config.bind),
            identity: self.identity.clone(),
            bind: self.config.bind,
            codec: self.config.codec,
            tone: self.config.tone,
            first_sequence: self.config.first_sequence,
            rollover: self.config.rollover,
            seed,
            // RFC 8445 §6.1.1: whoever offers controls, unless the other is lite.
            ice: (self.config.media == MediaMode::Webrtc).then_some(offering || peer_is_lite),
        })
        .await
    }

    /// Opens a client transaction towards the server.
    fn request(&mut self, request: Request, purpose: Purpose, challenged: bool) -> ClientKey {
        self.last_key += 1;
        let key = ClientKey(self.last_key);
        self.pending
            .insert(self.last_key, Pending { purpose, request: request.clone(), challenged });
        let destination = Destination::Flow(self.server());
        self.endpoint.handle_input(Instant::now(), Input::Request { key, request, destination });
        key
    }

    fn server(&self) -> Flow {
        self.wire.flow.clone()
    }

    /// The same request with credentials, RFC 3261 §22.2; `None` when no
    /// challenge can be answered.
    fn with_credentials(&mut self, request: &Request, response: &Response) -> Option<Request> {
        let proxy = response.headers.contains(&HeaderName::ProxyAuthenticate);
        let (challenge, credentials) = match proxy {
            true => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
            false => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
        };
        let challenges: Vec<_> = response
            .headers
            .all(&challenge)
            .filter_map(|value| Challenge::parse(value).ok())
            .collect();
        let cnonce = token(&mut self.random);
        let PhoneConfig { user, password, .. } = &self.config;
        let uri = request.uri.to_string();
        let answer =
            digest::answer(&challenges, &request.method, &uri, user, password, 1, &cnonce)?;
        let mut again = request.clone();
        let cseq = request.cseq().ok()?.number + 1;
        again.headers.set(HeaderName::CSeq, format!("{cseq} {}", request.method));
        again.headers.set(credentials, answer.to_string());
        Some(again)
    }

    fn own_uri(&self) -> Uri {
        domain_uri(Some(&self.config.user), &self.config.domain)
    }

    /// Our Contact: where we really are.
    fn contact(&self) -> NameAddr {
        let local = self.wire.flow.local;
        let uri = Uri::sip(Some(&self.config.user), host(local.ip()), Some(local.port()));
        match self.config.transport {
            Transport::Udp => NameAddr::new(uri),
            Transport::Tcp => NameAddr::new(uri.with_param("transport", Some("tcp"))),
            _ => NameAddr::new(uri.with_param("transport", Some("tls"))),
        }
    }

    fn first_request(
        &mut self,
        method: Method,
        uri: Uri,
        to: Uri,
        call_id: &str,
        cseq: u32,
    ) -> Request {
        let tag = token(&mut self.random);
        let mut from = NameAddr::new(self.own_uri()).with_param("tag", Some(&tag));
        if let Some(name) = &self.config.display_name {
            from = from.with_display(name.clone());
        }
        Request::new(method.clone(), uri)
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, from)
            .with_header(HeaderName::To, NameAddr::new(to))
            .with_header(HeaderName::CallId, ByteStr::from(call_id.to_owned()))
            .with_header(HeaderName::CSeq, format!("{cseq} {method}"))
            .with_header(HeaderName::Contact, self.contact())
            .with_header(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
    }
}

fn domain_uri(user: Option<&str>, domain: &str) -> Uri {
    let host = Host::parse(domain).unwrap_or_else(|| Host::Name("invalid".into()));
    Uri::sip(user, host, None)
}

fn host(ip: std::net::IpAddr) -> Host {
    match ip {
        std::net::IpAddr::V4(ip) => Host::V4(ip),
        std::net::IpAddr::V6(ip) => Host::V6(ip),
    }
}

/// Unpredictable text for tags, Call-IDs and cnonces.
fn token(random: &mut ChaCha12Rng) -> String {
    format!("{:016x}", random.next_u64())
}
