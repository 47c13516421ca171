//! The web phone in headless Chromium, used as a person uses it: by mouse and
//! keys through the DevTools protocol, with a tone for a microphone.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::browser::{FLAGS, PACKAGES, PROGRAM, trust};
use super::process::Process;
use super::server::User;
use super::{eventually, tone};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the microphone's file has is played round and round. A whole number of
/// periods of every tone fits.
const MICROPHONE: tone::Wav = tone::Wav { rate: 48_000, channels: 1, seconds: 10, peak: 9000.0 };

/// Sizes of what people look at.
const PHONE: (u32, u32) = (360, 740);
const DESKTOP: (u32, u32) = (1280, 800);

/// A browser with the page open.
pub struct WebPhone {
    process: RefCell<Process>,
    socket: RefCell<WebSocket<TcpStream>>,
    calls: Cell<u64>,
    name: String,
    shots: PathBuf,
}

impl WebPhone {
    /// Opens the page at `url`; the microphone hears `tone`.
    #[track_caller]
    pub fn open(parent: &Path, name: &str, url: &str, ca: &Path, tone: u32) -> Self {
        let home = parent.join(format!("webphone-{name}"));
        trust(&home, ca);
        std::fs::create_dir(home.join("tmp")).unwrap();
        let microphone = home.join("microphone.wav");
        MICROPHONE.write(&microphone, tone);
        let profile = home.join("profile");
        let process = Process::start(
            Command::new(PROGRAM)
                .env("HOME", &home)
                .env("TMPDIR", home.join("tmp"))
                .env("XDG_CONFIG_HOME", home.join("config"))
                .env("XDG_CACHE_HOME", home.join("cache"))
                .arg(format!("--user-data-dir={}", profile.display()))
                .args(FLAGS)
                .arg("--use-fake-device-for-media-stream")
                .arg(format!("--use-file-for-fake-audio-capture={}", microphone.display()))
                .args(["--remote-debugging-port=0", "about:blank"]),
            &parent.join(format!("webphone-{name}.log")),
        );
        let port = eventually("the browser's DevTools port", PATIENCE, || {
            let file = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            file.lines().next()?.parse().ok()
        });
        let shots = parent.to_owned();
        let (process, socket) = (RefCell::new(process), RefCell::new(attach(port)));
        let phone = Self { process, socket, calls: Cell::new(0), name: name.to_owned(), shots };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            phone.send(domain, json!({}));
        }
        phone.allow_microphone(url, true);
        phone.send("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WITNESS }));
        phone.send("Page.navigate", json!({ "url": url }));
        phone.until("the page", "document.querySelector('#keys .key') !== null");
        phone
    }

    #[track_caller]
    pub fn signed_in(parent: &Path, url: &str, ca: &Path, user: &User, tone: u32) -> Self {
        let phone = Self::open(parent, &user.name, url, ca, tone);
        phone.sign_in(user, &user.password);
        phone.until("being signed in", "!document.getElementById('phone').hidden");
        phone
    }

    /// What the person says when the browser asks.
    pub fn allow_microphone(&self, url: &str, allowed: bool) {
        self.allow("microphone", url, allowed);
    }

    pub fn allow(&self, what: &str, url: &str, allowed: bool) {
        let setting = if allowed { "granted" } else { "denied" };
        let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let permission =
            json!({ "permission": { "name": what }, "setting": setting, "origin": origin });
        self.send("Browser.setPermission", permission);
    }

    /// The person looks at another tab.
    pub fn look_away(&self) {
        self.send("Target.createTarget", json!({ "url": "about:blank" }));
        self.until("being looked away from", "document.hidden");
    }

    #[track_caller]
    pub fn sign_in(&self, user: &User, password: &str) {
        self.fill("#address", &format!("{}@{}", user.name, user.domain));
        self.fill("#password", password);
        self.click("#sign-in-button");
    }

