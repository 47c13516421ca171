//! baresip as a child process, driven over its `ctrl_tcp` module.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Process;
use super::server::{Demo, User};
use super::{eventually, free_ports, tone};

pub const PROGRAM: &str = "/usr/bin/baresip";

/// One softphone's account and habits.
pub struct Options<'a> {
    pub user: &'a str,
    pub domain: &'a str,
    pub password: &'a str,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'a str,
    /// The proxy, as `ip:port`.
    pub proxy: &'a str,
    /// `None`, `srtp`, `srtp-mand` or `dtls_srtp`.
    pub encryption: Option<&'a str>,
    /// The tone it sends, in Hz.
    pub tone: u32,
    pub codec: &'a str,
    pub ca: &'a Path,
    /// Answers by itself.
    pub answers: bool,
    /// Keeps a flow to `proxy` and another there, over UDP (RFC 5626).
    pub second: Option<&'a str>,
    /// Where it is, and has ICE: it makes no candidate of a loopback address.
    pub ice: Option<&'a str>,
    /// Whom it knows, one a line; with anybody it has the modules for messages,
    /// presence and waiting messages.
    pub contacts: &'a str,
}

impl<'a> Options<'a> {
    /// A user of the demo's at one of its regions, without encryption.
    pub fn of(demo: &'a Demo, region: &str, transport: &'a str, user: &'a User) -> Self {
        Self {
            user: &user.name,
            domain: &user.domain,
            password: &user.password,
            transport,
            proxy: demo.sip(region, transport),
            encryption: None,
            tone: 440,
            codec: "pcmu",
            ca: demo.ca(),
            answers: true,
            second: None,
            ice: None,
            contacts: "",
        }
    }
}

pub struct Baresip {
    process: Process,
    control: TcpStream,
    pending: Vec<u8>,
    events: Vec<Value>,
    /// Commands it has answered.
    answered: usize,
    /// What it shows its user, where it knows anybody; and what it showed so far.
    console: Option<TcpStream>,
    shown: String,
    directory: PathBuf,
}

