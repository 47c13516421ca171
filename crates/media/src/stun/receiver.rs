use super::{BINDING, HEADER, MAGIC, attribute};

/// Attributes that are looked at. Agents write the user name among the first.
const MAX_ATTRIBUTES: usize = 16;

/// Whom a connectivity check is for: the receiver's fragment in its user name
/// (RFC 8445 §7.2.2). Nothing else of the message is looked at, so that it costs
/// little to let go what is for nobody; whether it is whole, and authentic, the
/// one it is for finds out.
pub fn receiver(datagram: &[u8]) -> Option<&str> {
    let [t0, t1, _, _, m0, m1, m2, m3, ..] = *datagram.first_chunk::<HEADER>()?;
    if u16::from_be_bytes([t0, t1]) != BINDING || [m0, m1, m2, m3] != MAGIC {
        return None;
    }
    let mut rest = datagram.get(HEADER..)?;
    for _ in 0..MAX_ATTRIBUTES {
        let ([k0, k1, l0, l1], behind) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = behind.get(..length)?;
        if u16::from_be_bytes([*k0, *k1]) == attribute::USERNAME {
            let (fragment, _) = std::str::from_utf8(value).ok()?.split_once(':')?;
            return Some(fragment);
        }
        rest = behind.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Class, Writer};

    fn check(class: Class, name: &str) -> Vec<u8> {
        Writer::new(class, BINDING, [7; 12])
            .attribute(attribute::PRIORITY, &[0; 4])
            .attribute(0x8022, b"odd")
            .attribute(attribute::USERNAME, name.as_bytes())
            .integrity("password")
            .finish()
    }

    #[test]
    fn a_check_names_its_receiver() {
        assert_eq!(receiver(&check(Class::Request, "ours:theirs")), Some("ours"));
        assert_eq!(receiver(&check(Class::Request, "ours:theirs:more")), Some("ours"));
    }

    #[test]
    fn what_is_no_check_or_is_cut_short_names_nobody() {
        for class in [Class::Indication, Class::Success, Class::Error] {
            assert_eq!(receiver(&check(class, "ours:theirs")), None);
        }
        assert_eq!(receiver(&check(Class::Request, "nobody")), None);
        let whole = check(Class::Request, "ours:theirs");
        let named = (0..whole.len()).filter(|length| receiver(&whole[..*length]).is_some());
        // Header, priority, an attribute with padding, and the name itself.
        assert_eq!(named.min(), Some(20 + 8 + 8 + 4 + "ours:theirs".len()));
        let mut foreign = whole;
        foreign[4] ^= 1;
        assert_eq!(receiver(&foreign), None);
    }
}
