//! Who asks: a key's sid and secret, by Basic (RFC 7617) or Bearer (RFC 6750).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landline_region::{ApiKeySid, Secret};
use landline_store::ApiKey;

use crate::app::App;
use crate::problem::Problem;

pub struct Credentials {
    pub key: ApiKeySid,
    secret: Secret<String>,
}

/// Basic carries `SID:SECRET` in base64, Bearer `SID.SECRET` as it is.
pub fn credentials(headers: &HeaderMap) -> Result<Credentials, Problem> {
    let wanted = "wanted `Authorization: Basic`, with the key's sid as user and its secret as \
                  password, or `Authorization: Bearer SID.SECRET`";
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Problem::unauthenticated(format!("the request names no key: {wanted}")))?;
    let parse = || {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let rest = rest.trim();
        let pair = match scheme.to_ascii_lowercase().as_str() {
            "basic" => {
                let text = Secret::new(STANDARD.decode(rest).ok()?);
                let text = std::str::from_utf8(text.expose()).ok()?;
                text.split_once(':').map(|(sid, secret)| (sid.to_owned(), secret.to_owned()))
            }
            "bearer" => {
                rest.split_once('.').map(|(sid, secret)| (sid.to_owned(), secret.to_owned()))
            }
            _ => None,
        };
        let (sid, secret) = pair?;
        Some(Credentials { key: sid.parse().ok()?, secret: Secret::new(secret) })
    };
    parse().ok_or_else(|| Problem::unauthenticated(format!("no key's credentials: {wanted}")))
}

impl App {
    /// A source that failed often must wait before it is heard again.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        source: IpAddr,
        path: &str,
    ) -> Result<ApiKey, Problem> {
        let source = network(source);
        if let Some(wait) = self.failures.waits(&source, Instant::now()) {
            let detail = "too many failed authentications from this address";
            return Err(Problem::too_many(wait, detail));
        }
        let failed = |problem| {
            let _counted = self.failures.take(source, Instant::now());
            Err(problem)
        };
        let given = match credentials(headers) {
            Ok(given) => given,
            Err(problem) if headers.contains_key(header::AUTHORIZATION) => return failed(problem),
            Err(problem) => return Err(problem),
        };
        let home = given.key.region();
        if home != self.region.code && self.homes.is_region(home) {
            let base_url = self.homes.base_url(home);
            let what = format!("key {}", given.key);
            return Err(Problem::misdirected(&what, home.as_str(), base_url.as_deref(), path));
        }
        match self.store.key_check(given.key, given.secret.expose()).await? {
            Some(key) => Ok(key),
            None => failed(Problem::unauthenticated(
                "the key is not known, was revoked, or its secret is another",
            )),
        }
    }
}

/// An IPv6 host has a whole /64 to choose its address from.
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        let given = credentials(&headers).ok()?;
        Some((given.key.to_string(), given.secret.expose().clone()))
    }

    #[test]
    fn both_schemes_carry_the_same_pair() {
        let sid = format!("AKie1{:032x}", 7);
        let wanted = Some((sid.clone(), "s.e:c".to_owned()));
        let basic = STANDARD.encode(format!("{sid}:s.e:c"));
        assert_eq!(read(&format!("Basic {basic}")), wanted);
        assert_eq!(read(&format!("bearer {sid}.s.e:c")), wanted);
        for bad in ["Basic", "Basic !", "Bearer x.y", "Digest a", &format!("Basic {sid}:x")] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn neighbours_in_an_ipv6_network_count_as_one() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
