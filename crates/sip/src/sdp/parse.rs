use super::{Attribute, Bandwidth, Connection, Line, Media, Origin, SessionDescription, Time};
use crate::limits::Limits;

/// Where a description stops making sense. Never repeats its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {problem}")]
pub struct SdpError {
    /// From 1.
    pub line: usize,
    pub problem: &'static str,
}

/// Reads a description. Line ends may lack their CR and the order of lines
/// within a section is not insisted on (RFC 8866 §5 asks for tolerance of the
/// former; real phones need the latter).
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<SessionDescription, SdpError> {
    if bytes.len() > limits.max_body {
        return Err(SdpError { line: 1, problem: "the description is larger than we take" });
    }
    let mut reader = Reader::new(limits);
    let mut lines = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // White space behind the last line is read over.
        if line.is_empty() {
            continue;
        }
        lines = index + 1;
        if lines > limits.max_sdp_lines {
            return Err(SdpError { line: lines, problem: "more lines than we take" });
        }
        reader.read(line).map_err(|problem| SdpError { line: lines, problem })?;
    }
    reader.finish().map_err(|problem| SdpError { line: lines.max(1), problem })
}

struct Reader<'a> {
    limits: &'a Limits,
    version: bool,
    origin: Option<Origin>,
    name: Option<String>,
    session: Section,
    times: Vec<Time>,
    media: Vec<Media>,
}

/// What both levels have.
#[derive(Default)]
struct Section {
    connection: Option<Connection>,
    bandwidth: Vec<Bandwidth>,
    attributes: Vec<Attribute>,
    other: Vec<Line>,
}

impl<'a> Reader<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            version: false,
            origin: None,
            name: None,
            session: Section::default(),
            times: Vec::new(),
            media: Vec::new(),
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err("a CR or NUL stands inside the line");
        }
        let [kind, b'=', value @ ..] = line else { return Err("the line is not type=value") };
        if !kind.is_ascii_alphabetic() {
            return Err("the line's type is no letter");
        }
        // Text of another character set costs us that text, not the call.
        let value = String::from_utf8_lossy(value);
        if !self.version && *kind != b'v' {
            return Err("the description does not begin with its version");
        }
        match (*kind, self.media.last_mut()) {
            (b'm', _) => self.read_media(&value),
            (_, Some(media)) => read_media_line(media, *kind, &value),
            (b'v', None) => self.read_version(&value),
            (b'o', None) => set_once(&mut self.origin, read_origin(&value)?),
            (b's', None) => set_once(&mut self.name, value.into_owned()),
            (b't', None) => {
                self.times.push(read_time(&value)?);
                Ok(())
            }
            (b'r', None) => {
                let time = self.times.last_mut().ok_or("a repetition stands before any time")?;
                time.repeats.push(value.into_owned());
                Ok(())
            }
            (kind, None) => self.session.read(kind, &value),
        }
    }

    fn read_version(&mut self, value: &str) -> Result<(), &'static str> {
        match (self.version, value.trim_end()) {
            (false, "0") => {
                self.version = true;
                Ok(())
            }
            (true, _) => Err("the version stands twice"),
            _ => Err("the version is not 0"),
        }
    }

    fn read_media(&mut self, value: &str) -> Result<(), &'static str> {
        if self.media.len() == self.limits.max_sdp_media {
            return Err("more media than we take");
        }
        let mut words = words(value);
        let kind = words.next().ok_or("the media line is empty")?;
        let port = words.next().ok_or("the media line has no port")?;
        let protocol = words.next().ok_or("the media line has no protocol")?;
        let formats: Vec<_> = words.map(str::to_owned).collect();
        if formats.is_empty() {
            return Err("the media line has no format");
        }
        // RTP has 128 payload types.
        if formats.len() > 128 {
            return Err("the media line has more formats than we take");
        }
        let (port, count) = match port.split_once('/') {
            Some((port, count)) => {
                (port, Some(digits(count).ok_or("the port count is no number")?))
            }
            None => (port, None),
        };
        let port = digits(port).ok_or("the media port is not within 0 to 65535")?;
        self.media.push(Media { port_count: count, ..Media::new(kind, port, protocol, formats) });
        Ok(())
    }

    fn finish(self) -> Result<SessionDescription, &'static str> {
        Ok(SessionDescription {
            origin: self.origin.ok_or("the description has no origin")?,
            // Required by the grammar and left out by some; nothing depends
            // on it.
            name: self.name.unwrap_or_else(|| "-".into()),
            connection: self.session.connection,
            bandwidth: self.session.bandwidth,
            times: self.times,
            attributes: self.session.attributes,
            media: self.media,
            other: self.session.other,
        })
    }
}

