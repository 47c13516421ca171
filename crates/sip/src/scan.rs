//! Lexical rules shared by every header parser (RFC 3261 §25.1).

/// `token` characters, one bit of a table each.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token_byte(*b))
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    text
}

pub(crate) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// Digits only; no sign, no overflow.
pub(crate) fn number<N: TryFrom<u64>>(text: &[u8]) -> Option<N> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    N::try_from(value).ok()
}

/// The quoted string at the start of `text`: what lies between the quotes, and
/// what follows. `None` when it does not close.
pub(crate) fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', inside.get(at..)?) {
        let found = at + found;
        if inside.get(found) == Some(&b'"') {
            return Some((inside.get(..found)?, inside.get(found + 1..)?));
        }
        at = found + 2;
    }
    None
}

/// Takes the backslashes out of what [`quoted`] found.
pub(crate) fn unescape(inside: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(*byte),
        }
    }
    out
}

/// Writes `text` as a quoted string; what cannot be quoted becomes a space, so
/// that no value can end a header line.
pub(crate) fn write_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\r' | b'\n' => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// Splits at `separator` where it stands outside quotes and angle brackets.
/// Returns the first part and the rest behind the separator.
pub(crate) fn split_first(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match *byte {
            b if b == separator => {
                return text.split_at_checked(at).map_or((text, None), |(a, b)| (a, b.get(1..)));
            }
            b'"' => match text.get(at..).and_then(quoted) {
                Some((_, rest)) => at = text.len() - rest.len(),
                None => return (text, None),
            },
            b'<' => match text.get(at..).and_then(|rest| memchr::memchr(b'>', rest)) {
                Some(close) => at += close + 1,
                None => return (text, None),
            },
            _ => at += 1,
        }
    }
    (text, None)
}

/// Percent-decoding; an escape that is none stays as it is.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hex_value(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |value| value as u8)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_inside_quotes_or_brackets_does_not_split() {
        let text = br#""a,\"b" <sip:c,d@e>, next"#;
        let (first, rest) = split_first(text, b',');
        assert_eq!(first, br#""a,\"b" <sip:c,d@e>"#);
        assert_eq!(rest, Some(&b" next"[..]));
    }

    #[test]
    fn numbers_do_not_overflow_or_take_signs() {
        assert_eq!(number::<u32>(b"4294967295"), Some(u32::MAX));
        assert_eq!(number::<u32>(b"4294967296"), None);
        assert_eq!(number::<u64>(b"36893488147419103232"), None);
        assert_eq!(number::<u32>(b"-1"), None);
        assert_eq!(number::<u32>(b"+1"), None);
        assert_eq!(number::<u32>(b""), None);
        assert_eq!(number::<u8>(b"0068"), Some(68));
    }

    #[test]
    fn an_open_quote_is_noticed_even_behind_a_backslash() {
        assert_eq!(quoted(br#""abc"#), None);
        assert_eq!(quoted(br#""abc\"#), None);
        assert_eq!(quoted(br#""abc\""#), None);
        assert_eq!(quoted(br#""a\"c" x"#), Some((&br#"a\"c"#[..], &b" x"[..])));
    }

    #[test]
    fn percent_decoding_leaves_broken_escapes_alone() {
        assert_eq!(percent_decode(b"%61%6C%zz%4"), b"al%zz%4");
        assert_eq!(percent_decode(b"null-%00-null"), b"null-\0-null");
    }
}
