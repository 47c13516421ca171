//! Schemathesis holds a running console to its own document: whatever is asked,
//! there is no fault of the server's, and every answer is one that is described.

use std::path::PathBuf;
use std::process::Stdio;

use landline_store::ApiRole;
use serde_json::{Value, json};

use crate::support::{Engine, Key, World, uri};

/// How long each role's run may take, in seconds.
const BUDGET: u32 = 14;

/// Where `cargo xtask tools` puts it.
fn schemathesis() -> Option<PathBuf> {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schemathesis/bin/schemathesis");
    if program.exists() {
        return Some(program);
    }
    let required = std::env::var_os("LANDLINE_REQUIRE_TOOLS").is_some();
    assert!(!required, "no schemathesis: `cargo xtask tools` installs it");
    eprintln!("SKIPPED: no schemathesis");
    None
}

/// One of each kind of thing, and the sids that lead to them.
async fn furnished(world: &World) -> Vec<(&'static str, String)> {
    let admin = world.key(ApiRole::Admin).await;
    let made = async |path: &str, body: Value| {
        let made = world.ie1.post_json(&uri(world.acme.sid, path), &admin, &body).await;
        made.expect(201)["sid"].as_str().unwrap().to_owned()
    };
    let call = world.ie1.call(&world.acme, 1, 1_699_920_000_000, true).await;
    let recording = crate::recordings::recorded(world, &world.acme, 1).await;
    let user = made("/Users.json", json!({ "user": "dave" })).await;
    let trunk = json!({ "friendly_name": "carrier", "send_to": "udp:carrier.example:5060" });
    let trunk = made("/Trunks.json", trunk).await;
    let number = json!({ "phone_number": "+35315550101", "user": "dave" });
    let number = made("/IncomingPhoneNumbers.json", number).await;
    let spare = made("/Keys.json", json!({ "friendly_name": "spare", "role": "read" })).await;
    let hook = json!({ "url": "https://hooks.invalid/", "events": "call.ended", "country": "IE" });
    let webhook = made("/Webhooks.json", hook).await;
    vec![
        ("account", world.acme.sid.to_string()),
        ("call", call.to_string()),
        ("recording", recording.to_string()),
        ("user", user),
        ("trunk", trunk),
        ("number", number),
        ("key", spare),
        ("webhook", webhook),
    ]
}

/// The document with examples of what there is: so that more is found than 404.
fn with_examples(mut document: Value, known: &[(&'static str, String)]) -> Value {
    for item in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in item.as_object_mut().unwrap().values_mut() {
            let Some(parameters) = operation["parameters"].as_array_mut() else { continue };
            for parameter in parameters.iter_mut().filter(|it| it["in"] == "path") {
                let found = known.iter().find(|(name, _)| parameter["name"] == *name);
                if let Some((_, sid)) = found {
                    parameter["schema"] = json!({ "type": "string", "enum": [sid] });
                }
            }
        }
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_whatever_is_asked_is_one_that_the_document_describes() {
    let Some(program) = schemathesis() else { return };
    let world = World::new(Engine::Sqlite).await.unwrap();
    let known = furnished(&world).await;
    let document = world.ie1.get("/openapi.json", None).await.expect(200);
    let document = with_examples(document, &known);
    let file = world.dir.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    for role in [ApiRole::Admin, ApiRole::Operator, ApiRole::Auditor] {
        let key = world.key(role).await;
        run(&program, &world, &file, role, &key).await;
    }
    // It asked, and much.
    let families = world.ie1.registry.gather();
    let requests = families.iter().find(|it| it.name() == "landline_console_requests_total");
    let count: f64 =
        requests.unwrap().get_metric().iter().map(|it| it.get_counter().get_value()).sum();
    assert!(count > 500.0, "{count} requests");
}

/// Without `ignored_auth`: who fails to sign in so often is shut out, and all
/// answers after that would be 429. `doors.rs` holds every route to its keys.
async fn run(program: &PathBuf, world: &World, file: &PathBuf, role: ApiRole, key: &Key) {
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "allow_header_conformance",
        "unsupported_method",
        "negative_data_rejection",
    ];
    let output = tokio::process::Command::new(program)
        .arg("run")
        .arg(file)
        .args(["--url", &world.ie1.base_url(), "--checks", &checks.join(",")])
        .args(["--auth", &format!("{}:{}", key.sid, key.secret)])
        .arg("--tls-verify")
        .arg(&world.ie1.ca)
        .args(["--phases", "examples,coverage,fuzzing", "--max-time", &BUDGET.to_string()])
        .args(["--seed", "1", "--no-color", "--continue-on-failure", "--warnings", "off"])
        .args(["--generation-database", "none", "--suppress-health-check", "all"])
        .current_dir(world.dir.path())
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{role}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
}
