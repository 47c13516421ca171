//! Which addresses may be sent to: an account must not reach, through us, what
//! only we can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the address is anybody's on the Internet: by the registries of RFC
/// 6890, and not one that wraps an IPv4 address which is not.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240.., ..)
            // RFC 6598 §7: shared by carriers' customers.
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            // RFC 6890 §2.2.2, RFC 5737 §3, RFC 7526 §10.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            // RFC 2544, appendix C: benchmarks.
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=239, ..)
    );
    !reserved
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        // RFC 6052 §2.1: an IPv4 address behind a translator.
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => is_public_v4(v4(g, h)),
        // RFC 3056 §2: an IPv4 address behind 6to4.
        (0x2002, _) => is_public_v4(v4(b, c)),
        // RFC 4380, RFC 3849, RFC 9637, RFC 2928.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => false,
        // RFC 4291 §2.4: what is global unicast today.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for good in ["1.1.1.1", "100.63.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.1"] {
            assert!(public(good), "{good}");
        }
        for good in ["2606:4700::1111", "2002:101:101::1", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"] {
            assert!(public(good), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!public(bad), "{bad}");
        }
    }
}
