//! Browsers without pages: users that each hold a WebSocket over TLS (RFC 7118),
//! register by it, and register again at a given rate. One thread, one epoll.
//!
//! With --sync it stops twice and waits for a line: when half of the users are
//! registered (HALF), and when all are (ALL).
use crate::sip::{digest_answer, parse};
use crate::util::*;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslMethod, SslStream, SslVerifyMode};
use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

/// Handshakes at one time: what a server takes without a queue.
const PENDING: usize = 16;

#[derive(PartialEq, Clone, Copy)]
enum Phase {
    Tls,
    Upgrade,
    Open,
}

struct User {
    stream: SslStream<TcpStream>,
    phase: Phase,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    number: u32,
    cseq: u32,
    branch: u32,
    authorized: bool,
    registered: bool,
    /// When the registration began that is under way; 0 for none.
    began: u64,
}

struct Config {
    target: SocketAddr,
    domain: String,
    path: String,
    run: String,
    timeout: u64,
}

#[derive(Default)]
struct Stat {
    started: u64,
    ok: u64,
    failed: u64,
    timeouts: u64,
    skipped: u64,
    lost: u64,
    challenged: u64,
    codes: std::collections::BTreeMap<u16, u64>,
}

struct Gen {
    c: Config,
    s: Stat,
    tls: SslContext,
    epoll: i32,
    users: Vec<User>,
    /// Connecting, or registering for the first time.
    pending: usize,
    registered: usize,
    /// Registrations without their answer.
    under_way: usize,
    open: VecDeque<(u64, u32)>,
    times: Hist,
    rng: Rng,
}

fn name(number: u32) -> String {
    format!("u{number:06}")
}

