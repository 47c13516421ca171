//! Certificates for trying out: an authority, and what it signs for a region.

mod authority;

use std::net::IpAddr;
use std::path::Path;

use landline_region::{RegionCode, UnixMillis};

pub use authority::{Authority, PkiError};

/// Where a region's certificates lie within its own directory.
pub const PROXY_TLS: &str = "sip";
pub const PROXY_IDENTITY: &str = "proxy";
pub const RELAY_IDENTITY: &str = "relay";
pub const CONSOLE_TLS: &str = "console";

/// The name in a proxy's mutual-TLS certificate, by which peers know its region.
pub fn proxy_name(region: RegionCode) -> String {
    format!("proxy.{region}.landline.internal")
}

/// The other name in it, by which relays know which proxy of the region it is.
fn proxy_host(region: RegionCode, name: &str) -> String {
    format!("{}.{region}.landline.internal", name.to_ascii_lowercase())
}

/// What a region's first proxy is called where nothing else is said.
pub fn first_proxy(region: RegionCode) -> String {
    format!("{region}-proxy-1")
}

/// The name in a relay's mutual-TLS certificate.
pub fn relay_name(region: RegionCode) -> String {
    format!("relay.{region}.landline.internal")
}

/// Makes what a region's proxy and relay need in `dir`, keeping what is valid
/// for a month more and names what it must. The `proxies` share one certificate.
pub fn provide_region(
    authority: &Authority,
    dir: &Path,
    region: RegionCode,
    proxies: &[String],
    client_names: &[String],
    now: UnixMillis,
) -> Result<(), PkiError> {
    let mut names = vec!["localhost".to_owned()];
    names.extend(client_names.iter().map(|name| shown_name(name)));
    names.dedup();
    authority.provide(&dir.join(PROXY_TLS), &names, now)?;
    authority.provide(&dir.join(CONSOLE_TLS), &names, now)?;
    let mut hosts = vec![proxy_name(region)];
    hosts.extend(proxies.iter().map(|name| proxy_host(region, name)));
    authority.provide(&dir.join(PROXY_IDENTITY), &hosts, now)?;
    authority.provide(&dir.join(RELAY_IDENTITY), &[relay_name(region)], now)
}

/// An address in its one canonical form; a name in lower case.
fn shown_name(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: UnixMillis = UnixMillis(1_795_348_800_000);
    const YEAR: i64 = 365 * 86_400_000;

    fn region() -> RegionCode {
        "ie1".parse().unwrap()
    }

    #[test]
    fn certificates_are_kept_while_valid_and_replaced_after() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let names = ["127.0.0.1".to_owned(), "acme.test".to_owned()];
        provide_region(&authority, dir.path(), region(), &[first_proxy(region())], &names, NOW)
            .unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let first = ["ca.pem", "sip.pem", "proxy.pem", "relay.key"].map(read);

        let again = Authority::open(dir.path(), NOW).unwrap();
        provide_region(&again, dir.path(), region(), &[first_proxy(region())], &names, NOW)
            .unwrap();
        assert_eq!(["ca.pem", "sip.pem", "proxy.pem", "relay.key"].map(read), first);

        // Another name, or an end that is near, and the certificate is made anew.
        let more = ["127.0.0.1".to_owned(), "acme.test".to_owned(), "globex.test".to_owned()];
        provide_region(&again, dir.path(), region(), &[first_proxy(region())], &more, NOW).unwrap();
        assert_ne!(read("sip.pem"), first[1]);
        assert_eq!(read("proxy.pem"), first[2]);
        // A proxy that it does not name, too.
        let second = ["ie1-proxy-2".to_owned()];
        provide_region(&again, dir.path(), region(), &second, &more, NOW).unwrap();
        assert_ne!(read("proxy.pem"), first[2]);
        provide_region(
            &again,
            dir.path(),
            region(),
            &[first_proxy(region())],
            &more,
            UnixMillis(NOW.0 + YEAR),
        )
        .unwrap();
        assert_ne!(read("proxy.pem"), first[2]);
        assert_eq!(read("ca.pem"), first[0]);
    }

    #[test]
    fn a_new_authority_replaces_what_the_former_signed() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        provide_region(&authority, dir.path(), region(), &[], &[], NOW).unwrap();
        let before = std::fs::read(dir.path().join("proxy.pem")).unwrap();
        std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        provide_region(&authority, dir.path(), region(), &[], &[], NOW).unwrap();
        assert_ne!(std::fs::read(dir.path().join("proxy.pem")).unwrap(), before);
    }

    #[test]
    fn private_keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        provide_region(&authority, dir.path(), region(), &[], &[], NOW).unwrap();
        for name in ["ca.key", "sip.key", "proxy.key", "relay.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
