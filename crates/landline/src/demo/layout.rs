//! Where a demo's regions listen and keep their files.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use landline_region::RegionCode;

use super::cast;
use crate::config::{Draft, PortRange, RegionItem, Regions, Transport};
use crate::files;

/// A region's configuration within its directory.
pub const CONFIG_FILE: &str = "config.toml";
pub const DEFAULT_BASE_PORT: u16 = 25_060;
/// The last base port whose media ports still fit.
pub const MAX_BASE_PORT: i64 = 62_400;

/// Signalling ports of one region, from the base: `base + 20 × region`.
const BLOCK: u16 = 20;
/// Media ports begin this far above the base, and each region has this many.
const MEDIA_OFFSET: u16 = 100;
const MEDIA_PORTS: u16 = 1000;

/// One region of the demo.
#[derive(Debug, Clone)]
pub struct Site {
    pub code: RegionCode,
    pub jurisdiction: &'static str,
    pub entity: &'static str,
    /// Its own directory.
    pub dir: PathBuf,
    pub bind: IpAddr,
    first_port: u16,
    first_media_port: u16,
}

/// The whole demo.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Absolute.
    pub data: PathBuf,
    pub sites: Vec<Site>,
}

impl Layout {
    pub fn new(data: &Path, bind: IpAddr, base_port: u16) -> Result<Self> {
        if bind.is_unspecified() {
            bail!(
                "--bind {bind} is every address of the machine: wanted the one that phones are to use, as 127.0.0.1"
            );
        }
        std::fs::create_dir_all(data).with_context(|| format!("{}", data.display()))?;
        let data = data.canonicalize().with_context(|| format!("{}", data.display()))?;
        let sites = cast::REGIONS
            .iter()
            .zip(0u16..)
            .map(|(region, index)| {
                Ok(Site {
                    code: region.code.parse()?,
                    jurisdiction: region.jurisdiction,
                    entity: region.entity,
                    dir: data.join(region.code),
                    bind,
                    first_port: base_port + BLOCK * index,
                    first_media_port: base_port + MEDIA_OFFSET + MEDIA_PORTS * index,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { data, sites })
    }

    pub fn directory_file(&self) -> PathBuf {
        self.data.join("directory.json")
    }

    pub fn ca_file(&self) -> PathBuf {
        self.data.join("ca.pem")
    }

    pub fn site(&self, code: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.code.as_str() == code)
    }

    /// Writes the list of regions and every region's configuration, for this
    /// run's address and ports.
    pub fn write_configs(&self) -> Result<()> {
        let regions =
            Regions { regions: self.sites.iter().map(Site::item).collect::<Result<_>>()? };
        write(&self.data.join("regions.toml"), &regions.to_toml()?)?;
        for site in &self.sites {
            write(&site.config_file(), &site.draft()?.config().to_toml()?)?;
        }
        Ok(())
    }

    /// Tries every port of the demo, and says which is taken.
    pub fn check_ports(&self) -> Result<()> {
        for site in &self.sites {
            for (what, udp, address) in site.sockets() {
                let bound = match udp {
                    true => std::net::UdpSocket::bind(address).map(drop),
                    false => std::net::TcpListener::bind(address).map(drop),
                };
                if let Err(error) = bound {
                    let transport = if udp { "udp" } else { "tcp" };
                    bail!(
                        "{transport} port {} on {} ({}'s {what}) cannot be used: {error}; choose others with --base-port N",
                        address.port(),
                        address.ip(),
                        site.code,
                    );
                }
            }
        }
        Ok(())
    }
}

impl Site {
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    pub fn certs(&self) -> PathBuf {
        self.dir.join("certs")
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("database.sqlite")
    }

    pub fn sip(&self, transport: Transport) -> SocketAddr {
        let offset = match transport {
            Transport::Udp | Transport::Tcp => 0,
            Transport::Tls => 1,
            Transport::Ws => 2,
            Transport::Wss => 3,
        };
        self.at(offset)
    }

    pub fn inter_region(&self) -> SocketAddr {
        self.at(4)
    }

    pub fn control(&self) -> SocketAddr {
        self.at(5)
    }

    pub fn telemetry(&self) -> SocketAddr {
        self.at(6)
    }

    /// The HTTPS API.
    pub fn console(&self) -> SocketAddr {
        self.at(7)
    }

    /// Media of browsers that have no UDP.
    pub fn media_tcp(&self) -> SocketAddr {
        self.at(8)
    }

    fn at(&self, offset: u16) -> SocketAddr {
        SocketAddr::new(self.bind, self.first_port + offset)
    }

    fn sockets(&self) -> Vec<(String, bool, SocketAddr)> {
        let listeners = Transport::ALL.into_iter().map(|transport| {
            (format!("{transport} listener"), transport == Transport::Udp, self.sip(transport))
        });
        let others = [
            ("inter-region listener", self.inter_region()),
            ("relay control", self.control()),
            ("metrics", self.telemetry()),
            ("console", self.console()),
            ("media over TCP", self.media_tcp()),
        ];
        listeners.chain(others.map(|(what, address)| (what.to_owned(), false, address))).collect()
    }

    fn item(&self) -> Result<RegionItem> {
        Ok(RegionItem {
            code: self.code,
            jurisdiction: self.jurisdiction.parse()?,
            proxies: vec![self.inter_region().into()],
            public_uri: Some(format!("sip:{};transport=tls", self.sip(Transport::Tls))),
            console: Some(format!("https://{}", self.console())),
        })
    }

    fn draft(&self) -> Result<Draft> {
        let listen = Transport::ALL.map(|transport| (transport, self.sip(transport)));
        Ok(Draft {
            code: self.code,
            jurisdiction: self.jurisdiction.parse()?,
            contracting_entity: self.entity.to_owned(),
            database: "sqlite:database.sqlite".parse().map_err(anyhow::Error::msg)?,
            shared: "..".into(),
            ca: "../ca.pem".into(),
            certificates: "certs".into(),
            listen: listen.to_vec(),
            origins: Some(origins(self)),
            inter_region: self.inter_region(),
            control: self.control(),
            media: self.bind,
            ports: PortRange {
                first: self.first_media_port,
                last: self.first_media_port + MEDIA_PORTS - 1,
            },
            media_tcp: Some(self.media_tcp().port()),
            shards: 1,
            telemetry: self.telemetry(),
            relay_telemetry: None,
            console: Some(self.console()),
            log_level: "warn".to_owned(),
        })
    }
}

/// The regions' own pages, and whatever is tried out on the same machine.
fn origins(site: &Site) -> Vec<String> {
    let hosts = [site.bind.to_string(), "127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut origins: Vec<String> = hosts
        .iter()
        .flat_map(|host| ["https", "http"].map(|scheme| format!("{scheme}://{host}:*")))
        .collect();
    origins.dedup();
    origins
}

/// Says whose file it is: it is written anew at each start.
fn write(file: &Path, text: &str) -> Result<()> {
    let text = format!("# Written by `landline demo` at each start.\n{text}");
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    files::replace(file, text.as_bytes(), 0o644).with_context(|| format!("{}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_written_can_be_loaded_and_no_two_ports_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        let bind = "127.0.0.1".parse().unwrap();
        let layout = Layout::new(dir.path(), bind, MAX_BASE_PORT as u16).unwrap();
        layout.write_configs().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for site in &layout.sites {
            let config = Config::load(&site.config_file()).unwrap();
            assert_eq!(config.region.code, site.code);
            let ports = config.relay.unwrap().ports;
            assert!(seen.insert((true, ports.first)));
            for (what, udp, address) in site.sockets() {
                assert!(seen.insert((udp, address.port())), "{what} {address}");
            }
        }
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().min(MAX_BASE_PORT as u16);
        let layout = Layout::new(dir.path(), "127.0.0.1".parse().unwrap(), port).unwrap();
        let _also = std::net::TcpListener::bind(("127.0.0.1", port));
        let error = layout.check_ports().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--base-port"), "{error}");
    }
}
