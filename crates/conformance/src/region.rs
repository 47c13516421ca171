//! One region: its configuration, its processes, its account.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use landline::config::{Draft, PortRange, RegionItem, Regions, Scope, Transport};
use serde_json::Value;

use crate::Arguments;
use crate::api::Key;
use crate::cast::{Cast, ONE_PROCESS, REFUSED};
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
pub const PROXY_PAGES: u16 = 9090;
pub const RELAY_PAGES: u16 = 9091;

const SOON: Duration = Duration::from_secs(20);

/// Where the certificate of customers' own servers lies, below that of no region.
pub const CUSTOMERS: &str = "cu1";

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
    pub shared: &'a Shared<'a>,
    config: PathBuf,
    /// As the configuration has it, and as a client beside it would.
    pub database: String,
    /// By role.
    pub processes: BTreeMap<&'static str, Process>,
    /// The account's sid, and keys of the API by role.
    pub account: String,
    pub keys: Vec<Key>,
    /// What admins, customers and monitors were told.
    pub listings: Vec<(String, Vec<u8>)>,
    pub pages: Vec<(String, Vec<u8>)>,
    /// What is made to be handed to others, who may be anywhere.
    pub handed_out: Vec<(String, Vec<u8>)>,
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
        let customers = (CUSTOMERS, crate::net::OUTSIDE);
        let sites = network.regions.iter().map(|site| (site.region, site.address));
        for (region, address) in sites.chain([customers]) {
            let address = address.to_string();
            let pki = ["pki", "init", "--region", region, "--name", &address];
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
        let mut region = Self {
            cast,
            directory,
            address,
            shared,
            config,
            database,
            processes: BTreeMap::new(),
            account: String::new(),
            keys: Vec::new(),
            listings: Vec::new(),
            pages: Vec::new(),
            handed_out: Vec::new(),
            cores: Vec::new(),
        };
        region.configure(Scope::Region)?;
        if postgres.is_some() {
            run(Command::new(&shared.arguments.landline)
                .args(["keys", "create", "--config"])
                .arg(&region.config))?;
        }
        region.start_all()?;
        region.open_account()?;
        Ok(region)
    }

    fn configure(&self, scope: Scope) -> Result<()> {
        Ok(fs::write(&self.config, configuration(self.cast, self.address, &self.database, scope)?)?)
    }

    pub fn code(&self) -> &'static str {
        self.cast.region
    }

    /// One region runs as a single process, the others as three.
    pub fn roles(&self) -> &'static [&'static str] {
        if self.code() == ONE_PROCESS { &["up"] } else { &["relay", "proxy", "console"] }
    }

    /// The role whose process carries signalling.
    pub fn signalling(&self) -> &'static str {
        if self.roles().contains(&"up") { "up" } else { "proxy" }
    }

    pub fn start_all(&mut self) -> Result<()> {
        self.roles().iter().try_for_each(|role| self.start_role(role))
    }

    fn start_role(&mut self, role: &'static str) -> Result<()> {
        let mut process = self.role(role)?;
        if role == self.signalling() {
            eventually(&format!("{}'s {role} answers", self.code()), SOON, || {
                (self.is_healthy() || !process.is_running()).then_some(())
            })?;
        }
        if !process.is_running() {
            let log = fs::read_to_string(self.directory.join(format!("{role}.log")))?;
            bail!("{}'s {role} has ended: {log}", self.code());
        }
        self.processes.insert(role, process);
        Ok(())
    }

    fn is_healthy(&self) -> bool {
        self.page(PROXY_PAGES, "health").is_some_and(|page| page.starts_with(b"HTTP/1.1 200"))
    }

    fn role(&self, role: &str) -> Result<Process> {
        let program = self.shared.arguments.landline.to_str().context("landline's path")?;
        let namespace = &self.shared.network.site(self.code())?.namespace;
        let mut command = namespace.command("prlimit");
        command.args(["--core=unlimited:unlimited", "--", program, role, "--config"]);
        command.arg(&self.config);
        // A customer's program reveals its own sessions with a console.
        if role == self.signalling() {
            command.arg("--reveal-tls-secrets").env("SSLKEYLOGFILE", &self.shared.keys);
        }
        // A crash dump lies where the process was.
        command.env("TMPDIR", self.directory.join("tmp")).current_dir(&self.directory);
        Process::start(&mut command, &self.directory.join(format!("{role}.log")))
    }

    fn open_account(&mut self) -> Result<()> {
        let Cast { region, account, domain, trunk, people, .. } = self.cast;
        let create = ["account", "create", account, "--domain", domain, "--region", region];
        let made = self.admin(&[&create[..], &["--recording", "all"]].concat())?;
        self.account = made["sid"].as_str().context("an account without a sid")?.to_owned();
        // Nobody of another account calls unless it says so.
        let from = if REFUSED.1 == region { "region" } else { "any" };
        self.admin(&["account", "set", domain, "--calls-from", from])?;
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
        self.keys = Key::ROLES
            .into_iter()
            .map(|role| {
                let name = format!("{role} of {account}");
                let made =
                    self.admin(&["key", "create", domain, "--role", role, "--name", &name])?;
                Key::of(role, &made)
            })
            .collect::<Result<_>>()?;
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

    pub fn page(&self, port: u16, path: &str) -> Option<Vec<u8>> {
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

    /// An orderly stop and a new start, now with metrics for readers outside
    /// the region.
    pub fn restart_for_readers_outside(&mut self) -> Result<()> {
        let role = self.signalling();
        self.end(role, "TERM")?;
        self.configure(Scope::Outside)?;
        self.start_role(role)
    }

    pub fn kill(&mut self, role: &'static str) -> Result<()> {
        self.end(role, "KILL")?;
        self.start_role(role)?;
        eventually(&format!("{}'s relay is linked", self.code()), SOON, || {
            self.is_healthy().then_some(())
        })
    }

    pub fn stop_all(&mut self) -> Result<()> {
        self.roles().iter().try_for_each(|role| self.end(role, "TERM"))
    }

    fn end(&mut self, role: &str, signal: &str) -> Result<()> {
        self.processes.remove(role).with_context(|| format!("no {role} runs"))?.end(signal)?;
        Ok(())
    }

    /// The database's URL for tools beside the region's processes.
    pub fn database_url(&self) -> String {
        match self.database.strip_prefix("sqlite:") {
            Some(name) => format!("sqlite:{}", self.directory.join(name).display()),
            None => self.database.clone(),
        }
    }

    /// Where a PostgreSQL cluster's own files are: beside its socket.
    pub fn cluster(&self) -> Option<PathBuf> {
        let (_, options) = self.database.split_once('?')?;
        options.split('&').find_map(|option| option.strip_prefix("host=")).map(PathBuf::from)
    }
}

fn configuration(cast: Cast, address: SocketAddr, database: &str, scope: Scope) -> Result<String> {
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
        origins: None,
        inter_region: at(INTER_REGION),
        control: local(CONTROL),
        media: address.ip(),
        ports: PortRange { first: *MEDIA.start(), last: *MEDIA.end() },
        media_tcp: None,
        shards: 1,
        telemetry: local(PROXY_PAGES),
        relay_telemetry: Some(local(RELAY_PAGES)),
        console: Some(at(CONSOLE)),
        // As talkative as an operator would ever make it.
        log_level: "debug".to_owned(),
    };
    let mut config = draft.config();
    config.telemetry.scope = scope;
    if let Some(console) = &mut config.console {
        console.webhooks.allow = vec![format!("{}/32", crate::net::OUTSIDE).parse()?];
        console.webhooks.ca = Some("../pki/ca.pem".into());
    }
    Ok(config.to_toml()?)
}