fn read_media_line(media: &mut Media, kind: u8, value: &str) -> Result<(), &'static str> {
    match kind {
        b'c' if media.connection.is_none() => media.connection = Some(read_connection(value)?),
        b'b' => media.bandwidth.push(read_bandwidth(value)?),
        b'a' => media.attributes.push(read_attribute(value)?),
        b'v' | b'o' | b's' | b't' | b'r' => {
            return Err("a session's line stands below a media line");
        }
        _ => media.other.push(Line { kind: kind.into(), value: value.to_owned() }),
    }
    Ok(())
}

impl Section {
    fn read(&mut self, kind: u8, value: &str) -> Result<(), &'static str> {
        match kind {
            b'c' => return set_once(&mut self.connection, read_connection(value)?),
            b'b' => self.bandwidth.push(read_bandwidth(value)?),
            b'a' => self.attributes.push(read_attribute(value)?),
            _ => self.other.push(Line { kind: kind.into(), value: value.to_owned() }),
        }
        Ok(())
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("a line that may stand once stands twice"),
    }
}

fn read_origin(value: &str) -> Result<Origin, &'static str> {
    let words: Vec<_> = words(value).collect();
    let [username, id, version, net_type, address_type, address] = words[..] else {
        return Err("the origin does not have six parts");
    };
    if !is_digits(id) || !is_digits(version) {
        return Err("the origin's id or version is no number");
    }
    Ok(Origin {
        username: username.into(),
        session_id: id.into(),
        session_version: version.into(),
        net_type: net_type.into(),
        address_type: address_type.into(),
        address: address.into(),
    })
}

fn read_connection(value: &str) -> Result<Connection, &'static str> {
    let words: Vec<_> = words(value).collect();
    let [net_type, address_type, address] = words[..] else {
        return Err("the connection does not have three parts");
    };
    Ok(Connection {
        net_type: net_type.into(),
        address_type: address_type.into(),
        address: address.into(),
    })
}

fn read_bandwidth(value: &str) -> Result<Bandwidth, &'static str> {
    let (kind, value) = value.split_once(':').ok_or("the bandwidth has no value")?;
    let value = digits(value.trim()).ok_or("the bandwidth is no number")?;
    let kind = kind.trim();
    if kind.is_empty() {
        return Err("the bandwidth has no type");
    }
    Ok(Bandwidth { kind: kind.into(), value })
}

fn read_time(value: &str) -> Result<Time, &'static str> {
    let words: Vec<_> = words(value).collect();
    match words[..] {
        [start, stop] if is_digits(start) && is_digits(stop) => {
            Ok(Time { start: start.into(), stop: stop.into(), repeats: Vec::new() })
        }
        _ => Err("the time is not two numbers"),
    }
}

fn read_attribute(value: &str) -> Result<Attribute, &'static str> {
    let (name, value) = match value.split_once(':') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (value.trim_end(), None),
    };
    if name.is_empty() {
        return Err("the attribute has no name");
    }
    Ok(Attribute { name: name.to_owned(), value })
}

/// The grammar separates by single spaces; more of them are read over.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(' ').filter(|word| !word.is_empty())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn digits<N: TryFrom<u64>>(text: &str) -> Option<N> {
    crate::scan::number(text.as_bytes())
}
