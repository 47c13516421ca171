//! Headless Chromium as a softphone: a page with JsSIP, served by the test,
//! which tells the test what happens and does what the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Process;
use super::server::{Demo, User};
use super::{eventually, tone};

pub const PROGRAM: &str = "/usr/bin/chromium";
pub const CERTUTIL: &str = "/usr/bin/certutil";
/// Where `cargo xtask tools` puts the page's npm packages.
pub const PACKAGES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/browser/node_modules");

/// A page that registers one user over WSS, answers its calls, sends a tone.
pub struct Browser {
    process: Process,
    page: Arc<Page>,
    name: String,
}

/// What a browser does otherwise than most.
#[derive(Default)]
pub struct Manner<'a> {
    /// Of the page: `&name=value`, each.
    pub options: &'a str,
    /// Of the program.
    pub flags: &'a [&'a str],
}

/// What the browser fetches, and what passes between its page and the test.
#[derive(Default)]
struct Page {
    events: Mutex<Vec<Value>>,
    commands: Mutex<Option<TcpStream>>,
}

impl Browser {
    /// Starts one for `user` at a region of the demo, and waits until it is
    /// registered.
    #[track_caller]
    pub fn registered(parent: &Path, demo: &Demo, region: &str, user: &User, tone: u32) -> Self {
        Self::with(parent, demo, region, user, tone, &Manner::default())
    }

    #[track_caller]
    pub fn with(
        parent: &Path,
        demo: &Demo,
        region: &str,
        user: &User,
        tone: u32,
        manner: &Manner,
    ) -> Self {
        Self::start(parent, demo.ca(), demo.sip(region, "wss"), user, tone, manner)
    }

    /// At this server, whose authority is `ca`.
    #[track_caller]
    pub fn at(parent: &Path, ca: &Path, server: &str, user: &User, tone: u32) -> Self {
        Self::start(parent, ca, server, user, tone, &Manner::default())
    }

    #[track_caller]
    fn start(
        parent: &Path,
        ca: &Path,
        server: &str,
        user: &User,
        tone: u32,
        manner: &Manner,
    ) -> Self {
        let home = parent.join(format!("chromium-{}", user.name));
        trust(&home, ca);
        std::fs::create_dir(home.join("tmp")).unwrap();
        let page = Arc::new(Page::default());
        let port = page.clone().serve();
        let url = format!(
            "http://127.0.0.1:{port}/phone.html?server={}&user={}&domain={}&password={}&tone={tone}{}",
            server, user.name, user.domain, user.password, manner.options,
        );
        let process = Process::start(
            Command::new(PROGRAM)
                .env("HOME", &home)
                .env("TMPDIR", home.join("tmp"))
                .env("XDG_CONFIG_HOME", home.join("config"))
                .env("XDG_CACHE_HOME", home.join("cache"))
                .arg(format!("--user-data-dir={}", home.join("profile").display()))
                .args(FLAGS)
                .arg(UNASKED)
                .args(manner.flags)
                .arg(url),
            &parent.join(format!("chromium-{}.log", user.name)),
        );
        let mut browser = Self { process, page, name: user.name.clone() };
        browser.expect("registered", Duration::from_secs(30));
        browser
    }

    pub fn dial(&self, target: &str) {
        self.command(&json!({ "do": "dial", "target": target }));
    }

    pub fn hang_up(&self) {
        self.command(&json!({ "do": "hang up" }));
    }

    pub fn hold(&self) {
        self.command(&json!({ "do": "hold" }));
    }

    pub fn resume(&self) {
        self.command(&json!({ "do": "resume" }));
    }

    /// Offers anew by UPDATE (RFC 3311) in place of INVITE.
    pub fn update(&self) {
        self.command(&json!({ "do": "update" }));
    }

    /// Presses keys of the telephone (RFC 4733).
    pub fn keys(&self, keys: &str) {
        self.command(&json!({ "do": "keys", "keys": keys }));
    }

    /// Loads the page anew and waits until it is registered again. Its old
    /// connection is gone without a word; its old contact stands.
    #[track_caller]
    pub fn reload(&mut self) {
        self.forget();
        self.command(&json!({ "do": "reload" }));
        self.expect("registered", Duration::from_secs(10));
    }

