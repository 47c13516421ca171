//! The demo, as a person runs it.

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Answer, Running, base_port, command, get, landline};
use landline_phone::{Phone, PhoneConfig};
use serde_json::Value;
use tempfile::TempDir;

const HOMES: [(&str, &str); 3] =
    [("acme.test", "ie1"), ("globex.test", "us1"), ("southern.test", "au1")];

#[test]
fn every_tone_is_heard_and_every_record_lies_in_its_home_region_and_in_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let answer = once(dir.path(), &base_port().to_string());
    assert_eq!(answer.code, 0, "{}\n{}", answer.out, answer.err);
    let document = answer.json();
    assert_eq!(document["ok"], true);

    for (domain, home) in HOMES {
        let call = calls(&document).find(|call| call["domain"] == domain).unwrap();
        assert_eq!(call["region"], home);
        let heard = |who: &str| call["heard"][who]["heard_hz"].as_f64().unwrap();
        let sent = |who: &str| call["heard"][who]["expected_hz"].as_f64().unwrap();
        assert!((heard("alice") - sent("alice")).abs() < 12.0, "{call}");
        assert!((heard("bob") - sent("bob")).abs() < 12.0, "{call}");
        assert!((sent("alice") - sent("bob")).abs() > 50.0, "two tones that cannot be confused");

        for key in ["record", "recording"] {
            let sid = call[key].as_str().unwrap();
            for (_, region) in HOMES {
                let there = stored(&dir.path().join(region), sid);
                assert_eq!(there, region == home, "{key} of {domain} in {region}");
            }
        }
        let shown = landline(&[
            "calls",
            "show",
            call["record"].as_str().unwrap(),
            "--json",
            "--config",
            &config(&dir, home),
        ]);
        let record = shown.json();
        assert_eq!(record["cause"], "caller_hung_up", "{record}");
        assert_eq!(record["storage_region"], home);
        assert_eq!(record["media_region"], home);
        assert_eq!(record["recording"], call["recording"]);
    }
    a_recording_is_exported_with_a_tone_in_each_channel(&dir, &document);
    the_ledger_balances(&dir);
    each_call_has_a_receipt_that_is_checked_without_its_region(&dir, &document);
    a_receipt_is_held_to_the_key_that_is_pinned(&dir, &document);
    a_recording_is_deleted_with_a_statement(&dir, &document);
}

#[test]
fn the_info_file_says_what_was_started_and_commands_take_effect_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = base_port();
    let demo = Demo::start(dir.path(), base);
    let info = demo.info();
    the_info_file_has_its_shape(&info, dir.path(), base);
    health_and_metrics_are_served_without_personal_data(&info, base);

    let taken = once(&dir.path().join("another"), &base.to_string());
    assert!(
        taken.code == 1
            && taken.err.contains(&format!("port {base}"))
            && taken.err.contains("--base-port"),
        "{}",
        taken.err
    );
    let same = once(dir.path(), &(base + 4000).to_string());
    assert!(same.code == 1 && same.err.contains("another demo runs in"), "{}", same.err);

    a_new_user_can_register_within_a_second(dir.path(), &info);
    let listed =
        landline(&["calls", "list", "--json", "--data", dir.path().to_str().unwrap()]).json();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");

    assert_eq!(demo.running.stop(), Some(0));
    let again = once(dir.path(), &base.to_string());
    assert_eq!(again.code, 0, "{}\n{}", again.out, again.err);
    assert_eq!(
        again.json()["accounts"],
        info["accounts"],
        "the next run keeps accounts and passwords"
    );
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let base = base_port();
    let _taken = TcpListener::bind(("127.0.0.1", base + 21)).unwrap();
    let answer = once(dir.path(), &base.to_string());
    assert_eq!(answer.code, 1);
    for wanted in [
        format!("tcp port {}", base + 21),
        "ie1's tls listener".to_owned(),
        "--base-port".to_owned(),
    ] {
        assert!(answer.err.contains(&wanted), "{}", answer.err);
    }
}

#[test]
fn every_address_of_the_machine_is_no_address_for_phones() {
    let dir = tempfile::tempdir().unwrap();
    let answer: Answer = command()
        .args(["demo", "--once", "--bind", "0.0.0.0", "--data"])
        .arg(dir.path())
        .output()
        .unwrap()
        .into();
    assert!(answer.code == 1 && answer.err.contains("--bind 0.0.0.0"), "{}", answer.err);
}

