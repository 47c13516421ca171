//! Which pages' scripts may open a WebSocket (RFC 6455 §10.2). A browser says
//! truthfully where a script came from; other clients say nothing, and are let
//! in: whoever they are is for the digest to prove.

use std::fmt;
use std::str::FromStr;

/// Where a page comes from (RFC 6454 §4): scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// In lower case; IPv6 in brackets.
    host: String,
    /// `None`: any, in a list of what is allowed.
    port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin: wanted https://HOST, https://HOST:PORT, or https://HOST:* for any port"
)]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let parse = || {
            let lower = text.to_ascii_lowercase();
            let (scheme, rest) = lower.split_once("://")?;
            let (scheme, usual) = match scheme {
                "http" => (Scheme::Http, 80),
                "https" => (Scheme::Https, 443),
                _ => return None,
            };
            let after_brackets = rest.rfind(']').map_or(0, |end| end + 1);
            let (host, port) = match rest.get(after_brackets..)?.rfind(':') {
                None => (rest, Some(usual)),
                Some(colon) => {
                    let (host, port) = rest.split_at_checked(after_brackets + colon)?;
                    let port = port.strip_prefix(':')?;
                    (host, if port == "*" { None } else { Some(port.parse().ok()?) })
                }
            };
            let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            let is_host = !host.is_empty() && host.bytes().all(named);
            is_host.then(|| Self { scheme, host: host.to_owned(), port })
        };
        parse().ok_or_else(|| InvalidOrigin(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.host)?;
        match (self.scheme, self.port) {
            (_, None) => f.write_str(":*"),
            (Scheme::Http, Some(80)) | (Scheme::Https, Some(443)) => Ok(()),
            (_, Some(port)) => write!(f, ":{port}"),
        }
    }
}

impl Origin {
    fn covers(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host == other.host
            && (self.port.is_none() || self.port == other.port)
    }
}

/// The pages that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    Any,
    These(Vec<Origin>),
}

impl Origins {
    /// Whether a handshake with this `Origin` header goes on. `null`, of a
    /// sandboxed frame or a file, is nobody's page.
    pub(crate) fn allow(&self, header: Option<&[u8]>) -> bool {
        match (self, header) {
            (Self::Any, _) | (_, None) => true,
            (Self::These(list), Some(value)) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<Origin>().ok())
                .filter(|origin| origin.port.is_some())
                .is_some_and(|origin| list.iter().any(|allowed| allowed.covers(&origin))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(list: &[&str]) -> Origins {
        Origins::These(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_page_is_let_in_by_scheme_host_and_port() {
        let origins =
            these(&["https://Phone.example", "https://[2001:db8::1]:8443", "http://127.0.0.1:*"]);
        for good in [
            "https://phone.example",
            "https://phone.example:443",
            "https://[2001:db8::1]:8443",
            "http://127.0.0.1",
            "http://127.0.0.1:4711",
        ] {
            assert!(origins.allow(Some(good.as_bytes())), "{good}");
        }
        for bad in [
            "http://phone.example",
            "https://phone.example:444",
            "https://phone.example.evil.example",
            "https://evilphone.example",
            "https://phone.example/",
            "https://[2001:db8::1]",
            "https://127.0.0.1:4711",
            "http://127.0.0.1:*",
            "null",
            "",
            "*",
        ] {
            assert!(!origins.allow(Some(bad.as_bytes())), "{bad}");
        }
        assert!(!origins.allow(Some(b"https://phone.example\xff")));
    }

    #[test]
    fn what_is_no_browser_says_no_origin_and_comes_in() {
        assert!(these(&[]).allow(None));
        assert!(!these(&[]).allow(Some(b"https://phone.example")));
        assert!(Origins::Any.allow(Some(b"null")));
    }

    #[test]
    fn origins_print_as_browsers_write_them() {
        for text in ["https://a.example", "http://[::1]:8080", "http://localhost:*"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        assert_eq!(
            "HTTPS://A.example:443".parse::<Origin>().unwrap().to_string(),
            "https://a.example"
        );
        for bad in
            ["a.example", "https://", "https://a b", "https://a;b", "wss://a", "https://a:0x1"]
        {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
