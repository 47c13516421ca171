use std::fmt;
use std::str::FromStr;

use crate::byte_str::ByteStr;
use crate::params::{self, Params};
use crate::scan;
use crate::uri::{Uri, UriParts};

/// `"Display" <uri>;params`: From, To, Contact, Route and their kin
/// (RFC 3261 §20.10).
#[derive(Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// Without quotes and escapes.
    pub display: Option<ByteStr>,
    pub uri: Uri,
    pub params: Params,
}

impl NameAddr {
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::new() }
    }

    #[must_use]
    pub fn with_display(mut self, display: impl Into<ByteStr>) -> Self {
        self.display = Some(display.into());
        self
    }

    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.set(name, value);
        self
    }

    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::from_text(&ByteStr::from(text))
    }

    /// One value, comma lists already split.
    pub(crate) fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let parts = NameAddrParts::split(text.as_bytes())?;
        let uri = Uri::from_text(&text.part(parts.uri)).map_err(|invalid| invalid.0)?;
        parts.check_params()?;
        let display = match parts.display {
            Display::None => None,
            Display::Quoted(inside) if inside.contains(&b'\\') => {
                Some(ByteStr::from(scan::unescape(inside)))
            }
            Display::Tokens(text_part) | Display::Quoted(text_part) => Some(text.part(text_part)),
        };
        Ok(Self { display, uri, params: Params::from_checked(text.part(parts.params)) })
    }

    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag")
    }

    pub fn set_tag(&mut self, tag: &str) {
        self.params.set("tag", Some(tag));
    }

    /// The form with brackets always: it has one reading.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        if let Some(display) = &self.display {
            scan::write_quoted(out, display.as_bytes());
            out.push(b' ');
        }
        out.push(b'<');
        self.uri.write_to(out);
        out.push(b'>');
        self.params.write_to(out);
    }
}

impl FromStr for NameAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        Self::parse(text)
    }
}

impl From<&NameAddr> for ByteStr {
    fn from(addr: &NameAddr) -> Self {
        let mut out = Vec::with_capacity(96);
        addr.write_to(&mut out);
        ByteStr::from(out)
    }
}

impl From<NameAddr> for ByteStr {
    fn from(addr: NameAddr) -> Self {
        ByteStr::from(&addr)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ByteStr::from(self).to_str_lossy())
    }
}

impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameAddr({:?}, {:?})", self.uri, self.params)
    }
}

/// Checks one value without keeping anything of it.
pub(crate) fn check(text: &[u8]) -> Result<(), &'static str> {
    let parts = NameAddrParts::split(text)?;
    let uri = UriParts::scan(parts.uri).map_err(|invalid| invalid.0)?;
    // RFC 3261 §20: a URI with a question mark has to stand in brackets.
    if !parts.bracketed && uri.headers.is_some() {
        return Err("a URI with headers stands outside angle brackets");
    }
    parts.check_params()
}

struct NameAddrParts<'a> {
    display: Display<'a>,
    uri: &'a [u8],
    bracketed: bool,
    params: &'a [u8],
}

