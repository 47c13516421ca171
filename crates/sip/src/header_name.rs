use std::fmt;
use std::hash::{Hash, Hasher};

use HeaderName::Other;

use crate::byte_str::ByteStr;

/// One row a header: variant, name, compact form (0: none), and whether its
/// grammar reads a comma as the start of the next value (RFC 3261 §7.3.1).
macro_rules! headers {
    ($($variant:ident $text:literal $compact:literal $list:literal;)*) => {
        /// A header's name: letter case does not matter, and a compact form is
        /// its long one.
        #[derive(Clone)]
        pub enum HeaderName {
            $($variant,)*
            /// As it was written.
            Other(ByteStr),
        }

        enum Place { $($variant),* }

        const KNOWN: &[Known] =
            &[$(Known { text: $text, compact: $compact, list: $list }),*];

        impl HeaderName {
            fn at(place: usize) -> Option<Self> {
                match place {
                    $(place if place == Place::$variant as usize => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn known_as(&self) -> Option<&'static Known> {
                match self {
                    $(Self::$variant => KNOWN.get(Place::$variant as usize),)*
                    Other(_) => None,
                }
            }
        }
    };
}

struct Known {
    text: &'static str,
    compact: u8,
    list: bool,
}

headers! {
    Accept "Accept" 0 true;
    AcceptEncoding "Accept-Encoding" 0 true;
    AcceptLanguage "Accept-Language" 0 true;
    AlertInfo "Alert-Info" 0 true;
    Allow "Allow" 0 true;
    AllowEvents "Allow-Events" b'u' true;
    AuthenticationInfo "Authentication-Info" 0 false;
    Authorization "Authorization" 0 false;
    CallId "Call-ID" b'i' false;
    CallInfo "Call-Info" 0 true;
    Contact "Contact" b'm' true;
    ContentDisposition "Content-Disposition" 0 false;
    ContentEncoding "Content-Encoding" b'e' true;
    ContentLanguage "Content-Language" 0 true;
    ContentLength "Content-Length" b'l' false;
    ContentType "Content-Type" b'c' false;
    CSeq "CSeq" 0 false;
    Date "Date" 0 false;
    Diversion "Diversion" 0 true;
    ErrorInfo "Error-Info" 0 true;
    Event "Event" b'o' false;
    Expires "Expires" 0 false;
    FlowTimer "Flow-Timer" 0 false;
    From "From" b'f' false;
    HistoryInfo "History-Info" 0 true;
    Identity "Identity" b'y' false;
    InReplyTo "In-Reply-To" 0 true;
    MaxForwards "Max-Forwards" 0 false;
    MimeVersion "MIME-Version" 0 false;
    MinExpires "Min-Expires" 0 false;
    MinSe "Min-SE" 0 false;
    Organization "Organization" 0 false;
    PAssertedIdentity "P-Asserted-Identity" 0 true;
    PPreferredIdentity "P-Preferred-Identity" 0 true;
    Path "Path" 0 true;
    Priority "Priority" 0 false;
    Privacy "Privacy" 0 false;
    ProxyAuthenticate "Proxy-Authenticate" 0 false;
    ProxyAuthorization "Proxy-Authorization" 0 false;
    ProxyRequire "Proxy-Require" 0 true;
    RAck "RAck" 0 false;
    Reason "Reason" 0 true;
    RecordRoute "Record-Route" 0 true;
    ReferSub "Refer-Sub" 0 false;
    ReferTo "Refer-To" b'r' false;
    ReferredBy "Referred-By" b'b' false;
    RemotePartyId "Remote-Party-ID" 0 true;
    Replaces "Replaces" 0 false;
    ReplyTo "Reply-To" 0 false;
    Require "Require" 0 true;
    RetryAfter "Retry-After" 0 false;
    Route "Route" 0 true;
    RSeq "RSeq" 0 false;
    Server "Server" 0 false;
    ServiceRoute "Service-Route" 0 true;
    SessionExpires "Session-Expires" b'x' false;
    SipEtag "SIP-ETag" 0 false;
    SipIfMatch "SIP-If-Match" 0 false;
    Subject "Subject" b's' false;
    SubscriptionState "Subscription-State" 0 false;
    Supported "Supported" b'k' true;
    Timestamp "Timestamp" 0 false;
    To "To" b't' false;
    Unsupported "Unsupported" 0 true;
    UserAgent "User-Agent" 0 false;
    Via "Via" b'v' true;
    Warning "Warning" 0 true;
    WwwAuthenticate "WWW-Authenticate" 0 false;
}

impl HeaderName {
    /// Any letter case, compact forms included.
    pub fn parse(text: &str) -> Self {
        Self::known(text.as_bytes()).unwrap_or_else(|| Self::Other(text.into()))
    }

    /// Looks a known name up without allocating.
    pub(crate) fn known(text: &[u8]) -> Option<Self> {
        if let [letter] = text {
            let letter = letter.to_ascii_lowercase();
            return Self::at(KNOWN.iter().position(|known| known.compact == letter)?);
        }
        let mut bucket = hash(text);
        loop {
            let place = BUCKETS.get(bucket).copied().filter(|place| *place != EMPTY)?;
            if KNOWN.get(place as usize)?.text.as_bytes().eq_ignore_ascii_case(text) {
                return Self::at(place as usize);
            }
            bucket = (bucket + 1) % BUCKETS.len();
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Other(name) => name.as_str().unwrap_or_default(),
            known => known.known_as().map_or("", |known| known.text),
        }
    }

    /// Whether the grammar reads a comma as the start of the next value. Of a
    /// header we do not know nobody can say.
    pub fn is_list(&self) -> bool {
        self.known_as().is_some_and(|known| known.list)
    }
}

const EMPTY: u8 = u8::MAX;

/// Open addressing over [`hash`], filled at compile time.
static BUCKETS: [u8; 256] = {
    let mut buckets = [EMPTY; 256];
    let mut place = 0;
    while place < KNOWN.len() {
        let mut bucket = hash(KNOWN[place].text.as_bytes());
        while buckets[bucket] != EMPTY {
            bucket = (bucket + 1) % 256;
        }
        buckets[bucket] = place as u8;
        place += 1;
    }
    buckets
};

/// Length and four letters tell the known names apart well enough.
const fn hash(text: &[u8]) -> usize {
    let len = text.len();
    if len < 2 {
        return len;
    }
    let a = (text[0] | 0x20) as usize;
    let b = (text[len / 2] | 0x20) as usize;
    let c = (text[len - 1] | 0x20) as usize;
    let d = (text[len - 2] | 0x20) as usize;
    (len.wrapping_mul(31) ^ a.wrapping_mul(7) ^ b.wrapping_mul(13) ^ c.wrapping_mul(53) ^ d) % 256
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Other(a), Other(b)) => a.as_bytes().eq_ignore_ascii_case(b.as_bytes()),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        if let Other(name) = self {
            name.as_bytes().iter().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a stranger calls a header is the stranger's text.
            Other(_) => f.write_str("(unknown header)"),
            known => f.write_str(known.as_str()),
        }
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_compact() {
        for (place, Known { text, compact, .. }) in KNOWN.iter().enumerate() {
            let name = HeaderName::at(place).unwrap();
            assert_eq!(name.as_str(), *text);
            assert_eq!(HeaderName::parse(text), name);
            assert_eq!(HeaderName::parse(&text.to_uppercase()), name);
            assert_eq!(HeaderName::parse(&text.to_lowercase()), name);
            if *compact != 0 {
                assert_eq!(HeaderName::parse(&(*compact as char).to_string()), name);
            }
        }
    }

    #[test]
    fn an_unknown_name_keeps_its_letters_and_compares_without_case() {
        let name = HeaderName::parse("X-Thing");
        assert_eq!(name.as_str(), "X-Thing");
        assert_eq!(name, HeaderName::parse("x-thing"));
        assert_ne!(name, HeaderName::parse("x-thing2"));
        assert_eq!(HeaderName::parse("z"), HeaderName::Other("z".into()));
    }
}
