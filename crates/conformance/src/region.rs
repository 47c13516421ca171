//! One region: its configuration, its processes, and what an admin asks it.

use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use landline::config::{Draft, PortRange, RegionItem, Regions, Transport};
use serde_json::Value;

use crate::Arguments;
use crate::cast::Cast;
use crate::net::{Network, run};
use crate::process::{Process, eventually};
use crate::script::CARRIER;

pub const SIP: u16 = 5060;
pub const SIPS: u16 = 5061;
/// Where proxies of other regions connect: the one port between regions.
pub const INTER_REGION: u16 = 5070;
/// Relays' ports, and so those of calls across regions.
pub const MEDIA: RangeInclusive<u16> = 30_000..=30_999;
/// Each region's HTTPS API.
pub const CONSOLE: u16 = 8443;
const CONTROL: u16 = 5071;
const PROXY_PAGES: u16 = 9090;
const RELAY_PAGES: u16 = 9091;

const SOON: Duration = Duration::from_secs(20);

/// What the regions have in common.
pub struct Shared<'a> {
    pub arguments: &'a Arguments,
    pub directory: PathBuf,
    pub network: &'a Network,
    /// TLS session secrets of every proxy.
    pub keys: PathBuf,
}

pub struct Region<'a> {
    pub cast: Cast,
    pub directory: PathBuf,
    pub address: SocketAddr,
    shared: &'a Shared<'a>,
    config: PathBuf,
    /// As the configuration has it, and as a client beside it would.
    pub database: String,
    proxy: Option<Process>,
    relay: Option<Process>,
    /// What admin commands and pages said.
    pub listings: Vec<(String, Vec<u8>)>,
    pub pages: Vec<(String, Vec<u8>)>,
    /// By role.
    pub cores: Vec<(&'static str, PathBuf)>,
}

impl<'a> Shared<'a> {
    pub fn create(
        arguments: &'a Arguments,
        directory: &Path,
        network: &'a Network,
    ) -> Result<Self> {
        fs::create_dir_all(directory.join("shared"))?;
        let item = |cast: Cast| -> Result<RegionItem> {
            let address = SocketAddr::new(network.site(cast.region)?.address, INTER_REGION);
            Ok(RegionItem {
                code: cast.region.parse()?,
                jurisdiction: cast.jurisdiction.parse().map_err(text_error)?,
                proxies: vec![address.into()],
                public_uri: None,
                console: Some(format!("https://{}", SocketAddr::new(address.ip(), CONSOLE))),
            })
        };
        let regions = Cast::ALL.into_iter().map(item).collect::<Result<_>>()?;
        let regions = Regions { regions }.to_toml()?;
        fs::write(directory.join("shared/regions.toml"), regions)?;
        for site in &network.regions {
            let address = site.address.to_string();
            let pki = ["pki", "init", "--region", site.region, "--name", &address];
            run(Command::new(&arguments.landline).args(pki).arg(directory.join("pki")))?;
        }
        let keys = directory.join("tls-secrets");
        fs::write(&keys, "")?;
        Ok(Self { arguments, directory: directory.to_owned(), network, keys })
    }
}

fn text_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

impl<'a> Region<'a> {
    pub fn start(shared: &'a Shared<'a>, cast: Cast) -> Result<Self> {
        let site = shared.network.site(cast.region)?;
        let directory = shared.directory.join(cast.region);
        fs::create_dir_all(directory.join("tmp"))?;
        let prefix = format!("{}=", cast.region);
        let postgres =
            shared.arguments.postgres.iter().find_map(|given| given.strip_prefix(&prefix));
        let database = postgres.map_or_else(|| "sqlite:database.sqlite".to_owned(), str::to_owned);
        let address = SocketAddr::new(site.address, SIP);
        let config = directory.join("config.toml");
        fs::write(&config, configuration(cast, address, &database)?)?;
        if postgres.is_some() {
            run(Command::new(&shared.arguments.landline)
                .args(["keys", "create", "--config"])
                .arg(&config))?;
        }
        let (listings, pages, cores) = Default::default();
        let (proxy, relay) = (None, None);
        let mut region = Self {
            cast,
            directory,
            address,
            shared,
            config,
            database,
            proxy,
            relay,
            listings,
            pages,
            cores,
        };
        region.start_relay()?;
        region.start_proxy()?;
        region.open_account()?;
        Ok(region)
    }