    /// Puts text into a field in place of what is there.
    #[track_caller]
    pub fn fill(&self, field: &str, text: &str) {
        self.click(field);
        self.js(&format!("document.querySelector({field:?}).select()"));
        self.send("Input.insertText", json!({ "text": text }));
    }

    /// A mouse click at the middle of an element, which must be what is there.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.press_mouse(selector, Duration::ZERO);
    }

    #[track_caller]
    pub fn press_mouse(&self, selector: &str, long: Duration) {
        let place = self.until(
            &format!("{selector} to be clicked"),
            &format!(
                "(() => {{ const it = document.querySelector({selector:?}); if (!it) return null;
                it.scrollIntoView({{ block: 'center' }});
                const box = it.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const top = document.elementFromPoint(x, y);
                return it.contains(top) && !it.disabled ? {{ x, y }} : null; }})()"
            ),
        );
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1,
            });
            self.send("Input.dispatchMouseEvent", event);
            if kind == "mousePressed" {
                std::thread::sleep(long);
            }
        }
    }

    /// A key of the keyboard, by its name or its letter.
    pub fn key(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            " " => (32, " "),
            // Of signs, the letter's code is another key's, as the full stop's is Delete.
            sign if !sign.as_bytes()[0].is_ascii_alphanumeric() => (0, sign),
            letter => (u32::from(letter.as_bytes()[0].to_ascii_uppercase()), letter),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({
                "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text,
                "code": if key.len() > 1 { key } else { "" },
            });
            self.send("Input.dispatchKeyEvent", event);
        }
    }

    pub fn keys(&self, text: &str) {
        for letter in text.chars() {
            self.key(&letter.to_string());
        }
    }

    /// Waits until a call is in this state, and says so.
    #[track_caller]
    pub fn expect_call(&self, state: &str) {
        self.until(
            &format!("a call that is {state}"),
            &format!("document.querySelector('.call[data-state={state}]') !== null"),
        );
    }

    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.js(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn expect_text(&self, selector: &str, wanted: &str) {
        self.until(
            &format!("{wanted:?} in {selector}, not {:?}", self.text(selector)),
            &format!("document.querySelector({selector:?})?.innerText.includes({wanted:?})"),
        );
    }

    /// The strongest frequency of what the page plays of its call, in Hz;
    /// `None` in silence.
    pub fn heard(&self) -> Option<f64> {
        let heard = self.js(EAR);
        (heard["decibels"].as_f64()? > -60.0).then(|| heard["hz"].as_f64())?
    }

    #[track_caller]
    pub fn hears(&self, sent: u32) {
        if let Err(problem) = self.listen(sent) {
            panic!("{problem}");
        }
    }

    /// Whoever is silent says how it stands there.
    #[track_caller]
    pub fn hears_from(&self, other: &Self, sent: u32) {
        if let Err(problem) = self.listen(sent) {
            panic!("{problem}\n{}: {:#}", other.name, other.js(MEDIA));
        }
    }

    fn listen(&self, sent: u32) -> Result<(), String> {
        self.listen_for(&format!("{sent} Hz"), |heard| tone::same(heard, sent))
    }

    /// Something, for a while, that is no phone's tone.
    #[track_caller]
    pub fn hears_music(&self, other: &Self) {
        let mut heard = 0;
        let is_music = |now: Option<f64>| {
            let is_tone = [500, 900].into_iter().any(|tone| tone::same(now, tone));
            heard += usize::from(now.is_some() && !is_tone);
            heard >= 10
        };
        if let Err(problem) = self.listen_for("music", is_music) {
            panic!("{problem}\n{}: {:#}", other.name, other.js(MEDIA));
        }
    }

    fn listen_for(
        &self,
        what: &str,
        mut is_it: impl FnMut(Option<f64>) -> bool,
    ) -> Result<(), String> {
        // A busy browser's analyser may stop while its speaker goes on: a new one
        // tells whether there is nothing to hear.
        for ear in 0..4 {
            let deadline = Instant::now() + Duration::from_secs(6);
            while Instant::now() < deadline {
                if is_it(self.heard()) {
                    if ear > 0 {
                        eprintln!("{}: heard by another ear only, the {ear}.", self.name);
                    }
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            self.js("window.ear = undefined");
        }
        let (name, heard, media) = (&self.name, self.heard(), self.js(MEDIA));
        Err(format!("{name} hears {what}, not {heard:?}; {media:#}"))
    }

    /// Waits until an expression is true of the page; its value.
    #[track_caller]
    pub fn until(&self, what: &str, expression: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.js(expression);
            if !value.is_null() && value != false {
                return value;
            }
            let page = self.js("document.body?.innerText ?? ''");
            let alive = self.process.borrow_mut().exit_code();
            assert_eq!(alive, None, "Chromium ended: {}", self.process.borrow().log());
            assert!(
                Instant::now() < deadline,
                "{}: not within {PATIENCE:?}: {what}; the page shows:\n{}",
                self.name,
                page.as_str().unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Evaluates an expression in the page, as after a person's click.
    #[track_caller]
    pub fn js(&self, expression: &str) -> Value {
        let answer = self.send(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true }),
        );
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The file that the page played last.
    #[track_caller]
    pub fn played(&self) -> Vec<u8> {
        let encoded = self.js("new Promise((done) => { const reader = new FileReader();
            reader.onload = () => done(reader.result.split(',')[1]);
            reader.readAsDataURL(window.witnessed.sounds.at(-1)); })");
        BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap()
    }

    /// Shows the page in another size and in light or dark colours.
    pub fn look(&self, (width, height): (u32, u32), dark: bool) {
        let mobile = width < 600;
        self.send(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile }),
        );
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.send("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Takes pictures of what is shown, and has nothing overflow and no rule of
    /// accessibility broken, in both sizes and both schemes.
    #[track_caller]
    pub fn inspect(&self, view: &str) {
        for (size, name) in [(PHONE, "phone"), (DESKTOP, "desktop")] {
            for (dark, scheme) in [(false, "light"), (true, "dark")] {
                self.look(size, dark);
                let overflow = self.js("document.documentElement.scrollWidth - innerWidth");
                assert!(overflow.as_i64() <= Some(0), "{view}: {overflow} px too wide on a {name}");
                self.screenshot(&format!("{view}-{name}-{scheme}"));
                let faults = self.faults();
                assert!(faults.is_empty(), "{view}, {name}, {scheme}: {faults:#?}");
            }
        }
    }

    /// Writes what is seen now into a file beside the test's others.
    #[track_caller]
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let shot = self.send("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        let directory =
            std::env::var_os("LANDLINE_SCREENSHOTS").map_or(self.shots.clone(), PathBuf::from);
        let file = directory.join(format!("{name}.png"));
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// What axe-core finds wrong with what is shown now, by rule and element.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        let axe = Path::new(PACKAGES).join("axe-core/axe.min.js");
        let source = std::fs::read_to_string(&axe).unwrap();
        self.send("Runtime.evaluate", json!({ "expression": source }));
        let found =
            self.js("axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
            violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
            `${id}: ${target}: ${failureSummary}`)))");
        let found = found.as_array().cloned().unwrap_or_default();
        found.iter().map(|fault| fault.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// One command of the DevTools protocol; its result.
    #[track_caller]
    pub fn send(&self, method: &str, parameters: Value) -> Value {
        let id = self.calls.get() + 1;
        self.calls.set(id);
        let command = json!({ "id": id, "method": method, "params": parameters });
        let mut socket = self.socket.borrow_mut();
        socket.send(Message::text(command.to_string())).unwrap();
        loop {
            // Events between are of no interest.
            let Message::Text(text) = socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }
}

/// Keeps what the page makes and does not show in its document.
const WITNESS: &str = "
  window.witnessed = { connections: [], notifications: [], sounds: [] };
  const kept = URL.createObjectURL;
  URL.createObjectURL = (it) => { window.witnessed.sounds.push(it); return kept.call(URL, it); };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      this.told = [];
      window.witnessed.connections.push(this);
      this.addEventListener('track', ({ track }) => {
        this.note('track');
        track.onmute = () => this.note('muted');
        track.onunmute = () => this.note('heard');
      });
    }
    note(what) { this.told.push(`${Math.round(performance.now())} ${what}`); }
    shown(of, it) { return `${of} ${it?.type} ${/a=(send|recv|inactive)\\w*/.exec(it?.sdp)?.[0] ?? ''}`; }
    async setLocalDescription(it) {
      this.note(this.shown('local', it));
      await super.setLocalDescription(it).catch((error) => { this.note(`${error}`); throw error; });
    }
    async setRemoteDescription(it) {
      this.note(this.shown('remote', it));
      await super.setRemoteDescription(it).catch((error) => { this.note(`${error}`); throw error; });
    }
  };
  window.Notification = class extends Notification {
    constructor(title, options) { super(title, options); window.witnessed.notifications.push(options.body); }
  };
";

/// An ear at the page's player, kept from one look to the next.
const EAR: &str = "(() => {
  const player = [...document.querySelectorAll('.call audio')].find((it) => it.srcObject?.getAudioTracks().length);
  if (!player || player.paused) return {};
  const track = player.srcObject.getAudioTracks()[0];
  if (window.ear?.track !== track) {
    const context = new AudioContext({ sampleRate: 48000 });
    const analyser = new AnalyserNode(context, { fftSize: 16384, smoothingTimeConstant: 0 });
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    window.ear = { track, analyser, levels: new Float32Array(analyser.frequencyBinCount) };
  }
  const { analyser, levels } = window.ear;
  analyser.getFloatFrequencyData(levels);
  const strongest = levels.indexOf(Math.max(...levels));
  return { hz: strongest * 48000 / 16384, decibels: Math.max(levels[strongest], -200) };
})()";

