use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::ring::{ARRIVALS, Arrival};

/// How many ready sockets one look may find.
const MAX_EVENTS: usize = 512;

const WAKER: u64 = u64::MAX;

/// A shard's epoll instance and the eventfd by which others wake it.
pub(super) struct Poller {
    epoll: OwnedFd,
    waker: Arc<OwnedFd>,
}

/// What one wait found; belongs to the shard's thread.
pub(super) struct Found {
    ready: Vec<epoll::Event>,
    /// Datagrams that are here already.
    arrivals: Vec<Arrival>,
}

/// Wakes a shard that sleeps in [`Poller::wait`].
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the shard will wake.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &*waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, waker })
    }

    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Level-triggered: a socket is found again as long as it is readable, so
    /// that one receive for each find suffices.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// Whether a connection is found while it can be written, too.
    pub fn watch_for_room(&self, socket: impl AsFd, token: u64, room: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let room = if room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN | room)?)
    }

    /// Sleeps until a socket is readable, somebody wakes us, or the time is
    /// over; `None` has no end.
    pub fn wait(&self, timeout: Option<Duration>, found: &mut Found) {
        found.ready.clear();
        // Epoll counts milliseconds: round up, or the last one is spun away.
        let timeout = timeout.map(|timeout| {
            let millis = timeout.as_micros().div_ceil(1000).min(60_000) as i64;
            Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 }
        });
        // The only error that can come is an interruption: nothing was found.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut found.ready), timeout.as_ref());
    }

    /// Makes the waker's readiness go away until it is used again.
    pub fn quiet_waker(&self) {
        let _ = rustix::io::read(&*self.waker, &mut [0u8; 8]);
    }
}

impl AsRawFd for Poller {
    /// Readable when a wait would find something.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Found {
    pub fn new() -> Self {
        Self { ready: Vec::with_capacity(MAX_EVENTS), arrivals: Vec::with_capacity(ARRIVALS) }
    }

    pub fn clear(&mut self) {
        self.ready.clear();
        self.arrivals.clear();
    }

    pub fn add_arrival(&mut self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    pub fn has_all_arrivals(&self) -> bool {
        self.arrivals.len() == ARRIVALS
    }

    /// There may be more.
    pub fn is_full(&self) -> bool {
        self.ready.len() == MAX_EVENTS || self.has_all_arrivals()
    }

    pub fn arrivals(&self) -> impl Iterator<Item = Arrival> + '_ {
        self.arrivals.iter().copied()
    }

    /// The tokens of what is ready; `None` for the waker.
    pub fn tokens(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.ready.iter().map(|event| Some(event.data.u64()).filter(|token| *token != WAKER))
    }
}
