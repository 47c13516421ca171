//! The command line's backup, restore and drill of a region that is at rest.

mod common;

use std::path::PathBuf;

use common::{Answer, Regions, landline};
use serde_json::Value;

/// us1 and ie1, each with a directory for its backups and an account.
fn regions() -> Regions {
    let regions = Regions::new();
    for code in ["us1", "ie1"] {
        let file = regions.dir(code).join("config.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, config + "\n[backup]\ndirectory = \"backup\"\n").unwrap();
        let domain = format!("{code}.test");
        regions.json(&["account", "create", "Acme", "--domain", &domain, "--region", code]);
        regions.json(&["user", "add", &domain, "alice", "--number", number(code)]);
    }
    regions
}

fn number(code: &str) -> &'static str {
    if code == "us1" { "+12125550101" } else { "+35315550101" }
}

fn backed_up(regions: &Regions, code: &str) -> PathBuf {
    let made = regions.in_region(code, &["backup"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let made = made.json();
    assert_eq!(made[0]["region"], code);
    made[0]["file"].as_str().unwrap().into()
}

fn ok(answer: Answer) -> Value {
    assert_eq!(answer.code, 0, "{}", answer.err);
    let json = answer.json();
    assert_eq!((&json["ok"], &json["faults"]), (&true.into(), &0.into()), "{json}");
    json
}

#[test]
fn a_lost_database_comes_back_from_its_backup() {
    let regions = regions();
    let file = backed_up(&regions, "ie1").display().to_string();
    let listed = regions.in_region("ie1", &["backup", "list"]).json();
    assert_eq!(listed[0]["file"], file.as_str());
    let verified = regions.in_region("ie1", &["backup", "verify", &file]);
    assert_eq!((verified.code, &verified.json()["ok"]), (0, &true.into()));
    let drilled = ok(regions.in_region("ie1", &["restore", "--drill"]));
    assert_eq!(drilled["drill"], true);

    let users = regions.in_region("ie1", &["user", "list", "ie1.test"]).json();
    let refused = regions.in_region("ie1", &["restore"]);
    assert!(refused.code == 1 && refused.err.contains("empty database"), "{}", refused.err);
    for entry in std::fs::read_dir(regions.dir("ie1")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(".sqlite") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let restored = ok(regions.in_region("ie1", &["restore", &file]));
    assert!(restored["rows_compared"].as_u64() > Some(5), "{restored}");
    assert_eq!(regions.in_region("ie1", &["user", "list", "ie1.test"]).json(), users);
}

#[test]
fn a_backup_does_not_leave_its_region() {
    let regions = regions();
    let file = backed_up(&regions, "ie1").display().to_string();
    let abroad = landline(&["restore", &file, "--drill", "--config", &regions.config("us1")]);
    assert_eq!((abroad.code, abroad.out.as_str()), (1, ""));
    for wanted in ["belongs to region ie1", "us1", &file] {
        assert!(abroad.err.contains(wanted), "{}", abroad.err);
    }
    // Into ie1's directory us1 writes nothing; the register says that it tried.
    let config = regions.dir("us1").join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"backup\"", "\"../ie1/backup\"")).unwrap();
    let refused = regions.in_region("us1", &["backup"]);
    assert!(refused.code == 1 && refused.err.contains("backups of region ie1"), "{}", refused.err);
    let flows = |code: &str| {
        let register = regions.in_region(code, &["residency", "register"]).json();
        let flows = register[0]["flows"].as_array().unwrap().clone();
        let backup = flows.into_iter().find(|it| it["flow"] == "backup").unwrap();
        (backup["destination"].clone(), backup["verdict"].clone())
    };
    assert_eq!(flows("us1"), ("ie1".into(), "abroad".into()));
    assert_eq!(flows("ie1"), ("ie1".into(), "passed".into()));
}

#[test]
fn without_a_directory_there_is_no_backup() {
    let regions = Regions::new();
    let refused = regions.in_region("ie1", &["backup"]);
    assert!(refused.code == 1 && refused.err.contains("[backup]"), "{}", refused.err);
}
