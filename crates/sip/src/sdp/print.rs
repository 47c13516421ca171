use std::fmt;

use bytes::Bytes;

use super::{Attribute, Bandwidth, Connection, Line, Media, SessionDescription};

impl SessionDescription {
    /// In the order of RFC 8866 §5.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = &self.origin;
        let origin = [
            &origin.username,
            &origin.session_id,
            &origin.session_version,
            &origin.net_type,
            &origin.address_type,
            &origin.address,
        ];
        line(f, 'v', "0")?;
        line(f, 'o', &origin.map(|word| clean(word)).join(" "))?;
        line(f, 's', if self.name.is_empty() { "-" } else { &self.name })?;
        others(f, &self.other, |kind| matches!(kind, 'i' | 'u' | 'e' | 'p'))?;
        connection(f, self.connection.as_ref())?;
        bandwidth(f, &self.bandwidth)?;
        if self.times.is_empty() {
            line(f, 't', "0 0")?;
        }
        for time in &self.times {
            line(f, 't', &format!("{} {}", time.start, time.stop))?;
            for repeat in &time.repeats {
                line(f, 'r', repeat)?;
            }
        }
        others(f, &self.other, |kind| !matches!(kind, 'i' | 'u' | 'e' | 'p'))?;
        attributes(f, &self.attributes)?;
        self.media.iter().try_for_each(|media| fmt::Display::fmt(media, f))
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.port_count.map_or(String::new(), |count| format!("/{count}"));
        let formats = self.formats.join(" ");
        line(f, 'm', &format!("{} {}{count} {} {formats}", self.kind, self.port, self.protocol))?;
        others(f, &self.other, |kind| kind == 'i')?;
        connection(f, self.connection.as_ref())?;
        bandwidth(f, &self.bandwidth)?;
        others(f, &self.other, |kind| kind != 'i')?;
        attributes(f, &self.attributes)
    }
}

fn connection(f: &mut fmt::Formatter<'_>, connection: Option<&Connection>) -> fmt::Result {
    let Some(Connection { net_type, address_type, address }) = connection else { return Ok(()) };
    line(f, 'c', &format!("{net_type} {address_type} {address}"))
}

fn bandwidth(f: &mut fmt::Formatter<'_>, all: &[Bandwidth]) -> fmt::Result {
    all.iter().try_for_each(|one| line(f, 'b', &format!("{}:{}", one.kind, one.value)))
}

fn attributes(f: &mut fmt::Formatter<'_>, all: &[Attribute]) -> fmt::Result {
    all.iter().try_for_each(|attribute| match &attribute.value {
        None => line(f, 'a', &attribute.name),
        Some(value) => line(f, 'a', &format!("{}:{value}", attribute.name)),
    })
}

fn others(f: &mut fmt::Formatter<'_>, all: &[Line], wanted: fn(char) -> bool) -> fmt::Result {
    all.iter()
        .filter(|other| wanted(other.kind) && other.kind.is_ascii_alphabetic())
        .try_for_each(|other| line(f, other.kind, &other.value))
}

/// Nothing a value holds can begin a line of its own.
fn line(f: &mut fmt::Formatter<'_>, kind: char, value: &str) -> fmt::Result {
    write!(f, "{kind}={}\r\n", clean(value))
}

fn clean(value: &str) -> String {
    value.chars().map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c }).collect()
}