    /// Waits for an event that was not waited for before.
    #[track_caller]
    pub fn expect(&mut self, kind: &str, limit: Duration) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.page.with_events(|events| {
                let at = events.iter().position(|event| event["event"] == kind)?;
                Some(events.remove(at))
            });
            if let Some(event) = found {
                return event;
            }
            let log = self.process.log();
            assert_eq!(self.process.exit_code(), None, "Chromium ended: {log}");
            let events = self.page.with_events(|events| events.clone());
            assert!(Instant::now() < deadline, "no {kind} within {limit:?}; events: {events:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The strongest frequency of what it hears now, in Hz; `None` in silence.
    pub fn heard(&self) -> Option<f64> {
        self.page.with_events(|events| {
            let latest = events.iter().rev().find(|event| event["event"] == "hears")?;
            (latest["decibels"].as_f64()? > -60.0).then(|| latest["hz"].as_f64())?
        })
    }

    /// What the page's connection says of itself now.
    #[track_caller]
    pub fn statistics(&mut self) -> Value {
        self.command(&json!({ "do": "statistics" }));
        self.expect("statistics", Duration::from_secs(10))
    }

    /// Begins ICE anew, as after a change of network.
    pub fn restart(&self) {
        self.command(&json!({ "do": "restart" }));
    }

    /// The colour of the picture that it sees last, as red, green and blue.
    pub fn seen(&self) -> Option<[u64; 3]> {
        self.page.with_events(|events| {
            let latest = events.iter().rev().find(|event| event["event"] == "sees")?;
            let of = |name: &str| latest[name].as_u64();
            Some([of("red")?, of("green")?, of("blue")?])
        })
    }

    /// Forgets the events so far: the next call is judged by its own.
    pub fn forget(&self) {
        self.page.with_events(Vec::clear);
    }

    #[track_caller]
    pub fn hears(&self, sent: u32) {
        eventually(
            &format!("{} hears {sent} Hz, not {:?}", self.name, self.heard()),
            Duration::from_secs(12),
            || tone::same(self.heard(), sent).then_some(()),
        );
    }

    #[track_caller]
    fn command(&self, command: &Value) {
        let mut stream = eventually("the page's ear for commands", Duration::from_secs(5), || {
            let commands = self.page.commands.lock().unwrap_or_else(PoisonError::into_inner);
            commands.as_ref()?.try_clone().ok()
        });
        write!(stream, "data: {command}\n\n").unwrap();
    }
}

/// As a person's browser is, apart from what a machine without screen, sound
/// and people needs.
pub(super) const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
];

/// The test's page makes sound without anybody having clicked.
const UNASKED: &str = "--autoplay-policy=no-user-gesture-required";

/// Puts the demo's authority where Chromium looks for a user's own: the NSS
/// database in the home directory, here a private one.
#[track_caller]
pub(super) fn trust(home: &Path, ca: &Path) {
    let directory = home.join(".pki/nssdb");
    std::fs::create_dir_all(&directory).unwrap();
    let database = format!("sql:{}", directory.display());
    let run = |arguments: &[&str]| {
        let output =
            Command::new(CERTUTIL).args(["-d", &database]).args(arguments).output().unwrap();
        assert!(output.status.success(), "certutil {arguments:?}: {output:?}");
    };
    run(&["-N", "--empty-password"]);
    run(&["-A", "-n", "landline", "-t", "C,,", "-i", ca.to_str().unwrap()]);
}

impl Page {
    /// Serves until the test ends; the port.
    fn serve(self: Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let page = self.clone();
                // A browser that goes away amid an answer is none of our business.
                std::thread::spawn(move || page.answer(stream).unwrap_or_default());
            }
        });
        port
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = content_length(&mut reader)?;
        let path = target.split('?').next().unwrap_or_default();
        match path {
            "/report" => {
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                let event = serde_json::from_slice(&body).unwrap_or_default();
                self.with_events(|events| events.push(event));
                respond(&mut stream, "200 OK", "text/plain", b"")
            }
            "/commands" => {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                )?;
                let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
                *commands = Some(stream);
                Ok(())
            }
            _ => match file(path).and_then(|file| std::fs::read(file).ok()) {
                Some(bytes) => respond(&mut stream, "200 OK", kind(path), &bytes),
                None => respond(&mut stream, "404 Not Found", "text/plain", b""),
            },
        }
    }

    fn with_events<T>(&self, work: impl FnOnce(&mut Vec<Value>) -> T) -> T {
        work(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn content_length(reader: &mut impl BufRead) -> std::io::Result<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(length);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or_default();
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

fn file(path: &str) -> Option<PathBuf> {
    if path.contains("..") {
        return None;
    }
    Some(match path.strip_prefix("/node_modules/") {
        Some(package) => Path::new(PACKAGES).join(package),
        None => Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/browser"))
            .join(path.trim_start_matches('/')),
    })
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html",
        Some("json") => "application/json",
        _ => "text/javascript",
    }
}
