//! One SIP WebSocket connection (RFC 7118): a message per WebSocket message.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use landline_sip::Flow;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, error::CapacityError};

use crate::inbox::{Incoming, Written};
use crate::metrics::Drop as Cause;
use crate::shared::Shared;
use crate::stream::{Patience, Side, answer_ping, deliver};

/// The subprotocol of RFC 7118 §4.
const SUBPROTOCOL: &str = "sip";
const WRITE_BATCH: usize = 32;
/// Unanswered, after which a client is gone.
const PINGS: u32 = 3;

/// The HTTP handshake. A page of an origin that is not allowed is refused, and
/// a client that does not offer `sip` (§5.1).
pub(crate) async fn accept<S>(stream: S, shared: &Shared) -> Result<WebSocketStream<S>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &shared.limits;
    let most = Some(limits.message.max_message);
    let config = WebSocketConfig::default()
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(limits.write_queue_octets + limits.message.max_message);
    let mut refused = Cause::HandshakeFailed;
    // The shape of tungstenite's callback.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| {
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        if !shared.origins.allow(origin) {
            refused = Cause::WrongOrigin;
            let why = "this page's origin is not in `proxy.origins`";
            return Err(refusal(StatusCode::FORBIDDEN, why));
        }
        if !offers_sip(request) {
            refused = Cause::WrongSubprotocol;
            let why = "the subprotocol `sip` is wanted (RFC 7118)";
            return Err(refusal(StatusCode::BAD_REQUEST, why));
        }
        Ok(choosing_sip(response))
    };
    let accepted =
        tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await;
    accepted.map_err(|_| refused)
}

fn offers_sip(request: &Request) -> bool {
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    offers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL))
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut refusal = ErrorResponse::new(Some(format!("{why}\n")));
    *refusal.status_mut() = status;
    refusal
}

fn choosing_sip(mut response: Response) -> Response {
    let chosen = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    response
}

/// Runs a connection to its end, as [`crate::stream::serve`] does.
pub(crate) async fn serve<S>(
    mut socket: WebSocketStream<S>,
    flow: Flow,
    mut written: Written,
    shared: &Shared,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _counted = shared.metrics.connection(flow.transport);
    if let Err(cause) = exchange(&mut socket, &flow, &mut written, shared).await {
        shared.metrics.drop(cause);
    }
    let _gone = shared.inbox.send(Incoming::Closed { id: flow.id }).await;
    let farewell = async {
        let mut batch = Vec::new();
        while written.wait(&mut batch, WRITE_BATCH).await {
            if write(&mut socket, &mut batch).await.is_err() {
                return;
            }
        }
        let _closed = socket.close(None).await;
    };
    let _late = timeout(Duration::from_secs(2), farewell).await;
}

async fn exchange<S>(
    socket: &mut WebSocketStream<S>,
    flow: &Flow,
    written: &mut Written,
    shared: &Shared,
) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pong = written.own();
    let mut patience = Patience::new(Side::Accepted, shared);
    let mut silence = Silence::new(shared.limits.ping);
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    loop {
        let deadline = patience.deadline();
        tokio::select! {
            received = timeout_at(deadline.min(silence.until), socket.next()) => {
                let message = match received {
                    Err(_) if silence.until < deadline => {
                        silence.lasts()?;
                        let ping = socket.send(Message::Ping(Bytes::new()));
                        match timeout(shared.limits.write, ping).await {
                            Ok(Ok(())) => continue,
                            Ok(Err(_)) => return Ok(()),
                            Err(_) => return Err(Cause::SlowReader),
                        }
                    }
                    Err(_) => return Err(patience.cause()),
                    Ok(None) => return Ok(()),
                    Ok(Some(Err(error))) => return ended_by(&error),
                    Ok(Some(Ok(message))) => message,
                };
                silence.is_broken();
                let bytes = match message {
                    Message::Text(text) => Bytes::from(text),
                    Message::Binary(bytes) => bytes,
                    Message::Close(_) => return Ok(()),
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Bytes::new(),
                };
                let keep_alive = bytes.iter().all(|octet| matches!(octet, b'\r' | b'\n'));
                if bytes.len() >= 4 && keep_alive {
                    answer_ping(&pong);
                }
                if !keep_alive && deliver(&shared.inbox, flow, bytes).await.is_err() {
                    return Ok(());
                }
                patience.heard(!keep_alive, false);
            }
            more = written.wait(&mut batch, WRITE_BATCH) => {
                if !more {
                    return Ok(());
                }
                match timeout(shared.limits.write, write(socket, &mut batch)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(Cause::SlowReader),
                }
            }
        }
    }
}

/// How long nothing was heard, pongs included.
struct Silence {
    /// Between two pings.
    pause: Duration,
    until: Instant,
    unanswered: u32,
}

impl Silence {
    fn new(pause: Duration) -> Self {
        Self { pause, until: Instant::now() + pause, unanswered: 0 }
    }

    /// Time for a ping, or for good.
    fn lasts(&mut self) -> Result<(), Cause> {
        if self.unanswered == PINGS {
            return Err(Cause::Vanished);
        }
        self.unanswered += 1;
        self.until = Instant::now() + self.pause;
        Ok(())
    }

    fn is_broken(&mut self) {
        *self = Self::new(self.pause);
    }
}

/// Text where the message is UTF-8, which browsers' libraries expect; binary
/// for the rest (RFC 7118 §5.2 allows both).
async fn write<S>(socket: &mut WebSocketStream<S>, batch: &mut Vec<Bytes>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for bytes in batch.drain(..) {
        let message = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        };
        socket.feed(message).await?;
    }
    socket.flush().await
}

fn ended_by(error: &Error) -> Result<(), Cause> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Err(Cause::Oversize),
        Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_) => Err(Cause::Framing),
        _ => Ok(()),
    }
}
