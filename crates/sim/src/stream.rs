//! Connections between machines: octets in order, or none at all. What cannot
//! get through waits, as TCP sends it again, until somebody gives up.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cx::{Cx, Event, Node};

/// How soon a machine says that it has no such connection.
const RESET: Duration = Duration::from_millis(5);
/// Unacknowledged octets end a connection after this (TCP_USER_TIMEOUT).
const GIVE_UP: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Opened,
    Octets(Vec<u8>),
    /// By the other side, in order.
    Closed,
    /// Nothing was acknowledged for too long, or the other machine knows it not.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Control,
    Border,
    /// From a proxy that has calls to one of its region that holds them.
    Peer,
}

pub struct Stream {
    pub kind: Kind,
    pub ends: [Node; 2],
    /// The process at each end that has it open.
    pub lives: [u64; 2],
    /// Towards each end.
    queues: [VecDeque<(Duration, What)>; 2],
    stuck: [Option<Duration>; 2],
    open: [bool; 2],
}

#[derive(Default)]
pub struct Streams(Vec<Stream>);

impl Streams {
    pub fn get(&self, stream: usize) -> &Stream {
        &self.0[stream]
    }

    /// Those that the process has open.
    pub fn of(&self, node: Node) -> Vec<(usize, usize)> {
        let open = |(number, stream): (usize, &Stream)| {
            let side = (0..2).find(|side| stream.ends[*side] == node && stream.open[*side])?;
            Some((number, side))
        };
        self.0.iter().enumerate().filter_map(open).collect()
    }
}

impl Cx {
    /// Begins a connection; the other side hears of it as `Opened`, and then
    /// this one does.
    pub fn connect(&mut self, kind: Kind, from: Node, to: Node, life: u64) -> usize {
        let stream = Stream {
            kind,
            ends: [from, to],
            lives: [life, 0],
            queues: Default::default(),
            stuck: [None; 2],
            open: [true, true],
        };
        self.streams.0.push(stream);
        let number = self.streams.0.len() - 1;
        self.put(number, 1, What::Opened);
        number
    }

    /// The other side took the connection.
    pub fn accepted(&mut self, stream: usize, life: u64) {
        self.streams.0[stream].lives[1] = life;
        self.put(stream, 0, What::Opened);
    }

    pub fn transmit(&mut self, stream: usize, side: usize, octets: Vec<u8>) {
        if self.streams.0[stream].open[side] {
            self.put(stream, 1 - side, What::Octets(octets));
        }
    }

    /// This side ends it in order; the other hears of it if it can.
    pub fn close(&mut self, stream: usize, side: usize) {
        if std::mem::replace(&mut self.streams.0[stream].open[side], false) {
            self.streams.0[stream].queues[side].clear();
            self.put(stream, 1 - side, What::Closed);
        }
    }

    /// The machine is gone without a word.
    pub fn abandon(&mut self, stream: usize, side: usize) {
        self.streams.0[stream].open[side] = false;
        self.streams.0[stream].queues[side].clear();
    }

    fn put(&mut self, number: usize, to: usize, what: What) {
        let delay = self.chance.millis(1, 12);
        let at = self.at() + delay;
        let it = &mut self.streams.0[number];
        if !it.open[to] {
            // The other side's machine knows nothing of the connection any more.
            return self.lose(number, 1 - to, RESET);
        }
        let at = it.queues[to].back().map_or(at, |(last, _)| at.max(*last));
        it.queues[to].push_back((at, what));
        let pause = at - self.at();
        self.after(pause, Event::Stream(number, to));
    }

    /// What this side gets now, if anything.
    pub fn arrived(&mut self, stream: usize, side: usize) -> Option<What> {
        let at = self.at();
        let [a, b] = self.streams.0[stream].ends;
        let parted = self.are_parted(a, b);
        let it = &mut self.streams.0[stream];
        let (due, what) = it.queues[side].front()?;
        if !it.open[side] || *due > at {
            return None;
        }
        if parted && *what != What::Lost {
            let since = *it.stuck[side].get_or_insert(at);
            match at - since < GIVE_UP {
                true => self.after(AGAIN, Event::Stream(stream, side)),
                false => (0..2).for_each(|side| self.lose(stream, side, Duration::ZERO)),
            }
            return None;
        }
        it.stuck[side] = None;
        let (_, what) = it.queues[side].pop_front()?;
        if matches!(what, What::Closed | What::Lost) {
            it.open[side] = false;
            it.queues[side].clear();
        }
        Some(what)
    }

    /// The side finds out, in a while, that nobody is there.
    fn lose(&mut self, stream: usize, side: usize, pause: Duration) {
        let at = self.at() + pause;
        let it = &mut self.streams.0[stream];
        if it.open[side] && it.queues[side].back().is_none_or(|(_, what)| *what != What::Lost) {
            it.queues[side].clear();
            it.stuck[side] = None;
            it.queues[side].push_back((at, What::Lost));
            self.after(pause, Event::Stream(stream, side));
        }
    }

    /// What waits here is for a process that is gone: its machine says so, or,
    /// being off too, says nothing.
    pub fn unheard(&mut self, stream: usize, side: usize, machine_is_on: bool) {
        self.abandon(stream, side);
        let pause = if machine_is_on { RESET } else { GIVE_UP };
        self.lose(stream, 1 - side, pause);
    }
}