fn a_recording_is_exported_with_a_tone_in_each_channel(dir: &TempDir, document: &Value) {
    let call = calls(document).find(|call| call["domain"] == "acme.test").unwrap();
    let file = dir.path().join("call.wav");
    let exported = landline(&[
        "recording",
        "export",
        call["recording"].as_str().unwrap(),
        file.to_str().unwrap(),
        "--json",
        "--config",
        &config(dir, "ie1"),
    ]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let mut wav = hound::WavReader::open(&file).unwrap();
    assert_eq!(wav.spec().channels, 2);
    let rate = wav.spec().sample_rate;
    let samples: Vec<i16> = wav.samples::<i16>().map(Result::unwrap).collect();
    assert!(samples.len() > 2 * rate as usize, "at least a second of both");
    for (channel, who) in [(0, "bob"), (1, "alice")] {
        let own: Vec<i16> = samples.iter().skip(channel).step_by(2).copied().collect();
        let middle = &own[own.len() / 4..own.len() * 3 / 4];
        let (hz, _) = landline_media::audio::strongest_tone(middle, rate).unwrap();
        // What one hears is what the other's channel holds.
        let sent = call["heard"][who]["expected_hz"].as_f64().unwrap();
        assert!((hz - sent).abs() < 12.0, "channel {channel}: {hz} Hz, sent {sent}");
    }
    let elsewhere = landline(&[
        "recording",
        "export",
        call["recording"].as_str().unwrap(),
        file.to_str().unwrap(),
        "--config",
        &config(dir, "us1"),
    ]);
    assert!(
        elsewhere.code == 1 && elsewhere.err.contains("home region alone"),
        "{}",
        elsewhere.err
    );
}

fn each_call_has_a_receipt_that_is_checked_without_its_region(dir: &TempDir, document: &Value) {
    let data = dir.path().to_str().unwrap();
    let trust = dir.path().join("trust");
    let trust = trust.to_str().unwrap();
    let keys = landline(&["receipt", "keys", "--out", trust, "--data", data]);
    assert_eq!(keys.code, 0, "{}", keys.err);
    for (domain, home) in HOMES {
        let call = calls(document).find(|call| call["domain"] == domain).unwrap();
        let sid = call["record"].as_str().unwrap();
        let receipt = &call["receipt"];
        for part in ["home", "signalling", "media", "storage"] {
            assert_eq!(receipt["regions"][part], home, "{receipt}");
        }
        assert_eq!(receipt["recordings"][0]["stored"]["storage_region"], home);
        assert_eq!(receipt["recordings"][0]["sid"], call["recording"]);

        let file = dir.path().join(format!("{home}.receipt"));
        let file = file.to_str().unwrap();
        let exported = landline(&["receipt", "export", sid, file, "--data", data]);
        assert_eq!(exported.code, 0, "{}", exported.err);
        let verify = |more: &[&str]| landline(&[&["receipt", "verify", file], more].concat());
        let sound = verify(&["--trust", trust]);
        assert_eq!(sound.code, 0, "{}", sound.err);
        for wanted in ["PROVEN", "NOT PROVEN", sid, &format!("signalled in {home}")] {
            assert!(sound.out.contains(wanted), "{}", sound.out);
        }
        let unknown = verify(&[]);
        assert!(unknown.code == 1 && unknown.err.contains("--key"), "{}", unknown.err);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
        std::fs::write(file, text.replace("\"relay\": \"", "\"relay\": \"x")).unwrap();
        let forged = verify(&["--trust", trust, "--json"]);
        assert_eq!((forged.code, &forged.json()["ok"]), (1, &false.into()), "{}", forged.out);
        std::fs::write(file, text).unwrap();

        let report = dir.path().join(format!("{home}.report"));
        let report = report.to_str().unwrap();
        let proved =
            landline(&["residency", "prove", domain, "--out", report, "--json", "--data", data]);
        assert_eq!(proved.code, 0, "{}", proved.err);
        let summary = proved.json();
        assert_eq!((&summary["receipts"], &summary["closed"]), (&1.into(), &1.into()), "{summary}");
        assert_eq!(summary["other_regions"], serde_json::json!([]));
        let sound = landline(&["receipt", "verify", report, "--trust", trust, "--json"]);
        assert_eq!((sound.code, &sound.json()["ok"]), (0, &true.into()), "{}", sound.out);
        // What was handed out is still what the region holds.
        let check = ["residency", "check", "--json", "--against", file, "--against", report];
        let checked = landline(&[&check[..], &["--config", &config(dir, home)]].concat());
        assert_eq!(checked.code, 0, "{}", checked.err);
        let found = &checked.json()[0];
        let wanted = (&1.into(), &1.into(), &0.into());
        assert_eq!(
            (&found["receipts"], &found["recordings"], &found["waiting"]),
            wanted,
            "{found}"
        );
    }
}

/// Right, wrong, and the former one after another took its place.
fn a_receipt_is_held_to_the_key_that_is_pinned(dir: &TempDir, document: &Value) {
    let data = dir.path().to_str().unwrap();
    let trust = dir.path().join("trust");
    let pem_of = |row: &Value| {
        trust.join(format!("{}.pem", row["key_id"].as_str().unwrap())).to_str().unwrap().to_owned()
    };
    let keys = || {
        let out = trust.to_str().unwrap();
        landline(&["receipt", "keys", "--out", out, "--json", "--data", data]).json()
    };
    let first = keys();
    let of = |keys: &Value, region: &str| -> Vec<Value> {
        let rows = keys.as_array().unwrap().iter().filter(|row| row["region"] == region);
        rows.cloned().collect()
    };
    let (right, wrong) = (pem_of(&of(&first, "ie1")[0]), pem_of(&of(&first, "us1")[0]));
    let call = calls(document).find(|call| call["domain"] == at_ie1()).unwrap();
    let sid = call["record"].as_str().unwrap();
    let file = dir.path().join("pinned.receipt");
    let file = file.to_str().unwrap();
    let export = || {
        let exported = landline(&["receipt", "export", sid, file, "--data", data]);
        assert_eq!(exported.code, 0, "{}", exported.err);
    };
    let verify = |key: &str| landline(&["receipt", "verify", file, "--key", key]);
    export();
    assert_eq!(verify(&right).code, 0, "{}", verify(&right).err);
    let refused = verify(&wrong);
    assert!(refused.code == 1 && refused.out.contains("not among the trusted"), "{}", refused.out);
    assert_eq!(verify("/nowhere.pem").code, 1);

    let rotated = landline(&["receipt", "rotate-key", "ie1", "--json", "--data", data]);
    assert_eq!(rotated.code, 0, "{}", rotated.err);
    let second = keys();
    let of_ie1 = of(&second, "ie1");
    assert_eq!((of_ie1.len(), of(&second, "us1").len()), (2, 1), "{second}");
    assert_eq!(of_ie1[1]["key_id"], rotated.json()["key_id"]);
    assert_eq!(of_ie1[0]["until"], of_ie1[1]["since"]);
    // The file from before, by the key of then; and the new file by either.
    assert_eq!(verify(&right).code, 0);
    assert_eq!(verify(&pem_of(&of_ie1[1])).code, 1, "the old file knows no new key");
    export();
    for key in &of_ie1 {
        let verified = verify(&pem_of(key));
        assert_eq!(verified.code, 0, "{}", verified.out);
        assert!(verified.out.contains("was certified by"), "{}", verified.out);
    }
    assert_eq!(verify(&wrong).code, 1);
}

/// The domain of the demo's account there.
fn at_ie1() -> &'static str {
    HOMES.into_iter().find(|(_, home)| *home == "ie1").unwrap().0
}

