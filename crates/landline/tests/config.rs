//! What is shipped loads; what is wrong is named with its line; and the
//! reference names every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landline::config::{Config, ConfigError, Regions, subprocessors};
use landline_region::egress::Registry;
use serde_json::Value;

#[test]
fn every_shipped_file_loads() {
    set_environment();
    let mut seen = 0;
    for file in shipped() {
        let loaded = match file.file_name().unwrap().to_str().unwrap() {
            "regions.toml" => Regions::load(&file).map(drop),
            "subprocessors.toml" => subprocessors::load(&file).map(drop),
            _ => Config::load(&file).map(drop),
        };
        loaded.unwrap_or_else(|error| panic!("{error}"));
        seen += 1;
    }
    assert!(seen >= 9);
}

#[test]
fn the_shipped_regions_are_the_three_and_one_list_serves_them() {
    set_environment();
    let regions = Regions::load(&root().join("sipconf/regions.toml")).unwrap();
    for (code, jurisdiction) in [("us1", "US"), ("ie1", "IE"), ("au1", "AU")] {
        let config = Config::load(&root().join(format!("sipconf/{code}.toml"))).unwrap();
        assert_eq!(config.region.code.as_str(), code);
        assert_eq!(config.region.jurisdiction.to_string(), jurisdiction);
        let listed = regions.find(config.region.code).unwrap();
        let advertised = config.proxy.unwrap().inter_region.advertise.unwrap();
        assert_eq!(listed.proxies, [advertised]);
    }
}