enum Display<'a> {
    None,
    Tokens(&'a [u8]),
    /// Between the quotes, escapes still in.
    Quoted(&'a [u8]),
}

impl<'a> NameAddrParts<'a> {
    fn split(text: &'a [u8]) -> Result<Self, &'static str> {
        let text = scan::trim(text);
        if text.first() == Some(&b'"') {
            let (inside, rest) = scan::quoted(text).ok_or("a quoted string does not close")?;
            let rest = scan::trim_start(rest);
            let inner = rest.strip_prefix(b"<").ok_or("no address behind the display name")?;
            return Self::bracketed(Display::Quoted(inside), inner);
        }
        match memchr::memchr2(b'<', b';', text).and_then(|at| text.split_at_checked(at)) {
            Some((before, [b'<', inner @ ..])) => {
                let display = scan::trim(before);
                if !display.iter().all(|byte| is_bare_display_byte(*byte)) {
                    return Err("the display name needs quotes");
                }
                let display =
                    if display.is_empty() { Display::None } else { Display::Tokens(display) };
                Self::bracketed(display, inner)
            }
            // Without brackets the first semicolon starts the header's own
            // parameters (RFC 3261 §20).
            Some((uri, params)) => Ok(Self::bare(uri, params)),
            None => Ok(Self::bare(text, &[])),
        }
    }

    fn bracketed(display: Display<'a>, inner: &'a [u8]) -> Result<Self, &'static str> {
        let close = memchr::memchr(b'>', inner).ok_or("an angle bracket does not close")?;
        let (uri, rest) = inner.split_at_checked(close).unwrap_or_default();
        let params = scan::trim_start(rest.get(1..).unwrap_or_default());
        Ok(Self { display, uri, bracketed: true, params })
    }

    fn bare(uri: &'a [u8], params: &'a [u8]) -> Self {
        Self { display: Display::None, uri: scan::trim_end(uri), bracketed: false, params }
    }

    fn check_params(&self) -> Result<(), &'static str> {
        params::check(self.params).map_or(Ok(()), Err)
    }
}

/// The grammar allows tokens alone, and telephones write "Bob (desk)". What
/// could end the value, or start another, needs quotes.
fn is_bare_display_byte(byte: u8) -> bool {
    scan::is_space(byte)
        || (byte > b' ' && byte != 0x7f && !matches!(byte, b',' | b';' | b'"' | b'>' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> NameAddr {
        check(text.as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        NameAddr::parse(text).unwrap()
    }

    #[test]
    fn display_names_come_quoted_bare_or_not_at_all() {
        let quoted = addr(r#""J Rosenberg \\\""       <sip:jdrosen@example.com> ; tag = 98asjd8"#);
        assert!(quoted.display.clone().unwrap() == r#"J Rosenberg \""#);
        assert_eq!(quoted.tag(), Some("98asjd8"));
        assert_eq!(
            quoted.to_string(),
            r#""J Rosenberg \\\"" <sip:jdrosen@example.com>;tag=98asjd8"#
        );
        assert!(addr("Anna Maria<sip:a@b>").display.unwrap() == "Anna Maria");
        assert!(addr("Bob (desk) @work <sip:a@b>").display.unwrap() == "Bob (desk) @work");
        assert!(addr("<sip:a@b>").display.is_none());
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header() {
        let bare = addr("sip:vivekg@example.com ;   tag    = 1918181833n");
        assert_eq!(bare.tag(), Some("1918181833n"));
        assert!(bare.uri.params.is_empty());
        assert_eq!(addr("<sip:a@b;lr>;x=1").uri.to_string(), "sip:a@b;lr");
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            r#""Mr. J. User <sip:j@example.com>"#,
            "Bell, Alexander <sip:a@b>",
            "< sip:a@b >",
            "<sip:a@b",
            "sip:a@b>",
            r#""x" sip:a@b"#,
            "<sip:a@b>;;;;",
            "<sip:a@b> x",
            "sip:a@b?Route=%3Csip:c%3E",
            "<>",
            r#""Watson, T" < t.watson@example.org >"#,
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_display_name_cannot_break_out() {
        let addr = addr("<sip:a@b>").with_display("\"<sip:evil@x>\r\nVia: y");
        assert_eq!(addr.to_string(), r#""\"<sip:evil@x>  Via: y" <sip:a@b>"#);
        assert_eq!(NameAddr::parse(&addr.to_string()).unwrap().uri, addr.uri);
    }

    #[test]
    fn setting_a_tag_replaces_it() {
        let mut addr = addr("<sip:a@b>;tag=1;x");
        addr.set_tag("2");
        assert_eq!(addr.to_string(), "<sip:a@b>;x;tag=2");
    }
}
