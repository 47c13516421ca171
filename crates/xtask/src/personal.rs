//! Personal data that nobody declared, and ways out of a region that nobody
//! guards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landline_region::catalogue::FIELDS;

use crate::tidy::lines;

/// Files that may open a connection or write to a socket, and why that needs
/// no gate of its own or has one. Whatever else leaves a process goes through
/// these, and so through `landline_region::egress`.
const WAYS_OUT: &[(&str, &str)] = &[
    ("crates/proxy/src/advertise.rs", "asks the kernel for an address and sends nothing"),
    ("crates/proxy/src/connect.rs", "carriers and phones; other regions behind the gate"),
    ("crates/proxy/src/keeper", "the keeper on the same machine"),
    ("crates/proxy/src/listen.rs", "listeners"),
    ("crates/proxy/src/relay_link.rs", "relays of the region"),
    (
        "crates/proxy/src/replica_link.rs",
        "the region's other proxies, by certificates of the region",
    ),
    ("crates/proxy/src/resolve", "tests"),
    ("crates/proxy/src/resolve.rs", "the DNS servers that the configuration names"),
    ("crates/proxy/src/udp.rs", "carriers and phones"),
    ("crates/console/src/webhook/client.rs", "accounts' own addresses, behind the gate"),
    ("crates/relay/src", "media of calls"),
    ("crates/store/src/sql.rs", "the region's database"),
    ("crates/phone/src", "a softphone is no process of a region"),
    ("crates/conformance/src", "phones, a carrier and whoever sends nonsense, in namespaces"),
    ("crates/landline/src/demo", "the demo's callers"),
    ("crates/xtask", "tools"),
    ("crates/fuzz", "tools"),
];

/// Names of fields that speak of people. Where one holds plain text it is
/// declared as well, or stands in [`NOT_OF_PEOPLE`].
const OF_PEOPLE: &[&str] = &[
    "caller",
    "callee",
    "call_id",
    "contact",
    "device",
    "display",
    "display_name",
    "e164",
    "email",
    "from",
    "instance",
    "name",
    "number",
    "party",
    "password",
    "phone_number",
    "secret",
    "sip_call_id",
    "to",
    "user",
    "user_agent",
    "username",
];

/// Fields of such names that say nothing of people, and what they are.
const NOT_OF_PEOPLE: &[(&str, &str)] = &[
    ("Block.name", "a table of the database"),
    ("Column.name", "a column"),
    ("Counter.name", "a counter"),
    ("EgressLine.to", "a region or another kind of destination"),
    ("EgressTotal.to", "a region or the sid of a trunk"),
    ("Ended.name", "a relay"),
    ("Feature.name", "a feature of the product"),
    ("Field.name", "a field of the catalogue"),
    ("Greeting.name", "a proxy"),
    ("Hello.name", "a proxy or relay"),
    ("MappedField.name", "a field of the catalogue"),
    ("MoveView.from", "a relay"),
    ("MoveView.to", "a relay"),
    ("Owner.name", "a proxy"),
    ("Parameter.name", "a parameter of the API"),
    ("ProblemDocument.instance", "a request's own number"),
    ("Proxy.name", "a proxy"),
    ("ProxyConfig.name", "a proxy"),
    ("Relay.name", "a relay"),
    ("PeerLink.name", "a proxy"),
    ("Peering.name", "a proxy"),
    ("RelayLink.name", "a relay"),
    ("RequestName.name", "what a program calls its request, hashed before it is kept"),
    ("Subprocessor.name", "a company"),
    ("Table.name", "a table of the database"),
];

/// Where types are not what a region keeps: the wire's own forms, a softphone,
/// the demo's made-up people, tools and tests.
const NOT_KEPT: &[&str] = &[
    "crates/sip",
    "crates/phone",
    "crates/landline/src/demo",
    "crates/fuzz",
    "crates/xtask",
    "crates/conformance",
    "crates/sim",
    "crates/residency",
];

/// What opens a connection or a socket that can send.
const OPENS: &[&str] = &[
    "TcpStream::connect",
    "TcpSocket::new",
    "UdpSocket::bind",
    "Socket::new(",
    "UnixStream::connect",
    "connect_async(",
    "reqwest::",
    "hyper_util::client",
    "hyper::client",
];