    pub fn code(&self) -> &'static str {
        self.cast.region
    }

    pub fn start_proxy(&mut self) -> Result<()> {
        let mut proxy = self.role("proxy")?;
        eventually(&format!("{}'s proxy answers", self.code()), SOON, || {
            (self.page(PROXY_PAGES, "health")?.starts_with(b"HTTP/1.1 200") || !proxy.is_running())
                .then_some(())
        })?;
        if !proxy.is_running() {
            let log = fs::read_to_string(self.directory.join("proxy.log"))?;
            bail!("{}'s proxy has ended: {log}", self.code());
        }
        self.proxy = Some(proxy);
        Ok(())
    }

    pub fn start_relay(&mut self) -> Result<()> {
        let relay = self.role("relay")?;
        self.relay = Some(relay);
        Ok(())
    }

    fn role(&self, role: &str) -> Result<Process> {
        let program = self.shared.arguments.landline.to_str().context("landline's path")?;
        let namespace = &self.shared.network.site(self.code())?.namespace;
        let mut command = namespace.command("prlimit");
        command
            .args(["--core=unlimited:unlimited", "--", program, role, "--reveal-tls-secrets"])
            .arg("--config")
            .arg(&self.config)
            .env("SSLKEYLOGFILE", &self.shared.keys)
            .env("TMPDIR", self.directory.join("tmp"))
            // A crash dump lies where the process was.
            .current_dir(&self.directory);
        Process::start(&mut command, &self.directory.join(format!("{role}.log")))
    }

    fn open_account(&self) -> Result<()> {
        let Cast { region, account, domain, trunk, people, .. } = self.cast;
        self.admin(&[
            "account",
            "create",
            account,
            "--domain",
            domain,
            "--region",
            region,
            "--recording",
            "all",
        ])?;
        // An account is called by nobody of another region unless it says so.
        // What comes of such a call is a line of the report, also where it is refused.
        if let Err(problem) = self.admin(&["account", "set", domain, "--calls-from", "any"]) {
            eprintln!("calls across regions: {problem:#}");
        }
        for (person, media) in people.iter().zip(["dtls", "sdes", "dtls"]) {
            let (user, number, password) = (person.user, person.number, person.password);
            self.admin(&[
                "user",
                "add",
                domain,
                user,
                "--number",
                number,
                "--password",
                password,
                "--media",
                media,
            ])?;
        }
        let [name, user, password] = trunk;
        let carrier = format!("udp:{}:{CARRIER}", crate::net::OUTSIDE);
        self.admin(&[
            "trunk",
            "add",
            domain,
            name,
            "--send-to",
            &carrier,
            "--username",
            user,
            "--password",
            password,
        ])?;
        Ok(())
    }

    pub fn admin(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.shared.arguments.landline)
            .args(arguments)
            .args(["--json", "--config"])
            .arg(&self.config)
            .env("TMPDIR", self.directory.join("tmp"))
            .output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("{}: landline {}: {words}", self.code(), arguments.join(" "));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn page(&self, port: u16, path: &str) -> Option<Vec<u8>> {
        let program = std::env::current_exe().ok()?;
        let namespace = &self.shared.network.site(self.code()).ok()?.namespace;
        let mut command = namespace.command(program.to_str()?);
        let output = command
            .args(["--landline", "x", "--report", "x", "--fetch"])
            .arg(format!("127.0.0.1:{port}/{path}"))
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout)
    }

    /// An orderly stop and a new start.
    pub fn restart_proxy(&mut self) -> Result<()> {
        self.proxy.take().context("no proxy runs")?.end("TERM")?;
        self.start_proxy()
    }

    pub fn kill_proxy(&mut self) -> Result<()> {
        self.proxy.take().context("no proxy runs")?.end("KILL")?;
        self.start_proxy()
    }

    pub fn kill_relay(&mut self) -> Result<()> {
        self.relay.take().context("no relay runs")?.end("KILL")?;
        self.start_relay()?;
        eventually(&format!("{}'s relay is linked", self.code()), SOON, || {
            self.page(PROXY_PAGES, "health")?.starts_with(b"HTTP/1.1 200").then_some(())
        })
    }

    /// How many calls are closed, and how many recordings there are.
    pub fn counts(&self) -> Result<(usize, usize)> {
        let calls = self.admin(&["calls", "list", "--limit", "1000"])?;
        let closed = calls
            .as_array()
            .map_or(0, |calls| calls.iter().filter(|call| !call["closed_at"].is_null()).count());
        let recordings = self.admin(&["recording", "list", "--limit", "1000"])?;
        Ok((closed, recordings.as_array().map_or(0, Vec::len)))
    }

    /// Takes what an admin and a monitor see, then ends the processes: some
    /// by a signal that leaves a crash dump.
    pub fn close(&mut self, reduced: bool) -> Result<()> {
        for arguments in [
            &["account", "list"][..],
            &["region", "list"],
            &["user", "list", self.cast.domain],
            &["number", "list", self.cast.domain],
            &["trunk", "list", self.cast.domain],
            &["calls", "list", "--limit", "1000"],
            &["recording", "list", "--limit", "1000"],
        ] {
            let listed = self.admin(arguments)?.to_string();
            self.listings.push((format!("landline {}", arguments.join(" ")), listed.into()));
        }
        for (role, port) in [("proxy", PROXY_PAGES), ("relay", RELAY_PAGES)] {
            for path in ["metrics", "health"] {
                let page = self.page(port, path).with_context(|| format!("{role} /{path}"))?;
                self.pages.push((format!("{role} /{path}"), page));
            }
        }
        let dumped = !reduced || self.code() == "us1";
        for (role, process) in [("proxy", self.proxy.take()), ("relay", self.relay.take())] {
            let mut process = process.with_context(|| format!("no {role} runs"))?;
            if !dumped {
                process.end("TERM")?;
                continue;
            }
            let id = process.id();
            process.end("ABRT")?;
            for name in ["core".to_owned(), format!("core.{id}")] {
                let core = self.directory.join(name);
                if core.exists() {
                    let kept = self.directory.join(format!("core.{role}"));
                    fs::rename(core, &kept)?;
                    self.cores.push((role, kept));
                }
            }
        }
        Ok(())
    }

    /// The database's URL for tools beside the region's processes.
    pub fn database_url(&self) -> String {
        match self.database.strip_prefix("sqlite:") {
            Some(name) => format!("sqlite:{}", self.directory.join(name).display()),
            None => self.database.clone(),
        }
    }
}

fn configuration(cast: Cast, address: SocketAddr, database: &str) -> Result<String> {
    let at = |port| SocketAddr::new(address.ip(), port);
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let draft = Draft {
        code: cast.region.parse()?,
        jurisdiction: cast.jurisdiction.parse().map_err(text_error)?,
        contracting_entity: format!("Landline {}", cast.jurisdiction),
        database: database.parse().map_err(text_error)?,
        shared: "../shared".into(),
        ca: "../pki/ca.pem".into(),
        certificates: format!("../pki/{}", cast.region).into(),
        listen: vec![
            (Transport::Udp, at(SIP)),
            (Transport::Tcp, at(SIP)),
            (Transport::Tls, at(SIPS)),
        ],
        inter_region: at(INTER_REGION),
        control: local(CONTROL),
        media: address.ip(),
        ports: PortRange { first: *MEDIA.start(), last: *MEDIA.end() },
        shards: 1,
        telemetry: local(PROXY_PAGES),
        relay_telemetry: Some(local(RELAY_PAGES)),
        console: Some(at(CONSOLE)),
        // As talkative as an operator would ever make it.
        log_level: "debug".to_owned(),
    };
    Ok(draft.config().to_toml()?)
}