impl Gen {
    fn connect(&mut self, now: u64) {
        let tcp = connect(self.c.target, self.users.len());
        tcp.set_nodelay(true).expect("nodelay");
        tcp.set_nonblocking(true).expect("nonblocking");
        let ssl = Ssl::new(&self.tls).expect("TLS");
        let fd = tcp.as_raw_fd();
        let stream = SslStream::new(ssl, tcp).expect("TLS stream");
        let number = self.users.len() as u32;
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: number as u64 };
        assert_eq!(unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }, 0);
        self.users.push(User {
            stream,
            phase: Phase::Tls,
            inbox: Vec::new(),
            outbox: Vec::new(),
            number,
            cseq: 0,
            branch: 0,
            authorized: false,
            registered: false,
            began: now,
        });
        self.pending += 1;
        self.under_way += 1;
        self.s.started += 1;
        self.open.push_back((now + self.c.timeout, number));
        self.advance(number as usize, now);
    }

    /// Goes on with the handshakes, then reads what there is.
    fn advance(&mut self, at: usize, now: u64) {
        if self.users[at].phase == Phase::Tls {
            match self.users[at].stream.connect() {
                Ok(()) => self.upgrade(at),
                Err(e) if e.code() == ErrorCode::WANT_READ || e.code() == ErrorCode::WANT_WRITE => return,
                Err(e) => panic!("TLS handshake of user {at}: {e}"),
            }
        }
        let mut buffer = [0; 16384];
        loop {
            match self.users[at].stream.read(&mut buffer) {
                Ok(0) => return self.gone(at),
                Ok(n) => self.users[at].inbox.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return self.gone(at),
            }
        }
        if self.users[at].phase == Phase::Upgrade {
            let inbox = &mut self.users[at].inbox;
            let Some(end) = inbox.windows(4).position(|w| w == b"\r\n\r\n") else { return };
            assert!(inbox.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&inbox[..end]));
            inbox.drain(..end + 4);
            self.users[at].phase = Phase::Open;
            self.register(at, None);
        }
        while let Some((opcode, message)) = frame(&mut self.users[at].inbox) {
            match opcode {
                1 | 2 => self.answered(at, &message, now),
                8 => return self.gone(at),
                9 => self.send(at, 10, &message),
                _ => {}
            }
        }
    }

    fn gone(&mut self, at: usize) {
        self.s.lost += 1;
        let fd = self.users[at].stream.get_ref().as_raw_fd();
        unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    fn upgrade(&mut self, at: usize) {
        self.users[at].phase = Phase::Upgrade;
        let c = &self.c;
        let key = openssl::base64::encode_block(&random_bytes(16));
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n",
            c.path, c.target
        );
        self.users[at].outbox.extend_from_slice(request.as_bytes());
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        let user = &mut self.users[at];
        while !user.outbox.is_empty() {
            match user.stream.write(&user.outbox) {
                Ok(n) => drop(user.outbox.drain(..n)),
                // A few hundred octets to a server that reads: the next try has it.
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => return,
            }
        }
    }

    fn send(&mut self, at: usize, opcode: u8, content: &[u8]) {
        let mask = (self.rng.next() as u32).to_be_bytes();
        let out = &mut self.users[at].outbox;
        out.push(0x80 | opcode);
        match content.len() {
            n @ 0..=125 => out.push(0x80 | n as u8),
            n => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(content.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        self.flush(at);
    }

    fn register(&mut self, at: usize, authorization: Option<String>) {
        let (d, run) = (self.c.domain.clone(), self.c.run.clone());
        let user = &mut self.users[at];
        user.cseq += 1;
        user.branch += 1;
        user.authorized = authorization.is_some();
        let (n, u) = (user.number, name(user.number));
        let authorization = authorization.map_or(String::new(), |it| format!("Authorization: {it}\r\n"));
        let request = format!(
            "REGISTER sip:{d} SIP/2.0\r\nVia: SIP/2.0/WSS {u}{run}.invalid;branch=z9hG4bK{run}.{n:x}.{br:x}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=f{n:x}\r\nTo: <sip:{u}@{d}>\r\n\
             Call-ID: {n:x}-{run}@pg\r\nCSeq: {cs} REGISTER\r\n\
             Contact: <sip:{u}@{u}{run}.invalid;transport=ws>\r\n{authorization}\
             Expires: 3600\r\nUser-Agent: peergen\r\nContent-Length: 0\r\n\r\n",
            br = user.branch,
            cs = user.cseq,
        );
        self.send(at, 1, request.as_bytes());
    }

    fn answered(&mut self, at: usize, message: &[u8], now: u64) {
        let Some(m) = parse(message) else { return };
        if !m.start.starts_with(b"SIP/2.0 ") || m.start.len() < 11 || m.cseq != self.users[at].cseq {
            return;
        }
        let code: u16 = std::str::from_utf8(&m.start[8..11]).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
        if code < 200 || self.users[at].began == 0 {
            return;
        }
        *self.s.codes.entry(code).or_insert(0) += 1;
        if code == 401 && !self.users[at].authorized {
            self.s.challenged += 1;
            let u = name(self.users[at].number);
            let uri = format!("sip:{}", self.c.domain);
            let nonce = self.rng.next();
            if let Some(answer) = digest_answer(m.auth, &u, &format!("pw{u}"), "REGISTER", &uri, nonce) {
                return self.register(at, Some(answer));
            }
        }
        let began = std::mem::take(&mut self.users[at].began);
        self.under_way -= 1;
        if code != 200 {
            self.s.failed += 1;
            return;
        }
        self.times.add(now - began);
        self.s.ok += 1;
        if !std::mem::replace(&mut self.users[at].registered, true) {
            self.registered += 1;
            self.pending -= 1;
        }
    }

    fn poll(&mut self, wait_ms: i32) {
        let mut events: [libc::epoll_event; 256] = unsafe { std::mem::zeroed() };
        let n = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), 256, wait_ms) };
        for event in events.iter().take(n.max(0) as usize) {
            self.advance(event.u64 as usize, now_mono());
        }
        let now = now_mono();
        while let Some(&(due, number)) = self.open.front() {
            let user = &mut self.users[number as usize];
            if user.began != 0 && due > now {
                break;
            }
            self.open.pop_front();
            if user.began != 0 && user.began + self.c.timeout <= now {
                user.began = 0;
                self.under_way -= 1;
                self.s.timeouts += 1;
                self.s.failed += 1;
            }
        }
    }

    /// Connects and registers until there are so many.
    fn fill(&mut self, users: usize) {
        while self.registered < users && self.s.failed == 0 {
            while self.users.len() < users && self.pending < PENDING {
                self.connect(now_mono());
            }
            self.poll(20);
        }
        assert_eq!(self.s.failed, 0, "users do not register: {:?}", self.s.codes);
    }
}