/// Fields of structs and enums that hold `Personal` or `Secret` and stand in no
/// field's `held`; and what stands there and does not exist.
pub fn undeclared(files: &[PathBuf]) -> Vec<String> {
    let declared: BTreeSet<&str> =
        FIELDS.iter().flat_map(|field| field.held.iter().copied()).collect();
    let found: Vec<Held> = lines(files, is_source).fold(Scan::default(), Scan::line).found;
    let mut faults: Vec<String> = found
        .iter()
        .filter(|held| held.personal && !declared.contains(held.name.as_str()))
        .map(|held| held.fault("is personal and named by no field of crates/region/src/catalogue"))
        .collect();
    let excused = |name: &str| NOT_OF_PEOPLE.iter().any(|(known, _)| *known == name);
    faults.extend(
        found
            .iter()
            .filter(|held| held.sounds_personal() && !held.personal)
            .filter(|held| !declared.contains(held.name.as_str()) && !excused(&held.name))
            .map(|held| {
                held.fault(
                    "sounds personal and is plain text: name it in crates/region/src/catalogue, \
                     or say in crates/xtask/src/personal.rs what else it is",
                )
            }),
    );
    let names: BTreeSet<&str> = found.iter().map(|held| held.name.as_str()).collect();
    faults.extend(
        declared
            .iter()
            .filter(|name| !names.contains(*name))
            .map(|name| format!("the catalogue names `{name}`, which no struct has")),
    );
    faults
}

/// Connections that are opened where the egress gate does not see them.
pub fn ways_out(files: &[PathBuf]) -> Vec<String> {
    lines(files, is_source)
        .filter(|(file, ..)| !WAYS_OUT.iter().any(|(known, _)| file.starts_with(known)))
        .filter_map(|(file, number, line)| {
            let opens = OPENS.iter().find(|pattern| line.contains(*pattern))?;
            Some(format!(
                "{}:{number}: `{opens}` outside the files that the egress gate covers: ask \
                 `egress::Gate::decide` there, and name the file in crates/xtask/src/personal.rs",
                file.display()
            ))
        })
        .collect()
}

fn is_source(file: &Path) -> bool {
    file.starts_with("crates")
        && file.components().any(|part| part.as_os_str() == "src")
        && file.extension().is_some_and(|extension| extension == "rs")
}

/// One field of a struct or of an enum's variant, as `User.name`.
#[derive(Debug)]
struct Held {
    file: PathBuf,
    line: usize,
    name: String,
    personal: bool,
    /// Holds text that nothing redacts.
    plain: bool,
}

impl Held {
    fn fault(&self, what: &str) -> String {
        format!("{}:{}: `{}` {what}", self.file.display(), self.line, self.name)
    }

    fn sounds_personal(&self) -> bool {
        let field = self.name.rsplit('.').next().unwrap_or_default();
        self.plain
            && OF_PEOPLE.contains(&field)
            && !NOT_KEPT.iter().any(|it| self.file.starts_with(it))
    }
}

/// Follows type definitions as rustfmt lays them out: a definition ends with a
/// brace that is as far in as its beginning.
#[derive(Default)]
struct Scan {
    /// The definition that the line stands in: indentation and name.
    inside: Option<(usize, String)>,
    found: Vec<Held>,
}

impl Scan {
    fn line(mut self, (file, number, line): (&Path, usize, String)) -> Self {
        let indentation = line.len() - line.trim_start().len();
        let code = line.trim();
        if let Some((outer, name)) = self.inside.clone() {
            if code.starts_with('}') && indentation == outer {
                self.inside = None;
            } else {
                self.fields(file, number, &name, code);
            }
            return self;
        }
        let Some((name, rest)) = definition(code) else { return self };
        // The module that defines the types wraps a bare value itself.
        if file.starts_with("crates/region/src/personal.rs") {
            return self;
        }
        let one_line = rest.trim_end().ends_with([';', '}']) && !rest.trim_end().ends_with("{}");
        match one_line {
            true => self.fields(file, number, name, rest),
            false if rest.trim_end().ends_with('{') => {
                self.inside = Some((indentation, name.to_owned()));
            }
            false => {}
        }
        self
    }