impl Baresip {
    #[track_caller]
    pub fn start(parent: &Path, options: &Options) -> Self {
        let directory = parent.join(format!("baresip-{}-{}", options.user, options.tone));
        fs::create_dir_all(&directory).unwrap();
        // SIP, SIP over TLS on the next port, then the control port.
        let port = free_ports(4);
        fs::write(directory.join("config"), configuration(&directory, options, port)).unwrap();
        fs::write(directory.join("accounts"), account(options)).unwrap();
        fs::write(directory.join("contacts"), options.contacts).unwrap();
        let process =
            Process::start(Command::new(PROGRAM).arg("-f").arg(&directory), &directory.join("log"));
        let control = eventually("baresip's control port", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port + 2)).ok()
        });
        control.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let console = (!options.contacts.is_empty()).then(|| {
            let console = TcpStream::connect(("127.0.0.1", port + 3)).unwrap();
            console.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            console
        });
        let (pending, events, shown) = (Vec::new(), Vec::new(), String::new());
        Self { process, control, pending, events, answered: 0, console, shown, directory }
    }

    /// Starts and waits until the registrar said 200.
    #[track_caller]
    pub fn registered(parent: &Path, options: &Options) -> Self {
        let phone = Self::start(parent, options);
        // It registers before anybody can listen to its events.
        eventually("baresip's registration", Duration::from_secs(10), || {
            phone.log().contains("200 OK").then_some(())
        });
        phone
    }

    /// What it has shown its user: messages, for one, and answers to commands.
    pub fn shown(&mut self) -> &str {
        self.read_events();
        let mut buffer = [0; 4096];
        if let Some(Ok(count)) = self.console.as_mut().map(|it| it.read(&mut buffer)) {
            self.shown += &String::from_utf8_lossy(&buffer[..count]);
        }
        &self.shown
    }

    pub fn dial(&mut self, target: &str) {
        self.command("dial", target);
    }

    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Has it do something and waits for its word on that: it reads a command by
    /// what one segment brings, and drops a part of one, or two at once.
    #[track_caller]
    pub fn command(&mut self, command: &str, parameters: &str) {
        let text = json!({ "command": command, "params": parameters }).to_string();
        let answered = self.answered;
        self.control.write_all(format!("{}:{text},", text.len()).as_bytes()).unwrap();
        eventually(&format!("baresip's answer to {command}"), Duration::from_secs(10), || {
            self.read_events();
            (self.answered > answered).then_some(())
        });
    }

    /// Waits for an event that was not waited for before.
    #[track_caller]
    pub fn expect(&mut self, kind: &str, limit: Duration) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["type"] == kind) {
                return self.events.remove(at);
            }
            assert!(
                Instant::now() < deadline,
                "no {kind} within {limit:?}; events: {:?}",
                self.events.iter().map(|event| event["type"].to_string()).collect::<Vec<_>>()
            );
            self.read_events();
        }
    }

    /// Forgets the events so far: the next call is waited for by its own.
    pub fn forget(&mut self) {
        self.read_events();
        self.events.clear();
    }

    fn read_events(&mut self) {
        let mut buffer = [0; 4096];
        if let Ok(count) = self.control.read(&mut buffer) {
            self.pending.extend_from_slice(&buffer[..count]);
        }
        // Netstrings: LENGTH:TEXT,
        while let Some(colon) = self.pending.iter().position(|&byte| byte == b':') {
            let length: usize =
                std::str::from_utf8(&self.pending[..colon]).unwrap().parse().unwrap();
            // With the comma.
            let Some(text) = self.pending.get(colon + 1..colon + length + 2) else { return };
            match serde_json::from_slice::<Value>(&text[..length]) {
                Ok(event) if event["event"] == true => self.events.push(event),
                Ok(answer) => {
                    self.answered += 1;
                    self.shown += answer["data"].as_str().unwrap_or_default();
                }
                Err(_) => {}
            }
            self.pending.drain(..colon + length + 2);
        }
    }

    /// The dominant tone of what it heard in its latest call, in Hz.
    pub fn heard(&self) -> Option<f64> {
        tone::of_wav(self.recordings().last()?)
    }

    /// Samples that it has heard so far. What does not authenticate is not decoded
    /// and adds none.
    pub fn samples(&self) -> usize {
        self.recordings().iter().map(|file| tone::samples(file).len()).sum()
    }

    /// The dominant tone of what it has heard since it had so many samples, once
    /// that is two seconds of 8 kHz.
    pub fn heard_after(&self, samples: usize) -> Option<f64> {
        let all: Vec<i16> = self.recordings().iter().flat_map(|it| tone::samples(it)).collect();
        let later = all.get(samples..).filter(|later| later.len() >= 2 * 8000)?;
        tone::dominant(later, 8000)
    }

    fn recordings(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.directory)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        files.sort();
        files
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn configuration(directory: &Path, options: &Options, port: u16) -> String {
    let modules: String = [
        "g711",
        "g722",
        "opus",
        "ausine",
        "aubridge",
        "sndfile",
        "srtp",
        "dtls_srtp",
        "stun",
        "ice",
    ]
    .map(|name| format!("module {name}.so\n"))
    .concat();
    let social = match options.contacts.is_empty() {
        true => String::new(),
        false => format!(
            "module_app contact.so\nmodule_app presence.so\nmodule_app mwi.so\n\
             module cons.so\ncons_listen 127.0.0.1:{}\n",
            port + 3
        ),
    };
    let host = options.ice.unwrap_or("127.0.0.1");
    format!(
        "poll_method epoll\n\
         sip_listen {host}:{port}\n\
         sip_cafile {ca}\n\
         net_interface {host}\n\
         audio_player aubridge,nil\n\
         audio_source ausine,{tone}\n\
         audio_alert aubridge,nil\n\
         ausrc_srate 48000\n\
         auplay_srate 48000\n\
         ausrc_channels 2\n\
         auplay_channels 1\n\
         module_path /usr/lib/baresip/modules\n\
         {modules}\
         module_tmp uuid.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         {social}\
         ctrl_tcp_listen 127.0.0.1:{control}\n\
         snd_path {directory}\n",
        ca = options.ca.display(),
        tone = options.tone,
        control = port + 2,
        directory = directory.display(),
    )
}

fn account(options: &Options) -> String {
    let Options { user, domain, password, transport, proxy, codec, .. } = options;
    let encryption = options.encryption.map(|name| format!(";mediaenc={name}")).unwrap_or_default();
    let flows = options
        .second
        .map(|second| format!(";sipnat=outbound;outbound2=\"sip:{second};transport=udp\""));
    let flows = flows.unwrap_or_default();
    let ice = if options.ice.is_some() { ";medianat=ice" } else { "" };
    let answer = if options.answers { "auto" } else { "manual" };
    format!(
        "<sip:{user}@{domain};transport={transport}>;auth_user={user};auth_pass={password};\
         outbound=\"sip:{proxy};transport={transport}\";regint=120;answermode={answer};\
         audio_codecs={codec}{encryption}{flows}{ice}\n"
    )
}
