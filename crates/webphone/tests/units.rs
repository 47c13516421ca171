//! What needs no browser, by Node's own test runner.

use std::path::Path;
use std::process::Command;

#[test]
fn the_pages_own_tests_pass() {
    let installed = Path::new(env!("OUT_DIR")).join("web/node_modules/esbuild/bin/esbuild");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/test/all.test.ts");
    let bundle = Path::new(env!("CARGO_TARGET_TMPDIR")).join("webphone.test.mjs");
    let bundled = Command::new("node")
        .arg(installed)
        .arg(tests)
        .args(["--bundle", "--platform=node", "--format=esm", "--log-level=warning"])
        .arg(format!("--outfile={}", bundle.display()))
        .output()
        .unwrap();
    assert!(bundled.status.success(), "{}", String::from_utf8_lossy(&bundled.stderr));
    let tested = Command::new("node").arg("--test").arg(&bundle).output().unwrap();
    let words = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{words}");
    assert!(words.contains("pass 9") && words.contains("fail 0"), "{words}");
}