fn a_recording_is_deleted_with_a_statement(dir: &TempDir, document: &Value) {
    let data = dir.path().to_str().unwrap();
    let call = calls(document).find(|call| call["domain"] == at_ie1()).unwrap();
    let recording = call["recording"].as_str().unwrap();
    let deleted = landline(&["recording", "delete", recording, "--erasure", "--data", data]);
    assert_eq!(deleted.code, 0, "{}", deleted.err);
    let checked = landline(&["residency", "check", "--json", "--config", &config(dir, "ie1")]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert_eq!(checked.json()[0]["deleted"], 1, "{}", checked.out);
    let shown = landline(&[
        "receipt",
        "export",
        call["record"].as_str().unwrap(),
        dir.path().join("deleted.receipt").to_str().unwrap(),
        "--data",
        data,
    ]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let file = dir.path().join("deleted.receipt");
    let verified = landline(&["receipt", "verify", file.to_str().unwrap(), "--data", data]);
    assert_eq!(verified.code, 0, "{}", verified.out);
    assert!(verified.out.contains("erasure, by operator"), "{}", verified.out);
}

fn the_ledger_balances(dir: &TempDir) {
    let answer = landline(&["ledger", "check", "--json", "--data", dir.path().to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    for region in answer.json().as_array().unwrap() {
        assert_eq!(
            (&region["ok"], &region["open"], &region["closed"]),
            (&true.into(), &0.into(), &1.into()),
            "{region}"
        );
    }
}

fn the_info_file_has_its_shape(info: &Value, data: &Path, base: u16) {
    assert!(Path::new(info["ca"].as_str().unwrap()).is_file());
    for (index, code) in ["us1", "ie1", "au1"].iter().enumerate() {
        let region = &info["regions"][code];
        let port = base + 20 * index as u16;
        assert_eq!(region["sip"]["udp"], format!("127.0.0.1:{port}"));
        assert_eq!(region["sip"]["tcp"], format!("127.0.0.1:{port}"));
        assert_eq!(region["sip"]["tls"], format!("127.0.0.1:{}", port + 1));
        assert_eq!(region["sip"]["ws"], format!("ws://127.0.0.1:{}", port + 2));
        assert_eq!(region["sip"]["wss"], format!("wss://127.0.0.1:{}", port + 3));
        assert_eq!(region["media_ip"], "127.0.0.1");
        let database = PathBuf::from(region["database"].as_str().unwrap());
        assert_eq!(database, data.canonicalize().unwrap().join(code).join("database.sqlite"));
        assert!(database.is_file());
        assert_eq!(region["console"], format!("https://127.0.0.1:{}", port + 7));
    }
    for (account, (domain, home)) in info["accounts"].as_array().unwrap().iter().zip(HOMES) {
        assert_eq!((&account["domain"], &account["home_region"]), (&domain.into(), &home.into()));
        assert!(account["sid"].as_str().unwrap().starts_with("AC"));
        let users: Vec<&str> = account["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["user"].as_str().unwrap())
            .collect();
        assert_eq!(users, ["alice", "bob", "carol"]);
        for user in account["users"].as_array().unwrap() {
            assert!(user["password"].as_str().unwrap().len() >= 16);
            assert!(user["number"].as_str().unwrap().starts_with('+'));
            assert!(user["media"].is_string());
        }
    }
}

fn health_and_metrics_are_served_without_personal_data(info: &Value, base: u16) {
    for index in 0..3 {
        let port = base + 20 * index + 6;
        let health = get(port, "/health").unwrap();
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        for part in ["database", "relay_links", "ledger"] {
            assert!(health.contains(part), "{health}");
        }
        let metrics = get(port, "/metrics").unwrap();
        assert!(metrics.contains("# TYPE"), "{metrics}");
        for account in info["accounts"].as_array().unwrap() {
            for user in account["users"].as_array().unwrap() {
                for key in ["user", "number", "password"] {
                    let value = user[key].as_str().unwrap();
                    assert!(!metrics.contains(value), "{value} in the metrics");
                }
            }
        }
    }
}

fn once(dir: &Path, base_port: &str) -> Answer {
    command()
        .args(["demo", "--once", "--json", "--base-port", base_port, "--data"])
        .arg(dir)
        .output()
        .unwrap()
        .into()
}

fn calls(document: &Value) -> impl Iterator<Item = &Value> {
    document["calls"].as_array().unwrap().iter()
}

fn config(dir: &TempDir, region: &str) -> String {
    dir.path().join(region).join("config.toml").display().to_string()
}

/// Whether any file of a region holds a sid, written out or as its 16 octets.
fn stored(region: &Path, sid: &str) -> bool {
    let octets = hex::decode(&sid[2..]).unwrap();
    let holds = |text: &[u8]| {
        text.windows(32).any(|window| window == &sid.as_bytes()[2..])
            || text.windows(16).any(|window| window == octets)
    };
    let mut dirs = vec![region.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if std::fs::read(&path).is_ok_and(|text| holds(&text)) {
                return true;
            }
        }
    }
    false
}

/// A demo that stays up, stopped when dropped.
struct Demo {
    running: Running,
    info: PathBuf,
}

impl Demo {
    fn start(dir: &Path, base: u16) -> Self {
        let info = dir.join("info.json");
        let child = command()
            .args(["demo", "--json", "--base-port", &base.to_string(), "--data"])
            .arg(dir)
            .arg("--info")
            .arg(&info)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { running: Running(child), info }
    }

    fn info(&self) -> Value {
        let begun = Instant::now();
        while !self.info.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no info file");
            std::thread::sleep(Duration::from_millis(50));
        }
        serde_json::from_slice(&std::fs::read(&self.info).unwrap()).unwrap()
    }
}

fn a_new_user_can_register_within_a_second(data: &Path, info: &Value) {
    let data = data.to_str().unwrap();
    let added = landline(&["user", "add", "acme.test", "dave", "--json", "--data", data]);
    assert_eq!(added.code, 0, "{}", added.err);
    let password = added.json()["password"].as_str().unwrap().to_owned();
    let server = info["regions"]["ie1"]["sip"]["udp"].as_str().unwrap().parse().unwrap();
    let registers = |password: &str| {
        let config = PhoneConfig::new("dave", "acme.test", password, server);
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(async { Phone::start(config).await.unwrap().register().await.is_ok() })
    };
    std::thread::sleep(Duration::from_secs(1));
    assert!(registers(&password), "a second after `user add`");
    assert_eq!(landline(&["user", "remove", "acme.test", "dave", "--data", data]).code, 0);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!registers(&password), "a second after `user remove`");
}