#[test]
fn the_reference_names_every_key_with_its_default_and_no_other() {
    set_environment();
    let documented = documented();
    let everything = keys(&Config::load(&root().join("sipconf/everything.toml")).unwrap());
    let regions = Regions::load(&root().join("sipconf/regions.toml")).unwrap();
    let mut known: BTreeMap<String, Value> = everything;
    known.extend(keys(&regions));
    known.extend(keys(&listed()));

    let missing: Vec<_> = known.keys().filter(|key| !documented.contains_key(*key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
    let strangers: Vec<_> = documented.keys().filter(|key| !known.contains_key(*key)).collect();
    assert!(strangers.is_empty(), "docs/configuration.md names {strangers:?}, which do not exist");

    // What a file leaves out and has a value all the same is a default.
    let minimal = root().join("sipconf/minimal.toml");
    let given: toml::Table = std::fs::read_to_string(&minimal).unwrap().parse().unwrap();
    let given = keys(&given);
    for (key, value) in keys(&Config::load(&minimal).unwrap()) {
        let shown = match &value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !given.contains_key(&key) {
            assert_eq!(documented[&key], shown, "the default of {key} in docs/configuration.md");
        }
    }
}

#[test]
fn a_problem_is_named_with_its_file_and_line() {
    let cases = [
        ("transport = \"udp\"", "transport = \"sctp\"", "expected one of `udp`, `tcp`"),
        ("address = \"127.0.0.1:5060\"", "address = \"127.0.0.1\"", "wanted IP:PORT"),
        ("address = \"127.0.0.1:5060\"", "adress = \"127.0.0.1:5060\"", "unknown field `adress`"),
        ("ports = \"30000-30999\"", "ports = \"30999-30000\"", "wanted FIRST-LAST"),
        ("code = \"ie1\"", "code = \"dublin\"", "two lower-case letters and one or two digits"),
        ("code = \"ie1\"", "code = \"fr1\"", "known there: us1, ie1, au1"),
        ("jurisdiction = \"IE\"", "jurisdiction = \"US\"", "IE in"),
        ("url = \"sqlite:trial/database.sqlite\"", "url = \"mysql://x\"", "wanted `sqlite:PATH`"),
        (
            "control = \"127.0.0.1:5065\"",
            "control = \"127.0.0.1:5062\"",
            "is taken by proxy.inter_region",
        ),
        ("transport = \"udp\"", "transport = \"tls\"", "needs [proxy.tls]"),
        ("address = \"127.0.0.1:5062\"", "address = \"0.0.0.0:5062\"", "advertise"),
        ("name = \"ie1-relay-1\"\naddress", "name = \"relay 1\"\naddress", "letters, digits"),
        (
            "url = \"sqlite:trial/database.sqlite\"",
            "url_env = \"LANDLINE_NOT_SET\"",
            "LANDLINE_NOT_SET is not set",
        ),
        ("regions = \"regions.toml\"", "regions = \"absent.toml\"", "cannot be read"),
    ];
    for (right, wrong, wanted) in cases {
        let (error, line) = load_changed(right, wrong);
        let shown = error.to_string();
        assert!(shown.contains(wanted), "{wrong}: {shown}");
        assert!(shown.contains(&format!("changed.toml:{line}: ")), "{wrong} at {line}: {shown}");
    }
}

#[test]
fn a_syntax_error_is_named_with_its_line_and_every_other_problem_at_once() {
    let (error, line) = load_changed("transport = \"udp\"", "transport = udp");
    assert!(error.to_string().contains(&format!("changed.toml:{line}: ")), "{error}");

    let (error, _) = load_changed(
        "[proxy.inter_region]",
        "[proxy.registrar]\nmin_expires_seconds = 90\ndefault_expires_seconds = 60\n\n[proxy.limits]\nmax_calls = 0\n\n[proxy.inter_region]",
    );
    assert_eq!(error.problems.len(), 2, "{error}");
}

#[test]
fn proxies_that_stand_in_for_each_other_are_named_by_both() {
    let peer = |name: &str| {
        format!("[[proxy.peers]]\nname = \"{name}\"\naddress = \"p.ie1.example:5067\"\n\n")
    };
    let minimal = std::fs::read_to_string(root().join("sipconf/minimal.toml")).unwrap();
    let changed = |peering: &str, peers: &str| {
        let proxy = format!("[proxy]\n{peering}");
        minimal
            .replace("[proxy]\n", &proxy)
            .replace("[proxy.inter_region]", &format!("{peers}[proxy.inter_region]"))
    };
    let here = "peering = \"127.0.0.1:5067\"\n";
    let twice = peer("ie1-proxy-2") + &peer("IE1-proxy-2");
    for (text, wanted) in [
        (changed("", &peer("ie1-proxy-2")), Some("proxy.peering")),
        (changed(here, ""), Some("proxy.peers")),
        (changed(here, &peer("ie1-proxy-1")), Some("is this proxy")),
        (changed(here, &peer("proxy.2")), Some("cannot stand in a certificate")),
        (changed(here, &twice), Some("another peer has this name")),
        (changed(&here.replace("5067", "5065"), &peer("ie1-proxy-2")), Some("is taken by")),
        (changed(here, &peer("ie1-proxy-2")), None),
    ] {
        let shown = load_text(&text).map_err(|error| error.to_string());
        match wanted {
            Some(wanted) => assert!(shown.unwrap_err().contains(wanted), "{wanted}"),
            None => shown.unwrap(),
        }
    }
}

#[test]
fn ports_of_browsers_are_as_many_as_there_are_shards() {
    let minimal = std::fs::read_to_string(root().join("sipconf/minimal.toml")).unwrap();
    let ports = "ports = \"30000-30999\"\n";
    assert!(minimal.contains(ports) && !minimal.contains("shards"));
    for (more, wanted) in [
        ("ice_port = 3480\n", Some("relay.shards: wanted a number")),
        ("ice_port = 3480\nshards = 0\n", Some("relay.shards: wanted a number")),
        ("ice_port = 65534\nshards = 3\n", Some("relay.ice_port: wanted")),
        ("ice_port = 29999\nshards = 2\n", Some("lies within relay.ports")),
        ("ice_port = 29999\nshards = 1\n", None),
        ("shards = 0\n", None),
    ] {
        let text = minimal.replace(ports, &format!("{ports}{more}"));
        let shown = load_text(&text).map_err(|error| error.to_string());
        match wanted {
            Some(wanted) => {
                let shown = shown.unwrap_err();
                assert!(shown.contains(wanted), "{more}: {shown}");
            }
            None => shown.unwrap(),
        }
    }
}

#[test]
fn a_password_in_a_url_is_in_no_error() {
    for url in ["postgress://landline:hunter2@db/x", "postgres:/landline:hunter2@db/x"] {
        let (error, _) =
            load_changed("url = \"sqlite:trial/database.sqlite\"", &format!("url = \"{url}\""));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// The error of `minimal.toml` with one text replaced, and the line it stands on.
fn load_changed(right: &str, wrong: &str) -> (ConfigError, usize) {
    let text = std::fs::read_to_string(root().join("sipconf/minimal.toml")).unwrap();
    let at = text.find(right).unwrap_or_else(|| panic!("{right} is not in minimal.toml"));
    let error = load_text(&text.replacen(right, wrong, 1)).expect_err(wrong);
    (error, text[..at].matches('\n').count() + 1)
}

/// As a file beside the list of regions.
fn load_text(text: &str) -> Result<(), ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("sipconf/regions.toml"), dir.path().join("regions.toml")).unwrap();
    let file = dir.path().join("changed.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file).map(drop)
}

/// Every key, as `proxy.listen.address`, with its value. Tables stand for
/// their keys; so do the items of a list of tables.
fn keys(of: &impl serde::Serialize) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                    walk(&path, value, found);
                }
            }
            Value::Array(items) if items.iter().all(Value::is_object) => {
                items.into_iter().for_each(|item| walk(path, item, found));
            }
            value => {
                found.insert(path.to_owned(), value);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", serde_json::to_value(of).unwrap(), &mut found);
    found
}

/// The rows of the reference: key and default.
fn documented() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((key.to_owned(), cells.get(cells.len() - 2)?.to_string()))
        })
        .collect()
}

/// A registry of sub-processors with every key.
fn listed() -> Registry {
    let text = "version = 1\n[[subprocessors]]\nname = \"x\"\nhosts = [\"x\"]\nflows = [\"mail\"]\n\
                regions = [\"ie1\"]\npurpose = \"x\"\njurisdiction = \"IE\"\nsince = \"2026-11-22\"";
    toml::from_str(text).unwrap()
}

fn shipped() -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join("sipconf")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The variables that the shipped files name.
fn set_environment() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: every test that reads the environment comes through here first.
        unsafe {
            std::env::set_var("LANDLINE_DATABASE_URL", "postgres://landline@db.ie1.example/x");
            std::env::set_var("LANDLINE_DATABASE_PASSWORD", "not a real one");
        }
    });
}