/// What the browser knows of the page's voice connections.
const MEDIA: &str = "Promise.all(window.witnessed.connections.map(async (it) => ({
  told: it.told,
  state: `${it.signalingState}, ${it.iceConnectionState}, ${it.connectionState}`,
  lines: it.getTransceivers().map(({ mid, direction, currentDirection, sender, receiver }) =>
    `${mid}: ${direction}, agreed ${currentDirection}; sends ${sender.track?.enabled} ` +
    `${sender.track?.readyState}; gets ${receiver.track.readyState}, muted ${receiver.track.muted}`),
  streams: [...(await it.getStats()).values()].filter(({ type }) => /^(in|out)bound-rtp$/.test(type))
    .map(({ type, packetsSent, packetsReceived, packetsDiscarded, ssrc, totalAudioEnergy, concealedSamples }) =>
    ({ type, ssrc, packetsSent, packetsReceived, packetsDiscarded, totalAudioEnergy, concealedSamples })),
}))).then((connections) => ({ connections, page: document.body.innerText,
  player: [...document.querySelectorAll('.call audio')].map((it) =>
    `paused ${it.paused}, ended ${it.ended}, tracks ${it.srcObject?.getTracks().map((track) => track.readyState)}`) }))";

/// The DevTools connection of the browser's one page.
#[track_caller]
fn attach(port: u16) -> WebSocket<TcpStream> {
    let url = eventually("the browser's page", PATIENCE, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        // The connection stays open after the answer.
        let pages = loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
            answer.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&answer);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
            if let Some(pages) = body.and_then(|body| serde_json::from_str::<Value>(body).ok()) {
                break pages;
            }
        };
        let page = pages.as_array()?.iter().find(|it| it["type"] == "page")?.clone();
        page["webSocketDebuggerUrl"].as_str().map(str::to_owned)
    });
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let config = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    tungstenite::client::client_with_config(url, stream, Some(config)).unwrap().0
}
