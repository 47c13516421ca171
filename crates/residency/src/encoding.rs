//! The ways a word can be written down. A needle is what stands in a haystack
//! whatever surrounds the word: of base64, the part that depends on the word
//! alone.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::{Digest, Md5};

use crate::{Word, WordKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// UTF-8, in whatever case.
    Plain,
    Latin1,
    /// Every octet as `%XX`.
    PercentAll,
    /// RFC 3986 §2.1: reserved octets alone.
    Percent,
    /// As an HTML form is: a space is `+`.
    Form,
    /// RFC 4648 §4 and §5, by the octets before the word modulo three.
    Base64(u8),
    Hex,
    HexSpaced,
    HexColons,
    /// `\x73\x69`.
    HexEscaped,
    /// `\u0073`, as JSON and JavaScript.
    UnicodeEscaped,
    /// `&#115;`.
    HtmlDecimal,
    /// Every octet as `=XX` (RFC 2045 §6.7).
    QuotedPrintableAll,
    QuotedPrintable,
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Reversed,
    /// RFC 6116 §3.2: reversed digits between dots.
    Enum,
    /// A number without its country code.
    National,
    /// Two digits an octet, by the digits before the number modulo two.
    Bcd(u8),
    /// The same, nibbles swapped (TS 29.002 TBCD).
    BcdSwapped(u8),
    IntegerLe,
    IntegerBe,
    /// Hashes without a key tell whoever has a list of numbers or names.
    Md5,
    Sha1,
    Sha256,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Plain => "plain",
            Self::Latin1 => "ISO-8859-1",
            Self::PercentAll => "percent, every octet",
            Self::Percent => "percent",
            Self::Form => "form",
            Self::Base64(lead) => return write!(f, "base64 at {lead} mod 3"),
            Self::Hex => "hex",
            Self::HexSpaced => "hex with spaces",
            Self::HexColons => "hex with colons",
            Self::HexEscaped => "hex escapes",
            Self::UnicodeEscaped => "unicode escapes",
            Self::HtmlDecimal => "HTML character references",
            Self::QuotedPrintableAll => "quoted-printable, every octet",
            Self::QuotedPrintable => "quoted-printable",
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
            Self::Utf32Le => "UTF-32LE",
            Self::Reversed => "reversed",
            Self::Enum => "ENUM",
            Self::National => "national number",
            Self::Bcd(lead) => return write!(f, "BCD at {lead} mod 2"),
            Self::BcdSwapped(lead) => return write!(f, "swapped BCD at {lead} mod 2"),
            Self::IntegerLe => "64-bit integer, little-endian",
            Self::IntegerBe => "64-bit integer, big-endian",
            Self::Md5 => "unkeyed MD5",
            Self::Sha1 => "unkeyed SHA-1",
            Self::Sha256 => "unkeyed SHA-256",
        };
        f.write_str(name)
    }
}

pub(crate) struct Needle {
    pub encoding: Encoding,
    pub bytes: Vec<u8>,
    /// Looked for where line breaks and separators were taken out.
    pub folded: bool,
}

/// Every needle of a word; case is the scanner's business.
pub(crate) fn needles(word: &Word) -> Vec<Needle> {
    let text = match word.kind {
        WordKind::Text => word.text.as_str(),
        WordKind::Number => word.text.trim_start_matches('+'),
    };
    let mut forms = Vec::new();
    for text in cases(text) {
        forms.extend(of_text(&text));
    }
    if word.kind == WordKind::Number {
        forms.extend(of_digits(text));
    }
    forms.extend(hashes(text));
    if word.kind == WordKind::Number {
        forms.extend(hashes(&format!("+{text}")));
    }
    let mut needles: Vec<Needle> = Vec::new();
    for (encoding, bytes) in forms {
        let folded = folds(encoding).then(|| crate::scanner::squeezed(&bytes));
        let mut add = |bytes: Vec<u8>, folded| {
            let known = needles.iter().any(|it| it.bytes == bytes && it.folded == folded);
            if !known {
                needles.push(Needle { encoding, bytes, folded });
            }
        };
        add(bytes, false);
        if let Some(bytes) = folded {
            add(bytes, true);
        }
    }
    needles
}

/// Encodings that mail, PEM, dumps and people break by line ends and separators.
const fn folds(encoding: Encoding) -> bool {
    use Encoding::{Base64, Hex, Plain, QuotedPrintable, QuotedPrintableAll, Sha1, Sha256};
    matches!(
        encoding,
        Plain | Base64(_) | Hex | QuotedPrintable | QuotedPrintableAll | Sha1 | Sha256
    )
}

/// As it is, and folded where ASCII's folding does not reach.
fn cases(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    if !text.is_ascii() {
        all.extend([text.to_lowercase(), text.to_uppercase()]);
    }
    all
}

