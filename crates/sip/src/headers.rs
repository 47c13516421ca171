use std::fmt;

use crate::byte_str::ByteStr;
use crate::header_name::HeaderName;
use crate::scan;

/// The headers of a message in their order, unknown ones included; values are
/// unfolded and trimmed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<(HeaderName, ByteStr)>,
}

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(headers: usize) -> Self {
        Self { entries: Vec::with_capacity(headers) }
    }

    pub fn push(&mut self, name: HeaderName, value: impl Into<ByteStr>) {
        self.entries.push((name, value.into()));
    }

    pub fn push_front(&mut self, name: HeaderName, value: impl Into<ByteStr>) {
        self.entries.insert(0, (name, value.into()));
    }

    /// In front of the first header called `name`, so that a new value of it
    /// becomes the topmost; at the very front when there is none.
    pub fn insert_before(&mut self, name: HeaderName, value: impl Into<ByteStr>) {
        let at = self.entries.iter().position(|(known, _)| *known == name).unwrap_or(0);
        self.entries.insert(at, (name, value.into()));
    }

    /// Replaces the first one where it stands and removes the others; appends
    /// when there is none.
    pub fn set(&mut self, name: HeaderName, value: impl Into<ByteStr>) {
        let value = value.into();
        match self.entries.iter().position(|(known, _)| *known == name) {
            None => self.entries.push((name, value)),
            Some(first) => {
                let mut index = 0;
                self.entries.retain(|(known, _)| {
                    index += 1;
                    *known != name || index - 1 == first
                });
                if let Some(entry) = self.entries.get_mut(first) {
                    entry.1 = value;
                }
            }
        }
    }

    /// The first header of that name, whole.
    pub fn get(&self, name: &HeaderName) -> Option<&ByteStr> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Every header of that name, whole.
    pub fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a ByteStr> + 'a {
        self.entries.iter().filter(move |(known, _)| known == name).map(|(_, value)| value)
    }

    /// Every value of that name: comma lists are split where the header's
    /// grammar has them. Empty values are passed over.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = ByteStr> + 'a {
        let list = name.is_list();
        self.all(name)
            .flat_map(move |value| Values { whole: value, rest: Some(value.as_bytes()), list })
            .filter(|value| !value.is_empty())
    }

    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// How many there were.
    pub fn remove_all(&mut self, name: &HeaderName) -> usize {
        self.retain(|known| known != name)
    }

    /// Keeps the headers of these names; how many of others there were.
    pub fn retain(&mut self, keeps: impl Fn(&HeaderName) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(name, _)| keeps(name));
        before - self.entries.len()
    }

    /// Pops the topmost value, also out of a comma list (a Via, a Route).
    pub fn remove_first_value(&mut self, name: &HeaderName) -> Option<ByteStr> {
        let at = self.entries.iter().position(|(known, _)| known == name)?;
        let value = self.entries.get(at)?.1.clone();
        if !name.is_list() {
            self.entries.remove(at);
            return Some(value);
        }
        let (first, rest) = scan::split_first(value.as_bytes(), b',');
        match rest.map(scan::trim) {
            Some(rest) if !rest.is_empty() => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = value.part(rest);
                }
            }
            _ => {
                self.entries.remove(at);
            }
        }
        Some(value.part(scan::trim(first)))
    }

    /// Replaces the topmost value, leaving the rest of a comma list behind it
    /// (`received` and `rport` on a Via).
    pub fn replace_first_value(&mut self, name: &HeaderName, value: impl Into<ByteStr>) {
        self.remove_first_value(name);
        self.insert_before(name.clone(), value);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &ByteStr)> {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Names and sizes alone: values are personal data.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|(name, value)| (name, value.len())))
            .finish()
    }
}

struct Values<'a> {
    whole: &'a ByteStr,
    rest: Option<&'a [u8]>,
    list: bool,
}

impl Iterator for Values<'_> {
    type Item = ByteStr;

    fn next(&mut self) -> Option<ByteStr> {
        let rest = self.rest.take()?;
        if !self.list {
            return Some(self.whole.part(scan::trim(rest)));
        }
        let (first, rest) = scan::split_first(rest, b',');
        self.rest = rest;
        Some(self.whole.part(scan::trim(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Headers {
        let mut headers = Headers::new();
        headers.push(HeaderName::To, "x");
        headers.push(HeaderName::Route, "<sip:a,b;lr> , <sip:c;lr>");
        headers.push(HeaderName::Route, "<sip:d;lr>");
        headers
    }

    #[test]
    fn values_come_out_of_lists_and_repeated_headers_in_order() {
        let headers = routes();
        let values: Vec<_> = headers.values(&HeaderName::Route).collect();
        assert!(values == ["<sip:a,b;lr>", "<sip:c;lr>", "<sip:d;lr>"]);
    }

    #[test]
    fn popping_takes_one_value_at_a_time() {
        let mut headers = routes();
        for expected in ["<sip:a,b;lr>", "<sip:c;lr>", "<sip:d;lr>"] {
            assert!(headers.remove_first_value(&HeaderName::Route).unwrap() == expected);
        }
        assert!(headers.remove_first_value(&HeaderName::Route).is_none());
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_new_topmost_value_stands_before_the_old_one() {
        let mut headers = routes();
        headers.replace_first_value(&HeaderName::Route, "<sip:new;lr>");
        headers.insert_before(HeaderName::Route, "<sip:top;lr>");
        let values: Vec<_> = headers.values(&HeaderName::Route).collect();
        assert!(values == ["<sip:top;lr>", "<sip:new;lr>", "<sip:c;lr>", "<sip:d;lr>"]);
    }

    #[test]
    fn setting_leaves_exactly_one() {
        let mut headers = routes();
        headers.set(HeaderName::Route, "<sip:only>");
        headers.set(HeaderName::Subject, "new");
        assert_eq!(headers.all(&HeaderName::Route).count(), 1);
        assert!(*headers.get(&HeaderName::Subject).unwrap() == "new");
    }

    #[test]
    fn a_comma_is_text_in_a_header_that_is_no_list() {
        let mut headers = Headers::new();
        headers.push(HeaderName::Subject, "one, two");
        headers.push(HeaderName::parse("X-Own"), "a, b");
        assert_eq!(headers.values(&HeaderName::Subject).count(), 1);
        assert_eq!(headers.values(&HeaderName::parse("x-own")).count(), 1);
    }

    #[test]
    fn debug_never_shows_a_value() {
        assert!(!format!("{:?}", routes()).contains("sip:"));
    }
}
