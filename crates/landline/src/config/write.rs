//! Writing what [`Config::load`] and [`Regions::load`] read: for regions that
//! are set up by a program, as the demo's.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use landline_region::{Jurisdiction, RegionCode};

use super::{
    BindAddress, Codes, Config, Console, ConsoleLimits, Database, DatabaseUrl, Directory, Egress,
    Engine, InterRegion, KeyPair, Listen, Media, Phone, PortRange, Proxy, ProxyLimits, Region,
    Regions, Registrar, Relay, RelayLimits, RelayLink, RelayTimeouts, Telemetry, Transport,
    Voicemail, Webhooks, ninety,
};
use crate::pki;

/// A region of one proxy and one relay on one machine: what differs from
/// region to region. The rest is as where nothing is said.
#[derive(Debug, Clone)]
pub struct Draft {
    pub code: RegionCode,
    pub jurisdiction: Jurisdiction,
    pub contracting_entity: String,
    pub database: DatabaseUrl,
    /// Holds `directory.json` and `regions.toml`.
    pub shared: PathBuf,
    pub ca: PathBuf,
    /// What [`pki::provide_region`] made.
    pub certificates: PathBuf,
    pub listen: Vec<(Transport, SocketAddr)>,
    /// Pages that may connect; `None`: those of the regions' consoles.
    pub origins: Option<Vec<String>>,
    pub inter_region: SocketAddr,
    pub control: SocketAddr,
    pub media: IpAddr,
    pub ports: PortRange,
    pub media_tcp: Option<u16>,
    pub shards: u16,
    pub telemetry: SocketAddr,
    pub console: Option<SocketAddr>,
    pub relay_telemetry: Option<SocketAddr>,
    pub log_level: String,
}

impl Draft {
    /// Paths are relative to the configuration's file.
    pub fn config(&self) -> Config {
        Config {
            region: Region {
                code: self.code,
                jurisdiction: self.jurisdiction,
                contracting_entity: self.contracting_entity.clone(),
                data_protection_officer: None,
            },
            data_dir: ".".into(),
            database: Database {
                url: Some(self.database.clone()),
                url_env: None,
                password_env: None,
                retention_days: ninety(),
            },
            key_ring: "keys.json".into(),
            directory: Directory {
                snapshot: self.shared.join("directory.json"),
                regions: self.shared.join("regions.toml"),
            },
            ca: self.ca.clone(),
            proxy: Some(self.proxy()),
            relay: Some(self.relay()),
            console: self.console.map(|address| Console {
                address: BindAddress(address),
                tls: self.pair(pki::CONSOLE_TLS),
                limits: ConsoleLimits::default(),
                webhooks: Webhooks::default(),
                phone: Phone::default(),
            }),
            egress: Egress::default(),
            backup: None,
            telemetry: Telemetry {
                address: Some(BindAddress(self.telemetry)),
                relay_address: self.relay_telemetry.map(BindAddress),
                log_level: self.log_level.clone(),
                ..Telemetry::default()
            },
        }
    }

    fn proxy(&self) -> Proxy {
        let listen = |&(transport, address): &(Transport, SocketAddr)| Listen {
            transport,
            address: BindAddress(address),
            advertise: None,
        };
        let secure = self.listen.iter().any(|(transport, _)| transport.is_secure());
        Proxy {
            name: pki::first_proxy(self.code),
            listen: self.listen.iter().map(listen).collect(),
            tls: secure.then(|| self.pair(pki::PROXY_TLS).into()),
            origins: self.origins.clone(),
            push: None,
            identity: self.pair(pki::PROXY_IDENTITY),
            inter_region: InterRegion { address: BindAddress(self.inter_region), advertise: None },
            relays: vec![RelayLink { name: self.relay_name(), address: self.control.into() }],
            peering: None,
            peers: Vec::new(),
            trunk_ca: None,
            dns_servers: Vec::new(),
            transcoding: true,
            codes: Codes::default(),
            voicemail: Voicemail::default(),
            registrar: Registrar::default(),
            limits: ProxyLimits::default(),
        }
    }

    fn relay(&self) -> Relay {
        Relay {
            name: self.relay_name(),
            control: BindAddress(self.control),
            identity: self.pair(pki::RELAY_IDENTITY),
            media: vec![Media { address: self.media, advertise: None }],
            ports: self.ports,
            ice_port: None,
            tcp_port: self.media_tcp,
            dtls_1_3: true,
            engine: Engine::default(),
            shards: self.shards,
            limits: RelayLimits::default(),
            timeouts: RelayTimeouts::default(),
        }
    }

    fn relay_name(&self) -> String {
        format!("{}-relay-1", self.code)
    }

    fn pair(&self, stem: &str) -> KeyPair {
        KeyPair {
            certificate: self.certificates.join(stem).with_extension("pem"),
            key: self.certificates.join(stem).with_extension("key"),
        }
    }
}

impl Config {
    /// With the database's URL whole, password included: for the region's own
    /// file, not for a screen.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut table = toml::Table::try_from(self)?;
        if let Some(toml::Value::Table(database)) = table.get_mut("database")
            && let Some(url) = &self.database.url
        {
            database.insert("url".to_owned(), url.expose().into());
        }
        toml::to_string(&table)
    }
}

impl Regions {
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RegionItem;
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let draft = Draft {
            code: "ie1".parse().unwrap(),
            jurisdiction: "IE".parse().unwrap(),
            contracting_entity: "Landline \"Ireland\" Ltd".to_owned(),
            database: "postgres://u:secret@db.example/ie1?sslmode=disable".parse().unwrap(),
            shared: ".".into(),
            ca: "ca.pem".into(),
            certificates: "certs".into(),
            listen: Transport::ALL.into_iter().zip((5060..).map(address)).collect(),
            origins: Some(vec!["https://phone.example".to_owned()]),
            inter_region: address(5070),
            control: address(5071),
            media: [127, 0, 0, 1].into(),
            ports: PortRange { first: 30_000, last: 30_099 },
            media_tcp: Some(30_000),
            shards: 2,
            telemetry: address(9090),
            relay_telemetry: Some(address(9091)),
            console: Some(address(8443)),
            log_level: "warn".to_owned(),
        };
        let item = RegionItem {
            code: draft.code,
            jurisdiction: draft.jurisdiction,
            proxies: vec![draft.inter_region.into()],
            public_uri: Some("sip:127.0.0.1:5062;transport=tls".to_owned()),
            console: Some("https://127.0.0.1:8443".to_owned()),
        };
        let regions = Regions { regions: vec![item] };
        std::fs::write(dir.path().join("regions.toml"), regions.to_toml().unwrap()).unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, draft.config().to_toml().unwrap()).unwrap();
        let read = Config::load(&file).unwrap();
        assert_eq!(read.database_url(), draft.database.expose());
        let mut wanted = draft.config();
        for (_, path) in wanted.paths_mut() {
            *path = dir.path().join(&*path);
        }
        assert_eq!(format!("{read:?}"), format!("{wanted:?}"));
    }
}