/// From an address that no more than a few hundred users share, as offices do:
/// servers limit the connections of one.
fn connect(target: SocketAddr, nth: usize) -> TcpStream {
    let SocketAddr::V4(to) = target else { panic!("--target takes an IPv4 address") };
    let from = u32::from(std::net::Ipv4Addr::new(127, 0, 12, 1)) + (nth / 500) as u32;
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
        let (local, remote) = (sin(from, 0), sin(u32::from(*to.ip()), to.port()));
        let size = size_of::<libc::sockaddr_in>() as u32;
        let bound = libc::bind(fd, (&raw const local).cast(), size);
        assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
        let connected = libc::connect(fd, (&raw const remote).cast(), size);
        assert_eq!(connected, 0, "{target}: {}", std::io::Error::last_os_error());
        TcpStream::from_raw_fd(fd)
    }
}

/// The first whole frame that a server sent: never masked, seldom split.
fn frame(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, length) = match *inbox.get(1)? & 0x7f {
        126 => (4, u16::from_be_bytes(inbox.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().ok()?) as usize),
        n => (2, n as usize),
    };
    let content = inbox.get(head..head + length)?.to_vec();
    let opcode = inbox[0] & 0xf;
    inbox.drain(..head + length);
    Some((opcode, content))
}

fn told(sync: bool, word: &str) {
    if sync {
        println!("{word}");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).expect("a line");
    }
}

pub fn main(a: &Args) {
    tight_timers();
    raise_nofile();
    let users: usize = a.num("users", 10_000);
    let (rate, secs): (f64, f64) = (a.num("rate", 1000.0), a.num("secs", 10.0));
    let mut tls = SslContext::builder(SslMethod::tls_client()).expect("TLS");
    tls.set_verify(SslVerifyMode::NONE);
    let target: SocketAddr = a.str("target", "127.0.11.2:5063").parse().expect("--target IP:PORT");
    let mut g = Gen {
        c: Config {
            target,
            domain: a.str("domain", "bench.local"),
            path: a.str("path", "/"),
            run: hex(&random_bytes(4)),
            timeout: a.num::<u64>("timeout-ms", 8000) * 1_000_000,
        },
        s: Stat::default(),
        tls: tls.build(),
        epoll: unsafe { libc::epoll_create1(0) },
        users: Vec::with_capacity(users),
        pending: 0,
        registered: 0,
        under_way: 0,
        open: VecDeque::new(),
        times: Hist::new(),
        rng: Rng(now_real() | 1),
    };
    let sync = a.flag("sync");
    g.fill(users / 2);
    told(sync, "HALF");
    g.fill(users);
    told(sync, "ALL");
    (g.s, g.times) = (Stat { lost: g.s.lost, ..Stat::default() }, Hist::new());
    let (u0, s0) = self_cpu();
    let (t0, interval, count) = (now_mono(), 1e9 / rate, (rate * secs) as u64);
    let (mut begun, mut last) = (0, t0);
    while begun < count || g.under_way > 0 {
        let now = now_mono();
        while begun < count && t0 + (begun as f64 * interval) as u64 <= now {
            let at = (begun % users as u64) as usize;
            begun += 1;
            g.s.started += 1;
            if g.users[at].began != 0 {
                g.s.skipped += 1;
                continue;
            }
            g.users[at].began = now;
            g.under_way += 1;
            g.open.push_back((now + g.c.timeout, at as u32));
            g.register(at, None);
        }
        g.poll(1);
        last = now_mono();
    }
    let dur = (last - t0) as f64 / 1e9;
    let (cu, cs) = self_cpu();
    let codes: serde_json::Map<String, serde_json::Value> =
        g.s.codes.iter().map(|(k, v)| (k.to_string(), (*v).into())).collect();
    println!(
        "{}",
        serde_json::json!({
            "gen": "peergen-wss", "rate_target": rate, "duration_s": dur, "rate": g.s.ok as f64 / dur,
            "users": users, "started": g.s.started, "ok": g.s.ok, "failed": g.s.failed,
            "timeouts": g.s.timeouts, "skipped": g.s.skipped, "lost": g.s.lost,
            "challenged": g.s.challenged, "codes": codes, "setup_us": g.times.json_us(),
            "gen_cpu_user_ns": cu - u0, "gen_cpu_sys_ns": cs - s0,
        })
    );
}