    fn fields(&mut self, file: &Path, line: usize, of: &str, code: &str) {
        let personal = |text: &str| text.contains("Personal<") || text.contains("Secret<");
        let mut named = false;
        for (at, _) in code.match_indices(": ") {
            let name: String = code[..at]
                .chars()
                .rev()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let name: String = name.chars().rev().collect();
            if name.is_empty() {
                continue;
            }
            named = true;
            let rest = code.get(at + 2..).unwrap_or_default();
            let until = rest.find(": ").unwrap_or(rest.len());
            let kind = rest.get(..until).unwrap_or_default();
            self.found.push(Held {
                file: file.to_owned(),
                line,
                name: format!("{of}.{name}"),
                personal: personal(kind),
                plain: ["String", "str>", "&'a str", "&'static str", "ByteStr"]
                    .iter()
                    .any(|text| kind.contains(text)),
            });
        }
        // A tuple's field has no name of its own: the type's stands for it.
        if !named && personal(code) {
            let (file, name) = (file.to_owned(), of.to_owned());
            self.found.push(Held { file, line, name, personal: true, plain: false });
        }
    }
}

/// The name of the struct or enum that a line begins, and what follows it.
fn definition(code: &str) -> Option<(&str, &str)> {
    let code = match code.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ")?.1,
        None => code.strip_prefix("pub ").unwrap_or(code),
    };
    let rest = code.strip_prefix("struct ").or_else(|| code.strip_prefix("enum "))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    Some(rest.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<String> {
        let lines = text.lines().enumerate();
        let scan = lines.fold(Scan::default(), |scan, (index, line)| {
            scan.line((Path::new("crates/x/src/a.rs"), index + 1, line.to_owned()))
        });
        scan.found.into_iter().filter(|held| held.personal).map(|held| held.name).collect()
    }

    #[test]
    fn personal_fields_of_structs_variants_and_tuples_are_found() {
        let text = "
pub(crate) struct Person<'a> {
    pub name: Option<Personal<&'a str>>,
    pub age: u8,
    secret: Secret<String>,
}

enum Change {
    Put(Box<Person>),
    Remove { user: u64, uri: Personal<String> },
}

struct Wrapped(Personal<String>);
struct Unit;
pub struct Short { pub name: Personal<String> }

fn outside(name: Personal<String>) {}
";
        assert_eq!(
            scan(text),
            ["Person.name", "Person.secret", "Change.uri", "Wrapped", "Short.name"]
        );
    }

    #[test]
    fn plain_text_of_people_is_found_by_its_name() {
        let held = |file: &str, name: &str, plain| Held {
            file: file.into(),
            line: 1,
            name: name.to_owned(),
            personal: false,
            plain,
        };
        assert!(held("crates/store/src/a.rs", "Row.password", true).sounds_personal());
        assert!(!held("crates/store/src/a.rs", "Row.password", false).sounds_personal());
        assert!(!held("crates/store/src/a.rs", "Row.codec", true).sounds_personal());
        assert!(!held("crates/sip/src/a.rs", "Uri.user", true).sounds_personal());
        let text = "struct Row {\n    number: Option<String>,\n    count: u64,\n}\n";
        let lines = text.lines().enumerate();
        let scan = lines.fold(Scan::default(), |scan, (index, line)| {
            scan.line((Path::new("crates/store/src/a.rs"), index, line.to_owned()))
        });
        let plain: Vec<_> = scan.found.iter().filter(|held| held.sounds_personal()).collect();
        assert_eq!(plain.len(), 1, "{plain:?}");
    }

    #[test]
    fn a_connection_opened_anywhere_else_is_named() {
        let here = PathBuf::from("crates/xtask/src/personal.rs");
        assert!(ways_out(std::slice::from_ref(&here)).is_empty(), "tools are no way out");
        assert!(OPENS.iter().any(|pattern| "TcpStream::connect(addr)".contains(pattern)));
    }
}
