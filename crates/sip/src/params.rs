use std::borrow::Cow;
use std::fmt;

use crate::byte_str::ByteStr;
use crate::scan;

/// The `;name=value` parameters of a URI or a header value, kept as they were
/// written: most messages never have theirs looked at, and reading one is a
/// short scan.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Params {
    /// Empty, or begins with `;`.
    text: ByteStr,
}

impl Params {
    pub fn new() -> Self {
        Self::default()
    }

    /// `text` has been checked by [`check`].
    pub(crate) fn from_checked(text: ByteStr) -> Self {
        Self { text }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The value of the first parameter of that name: empty for one without
    /// `=`, with its quotes if it has some. Names ignore letter case and may
    /// be percent-escaped (RFC 4475 §3.1.1.3). `None` also when the value is
    /// not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.find(name)?.value.unwrap_or_default()).ok()
    }

    /// Like [`Params::get`], a quoted string without its quotes and escapes.
    pub fn get_unquoted(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.get(name)?;
        match scan::quoted(value.as_bytes()) {
            None => Some(Cow::Borrowed(value)),
            Some((inside, _)) => String::from_utf8(scan::unescape(inside)).ok().map(Cow::Owned),
        }
    }

    /// A slice of the message, for keeping.
    pub fn get_byte_str(&self, name: &str) -> Option<ByteStr> {
        Some(self.text.part(self.find(name)?.value.unwrap_or_default()))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Names and values in order; non-UTF-8 ones are passed over.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        iter(self.as_bytes()).filter_map(|param| {
            let name = std::str::from_utf8(param.name).ok()?;
            Some((name, param.value.map(std::str::from_utf8).transpose().ok()?))
        })
    }

    /// Replaces or appends. A value is quoted unless it is a token, or what a
    /// URI or a host may hold unquoted.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let mut text = self.without(name);
        text.push(b';');
        text.extend(name.bytes().filter(|byte| scan::is_token_byte(*byte)));
        if let Some(value) = value {
            text.push(b'=');
            match value.starts_with('"') {
                true => scan::write_quoted(&mut text, value.as_bytes()),
                false => write_value(&mut text, value.as_bytes()),
            }
        }
        self.text = ByteStr::from(text);
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.set(name, value);
        self
    }

    pub fn remove(&mut self, name: &str) {
        if self.contains(name) {
            self.text = ByteStr::from(self.without(name));
        }
    }

    fn without(&self, name: &str) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len() + name.len() + 16);
        for param in iter(self.as_bytes()).filter(|param| !param.is_called(name)) {
            text.push(b';');
            text.extend_from_slice(param.name);
            if let Some(value) = param.value {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
        text
    }

    fn find(&self, name: &str) -> Option<Param<'_>> {
        iter(self.as_bytes()).find(|param| param.is_called(name))
    }

    /// Without the white space that may stand around `;` and `=`.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        if !self.as_bytes().iter().any(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'"')) {
            out.extend_from_slice(self.as_bytes());
            return;
        }
        for param in iter(self.as_bytes()) {
            out.push(b';');
            out.extend_from_slice(param.name);
            if let Some(value) = param.value {
                out.push(b'=');
                write_value(out, value);
            }
        }
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} bytes)", self.text.len())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

impl Param<'_> {
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
            || (self.name.contains(&b'%')
                && scan::percent_decode(self.name).eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// `text` is empty or begins with `;`.
pub(crate) fn iter(text: &[u8]) -> impl Iterator<Item = Param<'_>> {
    let mut rest = text.strip_prefix(b";");
    std::iter::from_fn(move || {
        let (param, next) = scan::split_first(rest.take()?, b';');
        rest = next;
        Some(split(param))
    })
}

/// `None` when the text follows the grammar of generic parameters: each named
/// by a token, each quoted string closed.
pub(crate) fn check(text: &[u8]) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix(b";") else {
        return (!text.is_empty())
            .then_some("something that is no parameter stands behind the value");
    };
    let mut rest = Some(rest);
    while let Some(current) = rest {
        let (param, next) = scan::split_first(current, b';');
        rest = next;
        let Param { name, value } = split(param);
        if !scan::is_token(name) {
            return Some("a parameter has no name, or one that is no token");
        }
        if value.is_some_and(|value| !is_value(value)) {
            return Some("a parameter's value is neither a token, a host nor a quoted string");
        }
    }
    None
}

fn split(param: &[u8]) -> Param<'_> {
    match memchr::memchr(b'=', param).and_then(|equals| param.split_at_checked(equals)) {
        None => Param { name: scan::trim(param), value: None },
        Some((name, value)) => {
            Param { name: scan::trim(name), value: value.get(1..).map(scan::trim) }
        }
    }
}

/// Wider than the grammar, which real phones stretch, but nothing that could
/// move the border of the value.
fn is_value(value: &[u8]) -> bool {
    match value.first() {
        None => false,
        Some(b'"') => scan::quoted(value).is_some_and(|(_, rest)| rest.is_empty()),
        Some(_) => !value.iter().any(|b| *b <= b' ' || matches!(b, b'"' | b'<' | b'>' | b';')),
    }
}

/// As it was read or set; what would move the value's border is quoted.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    match scan::quoted(value) {
        Some((inside, [])) if !inside.iter().any(|b| matches!(b, b'\r' | b'\n')) => {
            out.extend_from_slice(value);
        }
        _ if is_value(value) && !value.contains(&b',') => out.extend_from_slice(value),
        _ => scan::write_quoted(out, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        assert_eq!(check(text.as_bytes()), None, "{text}");
        Params::from_checked(text.into())
    }

    #[test]
    fn white_space_case_and_quotes_are_read_over() {
        let params = params("; newparam =  newvalue ;\tTAG=\"a;b\\\"\" ; secondparam");
        assert_eq!(params.get("NewParam"), Some("newvalue"));
        assert_eq!(params.get("tag"), Some("\"a;b\\\"\""));
        assert_eq!(params.get_unquoted("tag").as_deref(), Some("a;b\""));
        assert_eq!(params.get("secondparam"), Some(""));
        assert_eq!(params.get("third"), None);
    }

    #[test]
    fn setting_replaces_and_cannot_break_out_of_the_value() {
        let mut params = params(";a=1;b=2");
        params.set("a", Some("x\r\nEvil: 1;c=3"));
        assert_eq!(params.get("b"), Some("2"));
        assert_eq!(params.get("c"), None);
        assert_eq!(params.get("a"), Some("\"x  Evil: 1;c=3\""));
        params.remove("b");
        params.set("lr", None);
        assert_eq!(params.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "lr"]);
    }

    #[test]
    fn an_escaped_name_is_the_name_it_stands_for() {
        assert!(params(";%6C%72").contains("lr"));
    }

    #[test]
    fn empty_and_open_parameters_are_refused() {
        for bad in [";", ";;", ";a=1;", ";a=", ";a=\"x", ";a b", ";=1", "x"] {
            assert!(check(bad.as_bytes()).is_some(), "{bad}");
        }
    }
}
