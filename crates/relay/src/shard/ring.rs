//! A shard's datagrams by io_uring: each socket is asked once for all that it will
//! ever receive, into buffers that the kernel was given beforehand, and what a round
//! sends goes by one system call.
//!
//! The waker and connections stay with a [`Poller`], which the ring watches.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustc_hash::FxHashMap;
use slab::Slab;
use socket2::SockAddr;

use super::network::{Network, RECEIVE_BUFFER, bind};
use super::poller::{Found, Poller, Waker};
use super::ring_buffers::{Incoming, Outgoing};

/// Requests that are made between two system calls at most.
const REQUESTS: u32 = 512;
/// Room for what they bring, before the kernel keeps it for later.
const COMPLETIONS: u32 = 4096;
/// Datagrams taken between two looks at commands and timers.
pub(super) const ARRIVALS: usize = 512;

/// The kernel looks at no more sockets for who waits for one datagram (Linux 6.13):
/// who found so many asks for the rest.
const AT_ONCE: usize = 20;

/// What requests are told by, beside the sockets' own numbers.
const SEND: u64 = u64::MAX;
const REST: u64 = u64::MAX - 1;
const CANCEL: u64 = u64::MAX - 2;

pub(super) struct Ring(RefCell<Inner>);

struct Inner {
    /// Before what it uses: dropped first.
    uring: IoUring,
    incoming: Incoming,
    outgoing: Outgoing,
    rest: Poller,
    rest_is_watched: bool,
    watched: Slab<Watched>,
    by_socket: FxHashMap<RawFd, usize>,
    /// Those that are closed and still asked.
    uncancelled: Vec<usize>,
    /// Those that are to be asked (again).
    unasked: VecDeque<usize>,
    in_hand: Option<Arrival>,
    failed_sends: u64,
    failed_receives: u64,
}

struct Watched {
    socket: RawFd,
    /// `None`: it is closed, and waits for its last word.
    token: Option<u64>,
    is_asked: bool,
    /// Kept until then, so that its number is nobody else's.
    closing: Option<UdpSocket>,
}

/// A datagram that came to a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub token: u64,
    buffer: u16,
}

impl Ring {
    /// Fails where the kernel is too old (Linux 6.1) or does not allow it.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            // Until the shard's own thread begins.
            .setup_r_disabled()
            .build(REQUESTS)?;
        let incoming = Incoming::new(&uring)?;
        Ok(Self(RefCell::new(Inner {
            uring,
            incoming,
            outgoing: Outgoing::new(REQUESTS as usize),
            rest: Poller::new()?,
            rest_is_watched: false,
            watched: Slab::new(),
            by_socket: FxHashMap::default(),
            uncancelled: Vec::new(),
            unasked: VecDeque::new(),
            in_hand: None,
            failed_sends: 0,
            failed_receives: 0,
        })))
    }

    /// From now on it is this thread's.
    pub fn begin(&self) -> io::Result<()> {
        self.0.borrow().uring.submitter().register_enable_rings()
    }

    pub fn waker(&self) -> Waker {
        self.0.borrow().rest.waker()
    }

    pub fn quiet_waker(&self) {
        self.0.borrow().rest.quiet_waker();
    }

    /// Sends what is to be sent, and sleeps until something is there or the time
    /// is over.
    pub fn wait(&self, timeout: Option<Duration>, found: &mut Found) {
        found.clear();
        let inner = &mut *self.0.borrow_mut();
        inner.ask();
        let limit = timeout
            .map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let submitter = inner.uring.submitter();
        // The time being over is an error, as an interruption is: nothing came.
        let _ = match &limit {
            Some(limit) => submitter.submit_with_args(1, &SubmitArgs::new().timespec(limit)),
            None => submitter.submit_and_wait(1),
        };
        if inner.uring.completion().len() >= AT_ONCE {
            let at_once = Timespec::new();
            let limit = SubmitArgs::new().timespec(&at_once);
            let _ = inner.uring.submitter().submit_with_args(ARRIVALS, &limit);
        }
        inner.outgoing.sent(inner.uring.submission().is_empty());
        if inner.take_completions(found) {
            inner.rest.wait(Some(Duration::ZERO), found);
        }
    }

    /// Sends what is to be sent.
    pub fn flush(&self) {
        self.0.borrow_mut().submit();
    }

    /// The next [`Network::receive`] brings this one.
    pub fn hand(&self, arrival: Arrival) {
        self.0.borrow_mut().in_hand = Some(arrival);
    }

    /// Takes it back where nobody wanted it.
    pub fn take_back(&self) {
        let inner = &mut *self.0.borrow_mut();
        if let Some(arrival) = inner.in_hand.take() {
            inner.incoming.give(arrival.buffer);
        }
    }

    /// What the kernel would not send, and could not receive, since it was asked.
    pub fn take_failures(&self) -> (u64, u64) {
        let inner = &mut *self.0.borrow_mut();
        (std::mem::take(&mut inner.failed_sends), std::mem::take(&mut inner.failed_receives))
    }
}

impl Inner {
    /// Asks the sockets that are not asked, and for the rest's readiness.
    fn ask(&mut self) {
        if !self.rest_is_watched {
            let poll = opcode::PollAdd::new(Fd(self.rest.as_raw_fd()), POLL_IN);
            self.rest_is_watched = self.push(&poll.build().user_data(REST)).is_ok();
        }
        while let Some(at) = self.uncancelled.pop() {
            let cancel = opcode::AsyncCancel::new(at as u64).build().user_data(CANCEL);
            if self.push(&cancel).is_err() {
                self.uncancelled.push(at);
                return;
            }
        }
        while let Some(at) = self.unasked.pop_front() {
            let Some(watched) = self.watched.get(at) else { continue };
            let request = self.incoming.request(watched.socket).user_data(at as u64);
            if self.push(&request).is_err() {
                self.unasked.push_front(at);
                return;
            }
            self.watched[at].is_asked = true;
        }
    }