fn of_text(text: &str) -> Vec<(Encoding, Vec<u8>)> {
    let octets = text.as_bytes();
    let each = |write: &dyn Fn(u8) -> String| -> Vec<u8> {
        octets.iter().map(|&octet| write(octet)).collect::<String>().into()
    };
    let mut all = vec![
        (Encoding::Plain, octets.to_vec()),
        (Encoding::PercentAll, each(&|octet| format!("%{octet:02X}"))),
        (Encoding::Percent, percent(octets, "%20").into()),
        (Encoding::Form, percent(octets, "+").into()),
        (Encoding::Hex, hex::encode(octets).into()),
        (Encoding::HexSpaced, joined(octets, " ").into()),
        (Encoding::HexColons, joined(octets, ":").into()),
        (Encoding::HexEscaped, each(&|octet| format!("\\x{octet:02x}"))),
        (Encoding::QuotedPrintableAll, each(&|octet| format!("={octet:02X}"))),
        (Encoding::QuotedPrintable, quoted_printable(octets).into()),
        (Encoding::UnicodeEscaped, utf16(text, |unit| format!("\\u{unit:04x}").into_bytes())),
        (Encoding::Utf16Le, utf16(text, |unit| unit.to_le_bytes().to_vec())),
        (Encoding::Utf16Be, utf16(text, |unit| unit.to_be_bytes().to_vec())),
        (Encoding::Utf32Le, text.chars().flat_map(|it| u32::from(it).to_le_bytes()).collect()),
        (Encoding::Reversed, text.chars().rev().collect::<String>().into()),
        (
            Encoding::HtmlDecimal,
            text.chars().map(|it| format!("&#{};", u32::from(it))).collect::<String>().into(),
        ),
    ];
    for lead in 0..3 {
        let standard = base64_core(octets, lead);
        let url = standard.replace('+', "-").replace('/', "_");
        if url != standard {
            all.push((Encoding::Base64(lead), url.into()));
        }
        all.push((Encoding::Base64(lead), standard.into()));
    }
    let latin1: Option<Vec<u8>> = text.chars().map(|it| u8::try_from(u32::from(it)).ok()).collect();
    if let Some(latin1) = latin1.filter(|it| it != octets) {
        all.push((Encoding::Latin1, latin1));
    }
    all
}

fn joined(octets: &[u8], between: &str) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(between)
}

fn percent(octets: &[u8], space: &str) -> String {
    let write = |&octet: &u8| match octet {
        b' ' => space.to_owned(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(octet).to_string()
        }
        _ => format!("%{octet:02X}"),
    };
    octets.iter().map(write).collect()
}

fn quoted_printable(octets: &[u8]) -> String {
    let write = |&octet: &u8| match octet {
        b'!'..=b'<' | b'>'..=b'~' => char::from(octet).to_string(),
        _ => format!("={octet:02X}"),
    };
    octets.iter().map(write).collect()
}

fn utf16(text: &str, write: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    text.encode_utf16().flat_map(write).collect()
}

/// The digits that `octets` alone decide when `lead` octets stand before them.
fn base64_core(octets: &[u8], lead: u8) -> String {
    let lead = usize::from(lead);
    let padded = [&[0; 2][..lead], octets].concat();
    let text = STANDARD_NO_PAD.encode(&padded);
    let (first, end) = ((lead * 8).div_ceil(6), padded.len() * 8 / 6);
    text.get(first..end).unwrap_or_default().to_owned()
}

fn of_digits(digits: &str) -> Vec<(Encoding, Vec<u8>)> {
    let mut all = Vec::new();
    let dotted: Vec<String> = digits.chars().rev().map(String::from).collect();
    all.push((Encoding::Enum, dotted.join(".").into()));
    // Country codes have up to three digits; nine is what a search can bear.
    for cut in 1..=3 {
        if let Some(rest) = digits.get(cut..).filter(|rest| rest.len() >= 9) {
            all.push((Encoding::National, rest.into()));
        }
    }
    for lead in 0..2 {
        let whole = digits.get(usize::from(lead)..).unwrap_or_default().as_bytes();
        let pairs = |first: usize| -> Vec<u8> {
            whole
                .chunks_exact(2)
                .map(|pair| (pair[first] & 0x0f) << 4 | pair[1 - first] & 0x0f)
                .collect()
        };
        all.push((Encoding::Bcd(lead), pairs(0)));
        all.push((Encoding::BcdSwapped(lead), pairs(1)));
    }
    if let Ok(number) = digits.parse::<u64>() {
        all.push((Encoding::IntegerLe, number.to_le_bytes().into()));
        all.push((Encoding::IntegerBe, number.to_be_bytes().into()));
    }
    all
}

fn hashes(text: &str) -> Vec<(Encoding, Vec<u8>)> {
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let sha256 = digest::digest(&digest::SHA256, text.as_bytes());
    let md5 = Md5::digest(text.as_bytes());
    [
        (Encoding::Md5, md5.to_vec()),
        (Encoding::Sha1, sha1.as_ref().to_vec()),
        (Encoding::Sha256, sha256.as_ref().to_vec()),
    ]
    .into_iter()
    .flat_map(|(encoding, hash)| {
        let (hex, base64) = (hex::encode(&hash), base64_core(&hash, 0));
        [(encoding, hash), (encoding, hex.into()), (encoding, base64.into())]
    })
    .collect()
}
