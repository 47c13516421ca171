//! Admin commands on regions whose processes do not run: what they answer,
//! where they write, and how they refuse.

mod common;

use common::{Answer, Regions, landline};
use serde_json::{Value, json};

#[test]
fn an_account_is_written_into_its_home_region_and_into_no_other() {
    let regions = Regions::new();
    let account =
        regions.json(&["account", "create", "Acme", "--domain", "Acme.Test", "--region", "ie1"]);
    assert_eq!(account["domain"], "acme.test");
    assert_eq!(account["home_region"], "ie1");
    assert_eq!(account["contracting_entity"], "Landline Ireland Ltd");
    let listed = |code: &str| regions.in_region(code, &["account", "list"]).json();
    assert_eq!(listed("ie1"), json!([account]));
    assert_eq!(listed("us1"), json!([]));
}

#[test]
fn a_command_for_an_account_of_another_region_says_where_to_go() {
    let regions = Regions::new();
    regions.json(&["account", "create", "acme", "--domain", "acme.test", "--region", "ie1"]);
    let us1 = regions.config("us1");
    for command in [
        "user list acme.test",
        "account show acme.test",
        "user add acme.test dave",
        "calls list acme.test",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.extend(["--config", &us1]);
        let Answer { code, out, err } = landline(&arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{command}");
        for wanted in ["acme.test", "region ie1", "us1", "--config"] {
            assert!(err.contains(wanted), "{command}: {err}");
        }
    }
    let refused = regions
        .in_region("us1", &["account", "create", "x", "--domain", "x.test", "--region", "ie1"]);
    assert!(refused.code == 1 && refused.err.contains("region ie1"), "{}", refused.err);
}

#[test]
fn the_register_shows_what_really_left() {
    let regions = Regions::new();
    regions.json(&["account", "create", "Acme", "--domain", "acme.test", "--region", "ie1"]);
    let flows = |code: &str| {
        let register = regions.in_region(code, &["residency", "register"]).json();
        assert_eq!(register[0]["head"]["region"], code);
        register[0]["flows"].clone()
    };
    let written = flows("ie1");
    let entry = |it: &&Value| it["flow"] == "directory" && it["verdict"] == "passed";
    let line = written.as_array().unwrap().iter().find(entry).expect("the account's entry");
    assert_eq!(line["destination"], "directory");
    assert!(line["count"].as_u64().unwrap() >= 1, "{line}");
    assert!(!written.to_string().contains("Acme"), "{written}");
    assert_eq!(regions.in_region("ie1", &["residency", "subprocessors"]).json(), json!([]));
}

#[test]
fn the_data_map_needs_no_region() {
    let answer = landline(&["residency", "map"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    assert!(answer.out.starts_with("# Data map"), "{}", answer.out);
    let fields = landline(&["residency", "map", "--json"]).json();
    let number = fields["fields"].as_array().unwrap().iter().find(|it| it["name"] == "number");
    let leaves = &number.unwrap()["leaves"];
    assert!(
        leaves.as_array().unwrap().contains(&json!({"flow": "directory", "form": "pseudonym"}))
    );
}

#[test]
fn users_numbers_and_trunks_come_and_go() {
    let regions = Regions::new();
    regions.json(&["account", "create", "acme", "--domain", "acme.test", "--region", "ie1"]);
    let dave = regions.json(&[
        "user",
        "add",
        "acme.test",
        "dave",
        "--number",
        "+35315550100",
        "--media",
        "sdes",
        "--record",
        "all",
    ]);
    assert_eq!(dave["uri"], "sip:dave@acme.test");
    assert_eq!(dave["number"], "+35315550100");
    assert_eq!((&dave["media"], &dave["recording"]), (&json!("sdes"), &json!("all")));

    let changed = regions.json(&[
        "user",
        "set",
        "acme.test",
        "dave",
        "--media",
        "webrtc",
        "--record",
        "account",
    ]);
    assert_eq!((&changed["media"], &changed["recording"]), (&json!("webrtc"), &Value::Null));

    let trunk = regions.json(&[
        "trunk",
        "add",
        "acme.test",
        "carrier",
        "--send-to",
        "udp:carrier.example:5060",
        "--accept-from",
        "192.0.2.0/24",
        "--accept-from",
        "198.51.100.7",
        "--media",
        "rtp",
        "--username",
        "acme",
        "--password",
        "hunter22",
    ]);
    assert_eq!(trunk["accept_from"], json!(["192.0.2.0/24", "198.51.100.7/32"]));
    assert!(!trunk.to_string().contains("hunter22"), "{trunk}");

    let number =
        regions.json(&["number", "add", "acme.test", "+35315550101", "--to", "trunk:carrier"]);
    assert_eq!(number["to"], "trunk:carrier");
    let numbers = regions.json(&["number", "list", "acme.test"]);
    assert_eq!(numbers.as_array().unwrap().len(), 2, "{numbers}");

    regions.json(&["number", "remove", "acme.test", "+35315550101"]);
    regions.json(&["trunk", "remove", "acme.test", "carrier"]);
    regions.json(&["user", "remove", "acme.test", "dave"]);
    for list in ["number", "trunk", "user"] {
        assert_eq!(regions.json(&[list, "list", "acme.test"]), json!([]), "{list}");
    }
}

#[test]
fn a_generated_password_is_printed_once_and_a_given_one_never() {
    let regions = Regions::new();
    regions.json(&["account", "create", "acme", "--domain", "acme.test", "--region", "ie1"]);
    let made = regions.json(&["user", "add", "acme.test", "dave"]);
    let password = made["password"].as_str().unwrap();
    assert_eq!(password.len(), 20);
    let given = regions.json(&["user", "add", "acme.test", "erin", "--password", "correct horse"]);
    assert_eq!(given.get("password"), None);
    let again = regions.json(&["user", "set", "acme.test", "dave", "--new-password"]);
    assert_ne!(again["password"], made["password"]);

    let listed = regions.run(&["user", "list", "acme.test", "--json"]).out;
    assert!(!listed.contains(password) && !listed.contains("correct horse"), "{listed}");
    let on_disk = std::fs::read(regions.dir("ie1").join("database.sqlite")).unwrap();
    assert!(!contains(&on_disk, password.as_bytes()) && !contains(&on_disk, b"correct horse"));
}

#[test]
fn regions_are_listed_and_added() {
    let regions = Regions::new();
    regions.json(&[
        "region",
        "add",
        "de1",
        "--jurisdiction",
        "DE",
        "--proxy",
        "proxy.de1.example:5062",
    ]);
    let listed = regions.json(&["region", "list"]);
    let codes: Vec<&str> =
        listed.as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["au1", "de1", "ie1", "us1"]);
    assert_eq!(listed[1]["jurisdiction"], "DE");
    assert_eq!(listed[1]["proxies"], json!(["proxy.de1.example:5062"]));
}

#[test]
fn two_processes_may_make_a_new_region_at_the_same_moment() {
    let regions = Regions::new();
    let config = regions.config("ie1");
    let list = || {
        std::thread::spawn({
            let config = config.clone();
            move || landline(&["account", "list", "--json", "--config", &config])
        })
    };
    for answer in [list(), list(), list(), list()].map(|running| running.join().unwrap()) {
        assert_eq!((answer.code, answer.out.trim()), (0, "[]"), "{}", answer.err);
    }
}

#[test]
fn tables_are_for_people_and_without_colour_in_a_pipe() {
    let regions = Regions::new();
    assert_eq!(regions.run(&["account", "list"]).out, "no accounts\n");
    regions.json(&["account", "create", "Acme Ltd", "--domain", "acme.test", "--region", "ie1"]);
    let table = regions.run(&["account", "list"]).out;
    let (heading, row) = table.split_once('\n').unwrap();
    assert!(heading.starts_with("DOMAIN     NAME      HOME REGION"), "{table}");
    assert!(row.starts_with("acme.test  Acme Ltd  ie1"), "{table}");
    assert!(!table.contains('\x1b'), "{table}");
}

#[test]
fn a_database_or_a_key_ring_of_another_region_is_refused_by_name() {
    let regions = Regions::new();
    for code in ["ie1", "us1"] {
        assert_eq!(regions.in_region(code, &["account", "list"]).code, 0);
    }
    let (ie1, us1) = (regions.dir("ie1"), regions.dir("us1"));
    std::fs::copy(ie1.join("keys.json"), us1.join("keys.json")).unwrap();
    let refused = regions.in_region("us1", &["account", "list"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("key ring") && refused.err.contains("belongs to region ie1"),
        "{}",
        refused.err
    );

    std::fs::remove_file(us1.join("keys.json")).unwrap();
    let config = regions.config("us1");
    let missing = regions.in_region("us1", &["account", "list"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("keys.json does not exist"), "{}", missing.err);

    assert_eq!(landline(&["keys", "create", "--config", &config]).code, 0);
    for file in ["database.sqlite", "database.sqlite-wal", "database.sqlite-shm"] {
        let _ = std::fs::remove_file(us1.join(file));
        let _ = std::fs::copy(ie1.join(file), us1.join(file));
    }
    let refused = regions.in_region("us1", &["account", "list"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("database") && refused.err.contains("belongs to region ie1"),
        "{}",
        refused.err
    );
}

#[test]
fn what_is_not_there_is_a_failure_and_what_is_mistyped_a_mistake_of_usage() {
    let regions = Regions::new();
    regions.json(&["account", "create", "acme", "--domain", "acme.test", "--region", "ie1"]);
    for (command, named) in [
        ("account show nobody.test", "nobody.test"),
        ("user set acme.test nobody --media rtp", "user"),
        ("calls show CA00000000000000000000000000000000", "CA00000000000000000000000000000000"),
        ("number remove acme.test +35315550100", "number"),
        ("account create again --domain acme.test --region us1", "acme.test"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let Answer { code, err, .. } = regions.run(&arguments);
        assert!(code == 1 && err.contains(named), "{command}: {code} {err}");
    }
    for command in ["user list acme.test", "calls show CA1", "account frobnicate"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let Answer { code, err, .. } = landline(&arguments);
        assert!(code == 2 && !err.is_empty(), "{command}: {code} {err}");
    }
}

#[test]
fn a_file_is_checked_with_the_files_it_names() {
    let regions = Regions::new();
    let config = regions.config("ie1");
    let missing = landline(&["config", "check", &config]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.err.contains("proxy.identity.key") && missing.err.contains("pki init"),
        "{}",
        missing.err
    );
    let json = landline(&["config", "check", &config, "--json"]);
    assert_eq!((json.code, &json.json()["ok"]), (1, &json!(false)));

    regions.make_certificates();
    let checked = landline(&["config", "check", &config, "--json"]).json();
    assert_eq!(checked["ok"], true);
    assert_eq!(
        (&checked["region"], &checked["roles"]),
        (&json!("ie1"), &json!(["proxy", "relay"]))
    );
}

#[test]
fn a_role_refuses_to_start_without_its_files_or_its_part_of_the_configuration() {
    let regions = Regions::new();
    let config = regions.config("ie1");
    for role in ["up", "proxy", "relay"] {
        let refused = landline(&[role, "--config", &config]);
        assert!(
            refused.code == 1 && refused.err.contains(".pem cannot be read"),
            "{}",
            refused.err
        );
    }
    let absent = landline(&["up", "--config", "/nowhere/ie1.toml"]);
    assert!(
        absent.code == 1 && absent.err.contains("/nowhere/ie1.toml: cannot be read"),
        "{}",
        absent.err
    );
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
