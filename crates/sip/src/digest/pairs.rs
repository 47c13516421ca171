use super::DigestError;
use crate::byte_str::ByteStr;
use crate::scan;

/// The `name=value` list behind the scheme; no more than a header can hold.
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// A parameter that stands twice is refused: the reader and the checker of
    /// a signature must not read different ones.
    pub(super) fn parse(value: &ByteStr) -> Result<Self, DigestError> {
        let text = value.as_str().ok_or(DigestError::Malformed)?;
        let (scheme, rest) = text.split_once([' ', '\t']).ok_or(DigestError::NotDigest)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(DigestError::NotDigest);
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut rest = Some(rest.as_bytes());
        while let Some(current) = rest {
            let (pair, next) = scan::split_first(current, b',');
            rest = next;
            let pair = scan::trim(pair);
            // RFC 7616 knows a dozen; each is compared with those before it.
            if pairs.len() == 32 {
                return Err(DigestError::Malformed);
            }
            if pair.is_empty() {
                continue;
            }
            let (name, value) = split(pair).ok_or(DigestError::Malformed)?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(DigestError::Malformed);
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    pub(super) fn require(&mut self, name: &'static str) -> Result<String, DigestError> {
        self.take(name).ok_or(DigestError::Missing(name))
    }
}

fn split(pair: &[u8]) -> Option<(String, String)> {
    let (name, value) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
    let (name, value) = (scan::trim(name), scan::trim(value.get(1..)?));
    let value = match value.first() {
        Some(b'"') => match scan::quoted(value)? {
            (inside, []) => scan::unescape(inside),
            _ => return None,
        },
        _ => value.to_vec(),
    };
    let name = scan::is_token(name).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())?;
    Some((name, String::from_utf8(value).ok()?))
}

/// `name="value"`, behind a comma unless it is the first.
pub(super) fn write_quoted(out: &mut String, name: &str, value: &str) {
    let mut quoted = Vec::with_capacity(value.len() + 2);
    scan::write_quoted(&mut quoted, value.as_bytes());
    write_plain(out, name, &String::from_utf8_lossy(&quoted));
}

pub(super) fn write_plain(out: &mut String, name: &str, value: &str) {
    out.push_str(if out.is_empty() { "Digest " } else { ", " });
    out.push_str(name);
    out.push('=');
    out.push_str(value);
}
