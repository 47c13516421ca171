//! One region: a proxy process, a relay process, a database.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use landline::config::{Config, Draft, PortRange, RegionItem, Regions, Transport};

use super::eventually;
use super::process::Process;
use super::server::{self, PROGRAM, array, text};

const SOON: Duration = Duration::from_secs(15);

/// One region: a proxy process, a relay process, a database.
pub struct Region {
    pub code: &'static str,
    pub directory: PathBuf,
    pub config: PathBuf,
    pub database: Database,
    pub base: u16,
    /// Of proxy and relay, where one process is both.
    pub proxy: Process,
    pub relay: Option<Process>,
}

pub enum Database {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Region {
    /// Both processes run, and the proxy is healthy.
    #[track_caller]
    pub fn start(parent: &Path, code: &'static str, jurisdiction: &str, base: u16) -> Self {
        Self::with(parent, code, jurisdiction, base, |draft| draft)
    }

    /// With something else than the usual configuration.
    #[track_caller]
    pub fn with(
        parent: &Path,
        code: &'static str,
        jurisdiction: &str,
        base: u16,
        change: impl FnOnce(Draft) -> Draft,
    ) -> Self {
        let database = Database::create(parent, code);
        Self::on(parent, code, jurisdiction, base, (database, false), change)
    }

    /// On a given database; in one process or in two.
    #[track_caller]
    pub fn on(
        parent: &Path,
        code: &'static str,
        jurisdiction: &str,
        base: u16,
        place: (Database, bool),
        change: impl FnOnce(Draft) -> Draft,
    ) -> Self {
        Self::built(parent, code, jurisdiction, base, place, |draft| change(draft).config())
    }

    /// With whatever configuration is made of the usual draft.
    #[track_caller]
    pub fn built(
        parent: &Path,
        code: &'static str,
        jurisdiction: &str,
        base: u16,
        (database, together): (Database, bool),
        build: impl FnOnce(Draft) -> Config,
    ) -> Self {
        let directory = parent.join(code);
        fs::create_dir_all(&directory).unwrap();
        landline(&["pki", "init", "--region", code], parent.join("pki").as_path());
        let config = directory.join("config.toml");
        let built = build(draft(code, jurisdiction, base, &database));
        fs::write(&config, built.to_toml().unwrap()).unwrap();
        if matches!(database, Database::Postgres(_)) {
            let made =
                Command::new(PROGRAM).args(["keys", "create", "--config"]).arg(&config).output();
            assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
        }
        let role = |name| role(name, &config, &directory);
        let region = Self {
            code,
            relay: (!together).then(|| role("relay")),
            proxy: role(if together { "up" } else { "proxy" }),
            config: config.clone(),
            directory: directory.clone(),
            database,
            base,
        };
        region.healthy()
    }

    fn healthy(mut self) -> Self {
        eventually("the proxy's health", SOON, || {
            assert_eq!(self.proxy.exit_code(), None, "{}", self.proxy.log());
            self.is_healthy().then_some(())
        });
        self
    }

    pub fn is_healthy(&self) -> bool {
        http(self.base + 5, "/health").is_some_and(|answer| answer.contains(" 200 "))
    }

    /// SIGKILL to either or both at once. What `meanwhile` does happens before
    /// new ones take their places.
    pub fn dies(&mut self, proxy: bool, relay: bool, meanwhile: impl FnOnce()) {
        if proxy {
            self.proxy.kill();
        }
        let mut relay = self.relay.as_mut().filter(|_| relay);
        if let Some(relay) = &mut relay {
            relay.kill();
        }
        meanwhile();
        if let Some(relay) = relay {
            *relay = role("relay", &self.config, &self.directory);
        }
        if proxy {
            let name = if self.relay.is_some() { "proxy" } else { "up" };
            self.proxy = role(name, &self.config, &self.directory);
        }
    }

    /// Another process of the region.
    pub fn role(&self, name: &str) -> Process {
        role(name, &self.config, &self.directory)
    }

    pub fn admin(&self, arguments: &[&str]) -> serde_json::Value {
        server::admin(arguments, "--config", &self.config)
    }

    /// The records of so many closed calls, oldest first.
    pub fn closed(&self, wanted: usize) -> Vec<serde_json::Value> {
        let mut sids: Vec<String> = eventually(&format!("{wanted} closed calls"), SOON, || {
            let listed = self.admin(&["calls", "list"]);
            let closed = array(&listed).iter().filter(|call| !call["closed_at"].is_null());
            let sids: Vec<_> = closed.map(|call| text(&call["sid"]).to_owned()).collect();
            (sids.len() == wanted).then_some(sids)
        });
        sids.reverse();
        sids.iter().map(|sid| self.admin(&["calls", "show", sid])).collect()
    }
}

impl Database {
    pub fn create(parent: &Path, code: &str) -> Self {
        let Ok(server) = std::env::var(format!("LANDLINE_TEST_POSTGRES_{}", code.to_uppercase()))
        else {
            return Self::Sqlite(parent.join(code).join("database.sqlite"));
        };
        // A test may start one region after another.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("regions_{code}_{}_{count}", std::process::id());
        let made = Command::new("psql")
            .arg(format!("{server}/postgres"))
            .args(["-qc", &format!("create database {name}")])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "no database at {server}");
        Self::Postgres(format!("{server}/{name}?sslmode=disable"))
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }
}

/// The answer to a GET, head and all.
pub fn http(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[track_caller]
fn landline(arguments: &[&str], directory: &Path) {
    let output = Command::new(PROGRAM).args(arguments).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub fn write_regions(parent: &Path, regions: &[(&str, &str, u16)]) {
    let item = |&(code, jurisdiction, base): &(&str, &str, u16)| RegionItem {
        code: code.parse().unwrap(),
        jurisdiction: jurisdiction.parse().unwrap(),
        proxies: vec![local(base + 3).into()],
        public_uri: None,
        console: None,
    };
    let regions = Regions { regions: regions.iter().map(item).collect() };
    fs::write(parent.join("regions.toml"), regions.to_toml().unwrap()).unwrap();
}

fn role(name: &str, config: &Path, directory: &Path) -> Process {
    let mut command = Command::new(PROGRAM);
    command.arg(name).arg("--config").arg(config);
    Process::start(&mut command, &directory.join(format!("{name}.log")))
}

fn draft(code: &str, jurisdiction: &str, base: u16, database: &Database) -> Draft {
    let media = 40_000 + base % 400 * 50;
    Draft {
        code: code.parse().unwrap(),
        jurisdiction: jurisdiction.parse().unwrap(),
        contracting_entity: format!("Landline {jurisdiction}"),
        database: database.url().parse().unwrap(),
        shared: "..".into(),
        ca: "../pki/ca.pem".into(),
        certificates: format!("../pki/{code}").into(),
        listen: vec![(Transport::Udp, local(base))],
        origins: Some(vec!["http://127.0.0.1:*".to_owned()]),
        inter_region: local(base + 3),
        control: local(base + 4),
        media: local(0).ip(),
        ports: PortRange { first: media, last: media + 49 },
        media_tcp: None,
        shards: 0,
        telemetry: local(base + 5),
        relay_telemetry: Some(local(base + 6)),
        console: None,
        log_level: "info".to_owned(),
    }
}
