//! Values that are more than text or numbers, each with an error that says
//! what would be right.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Gives a type serde by its text form, so that parse errors carry their line.
macro_rules! text_form {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

text_form!(BindAddress);
text_form!(PortRange);

/// An address and port of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BindAddress(pub SocketAddr);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Self(address)),
            _ => Err(format!(
                "`{text}` is not an address to listen on: wanted IP:PORT, as `192.0.2.10:5060` or `[2001:db8::1]:5060`"
            )),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// First and last port, both inclusive, as `30000-39999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        };
        // Ports are taken in pairs, the even one for RTP (RFC 3550 §11).
        parse()
            .filter(|range| range.first >= 1024 && range.last > range.first)
            .ok_or_else(|| {
                format!("`{text}` is not a range of ports: wanted FIRST-LAST of at least two ports from 1024 up, as `30000-39999`")
            })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether a listener needs `proxy.tls`.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `sqlite:PATH` or `postgres://…`. May hold a password, so it has no
/// `Display`, and its `Debug` and serialised forms are without one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The file of a SQLite database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.0.strip_prefix("sqlite:").map(Path::new)
    }

    /// A SQLite path is relative to the configuration file.
    pub fn anchor(&mut self, base: &Path) {
        if let Some(path) = self.sqlite_path() {
            self.0 = format!("sqlite:{}", base.join(path).display());
        }
    }

    /// Puts a password into the URL's user part; it must have a user and none yet.
    pub fn set_password(&mut self, password: &str) -> Result<(), &'static str> {
        let wrong = "wanted a URL with a user and no password, as `postgres://landline@db.ie1.example/landline`";
        let (scheme, rest) = self.0.split_once("://").ok_or(wrong)?;
        let (user, host) = rest.split_once('@').ok_or(wrong)?;
        if user.is_empty() || user.contains([':', '/']) {
            return Err(wrong);
        }
        self.0 = format!("{scheme}://{user}:{}@{host}", percent_encoded(password));
        Ok(())
    }

    /// What may be shown: everything but a password and the query.
    pub fn shown(&self) -> String {
        let plain = self.0.split('?').next().unwrap_or_default();
        match plain
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)))
        {
            Some((scheme, (user, host))) => {
                format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default())
            }
            None => plain.to_owned(),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sqlite = text.strip_prefix("sqlite:").is_some_and(|path| {
            !path.is_empty() && !path.starts_with("//") && PathBuf::from(path).file_name().is_some()
        });
        let postgres =
            ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        match sqlite || postgres {
            true => Ok(Self(text.to_owned())),
            // The text may hold a password: it is not repeated.
            false => {
                Err("not a database URL: wanted `sqlite:PATH` or `postgres://USER@HOST/DATABASE`"
                    .to_owned())
            }
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> String {
        url.shown()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            true => char::from(b).to_string(),
            false => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_put_into_the_url_and_never_shown() {
        let mut url: DatabaseUrl =
            "postgres://landline@db.example/ie1?sslmode=require".parse().unwrap();
        url.set_password("p@ss/w:rd").unwrap();
        assert_eq!(
            url.expose(),
            "postgres://landline:p%40ss%2Fw%3Ard@db.example/ie1?sslmode=require"
        );
        assert_eq!(format!("{url:?}"), "postgres://landline@db.example/ie1");
        assert!(url.set_password("again").is_err());
    }

    #[test]
    fn ranges_print_as_they_parse() {
        assert_eq!("30000-30001".parse::<PortRange>().unwrap().to_string(), "30000-30001");
        for bad in ["", "1-2", "30001-30000", "30000", "30000-90000"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
