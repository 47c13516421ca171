//! The reduced conformance run, as part of every test run.

use std::path::Path;
use std::process::Command;

/// The program's exit status where it cannot run.
const IMPOSSIBLE: i32 = 3;

#[test]
fn nothing_of_a_region_is_in_another_and_every_planted_leak_is_found() {
    let conformance = Path::new(env!("CARGO_BIN_EXE_landline-conformance"));
    let output = Command::new(conformance)
        .arg("--reduced")
        .arg("--landline")
        .arg(conformance.with_file_name("landline"))
        .arg("--report")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("residency"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(IMPOSSIBLE) {
        let required = std::env::var_os("LANDLINE_REQUIRE_TOOLS").is_some();
        assert!(!required, "required, and cannot run: {words}");
        return eprintln!("SKIPPED: {words}");
    }
    assert!(output.status.success(), "{}{words}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("# Residency: passed"));
}