    fn push(&mut self, request: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what a request points to is ours and outlives it: receives use
        // `incoming`, which is dropped after the ring, and sends `outgoing`, whose
        // places are used again only once the kernel has taken them.
        let push = |uring: &mut IoUring| unsafe { uring.submission().push(request) };
        if push(&mut self.uring).is_ok() {
            return Ok(());
        }
        self.submit();
        push(&mut self.uring).map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Sends do not wait for anything: once they are submitted they are over.
    fn submit(&mut self) {
        if !self.uring.submission().is_empty() {
            let _ = self.uring.submit();
        }
        self.outgoing.sent(self.uring.submission().is_empty());
    }

    /// True when the rest has something.
    fn take_completions(&mut self, found: &mut Found) -> bool {
        let mut rest_is_ready = false;
        let mut completions = self.uring.completion();
        while !found.has_all_arrivals() {
            let Some(completion) = completions.next() else { break };
            let (result, flags) = (completion.result(), completion.flags());
            match completion.user_data() {
                SEND => self.failed_sends += 1,
                CANCEL => {}
                REST => {
                    self.rest_is_watched = false;
                    rest_is_ready = true;
                }
                at => {
                    let at = at as usize;
                    let Some(watched) = self.watched.get_mut(at) else { continue };
                    match (cqueue::buffer_select(flags), watched.token) {
                        (Some(buffer), Some(token)) if result >= 0 => {
                            found.add_arrival(Arrival { token, buffer });
                        }
                        (Some(buffer), _) => self.incoming.give(buffer),
                        (None, Some(_)) if !NO_FAILURES.contains(&-result) => {
                            self.failed_receives += 1;
                        }
                        (None, _) => {}
                    }
                    // Without a buffer, say: it is asked again once there are some.
                    if !cqueue::more(flags) {
                        watched.is_asked = false;
                        match watched.token {
                            Some(_) => self.unasked.push_back(at),
                            None => drop(self.watched.remove(at)),
                        }
                    }
                }
            }
        }
        rest_is_ready
    }
}

const POLL_IN: u32 = libc::POLLIN as u32;
const NO_FAILURES: [i32; 2] = [libc::ENOBUFS, libc::ECANCELED];

impl Network for Ring {
    type Socket = UdpSocket;

    fn bind(&self, address: IpAddr, port: u16) -> io::Result<UdpSocket> {
        bind(address, port, RECEIVE_BUFFER)
    }

    fn watch(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let socket = socket.as_raw_fd();
        let at = inner.watched.insert(Watched {
            socket,
            token: Some(token),
            is_asked: false,
            closing: None,
        });
        inner.by_socket.insert(socket, at);
        inner.unasked.push_back(at);
        Ok(())
    }

    /// What the kernel has of it would keep its port.
    fn close(&self, socket: UdpSocket) {
        let inner = &mut *self.0.borrow_mut();
        let Some(at) = inner.by_socket.remove(&socket.as_raw_fd()) else { return };
        // What it has sent goes by it.
        inner.submit();
        let Some(watched) = inner.watched.get_mut(at) else { return };
        (watched.token, watched.closing) = (None, Some(socket));
        if watched.is_asked {
            inner.uncancelled.push(at);
        } else {
            inner.unasked.retain(|other| *other != at);
            inner.watched.remove(at);
        }
    }

    fn receive(&self, _: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let inner = &mut *self.0.borrow_mut();
        let arrival = inner.in_hand.take().ok_or(io::ErrorKind::WouldBlock)?;
        let read = inner.incoming.read(arrival.buffer, into);
        inner.incoming.give(arrival.buffer);
        read
    }

    fn send(&self, socket: &UdpSocket, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
        let inner = &mut *self.0.borrow_mut();
        // Before a place is taken: by a submission all of them are free.
        if inner.outgoing.is_full() || inner.uring.submission().is_full() {
            inner.submit();
        }
        let request = inner.outgoing.request(socket.as_raw_fd(), octets, SockAddr::from(to))?;
        // Of those that are sent nothing is told.
        let request = request.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND);
        inner.push(&request)?;
        Ok(octets.len())
    }

    fn watch_stream(&self, stream: &TcpStream, token: u64, room: Option<bool>) -> io::Result<()> {
        self.0.borrow().rest.watch_stream(stream, token, room)
    }
}

impl Incoming {
    /// The datagram in the buffer; one that did not fit is as long as `into`.
    fn read(&self, buffer: u16, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let unusable = || io::Error::from(io::ErrorKind::InvalidData);
        let message =
            RecvMsgOut::parse(self.buffer(buffer), self.header()).map_err(|()| unusable())?;
        let from = address(message.name_data()).ok_or_else(unusable)?;
        if message.is_payload_truncated() {
            return Ok((into.len(), from));
        }
        let octets = message.payload_data();
        let length = octets.len().min(into.len());
        into[..length].copy_from_slice(&octets[..length]);
        Ok((length, from))
    }
}

/// As the kernel writes it.
fn address(name: &[u8]) -> Option<SocketAddr> {
    // SAFETY: as many octets as there are, and room for them, are copied into an
    // address that was zeroed, and its length is theirs.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let count = name.len().min(*length as usize);
            std::ptr::copy_nonoverlapping(name.as_ptr(), storage.cast::<u8>(), count);
            *length = count as libc::socklen_t;
            Ok(())
        })
    }
    .ok()?;
    address.as_socket()
}
