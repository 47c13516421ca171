//! Customers' programs at the regions' HTTPS APIs, and what these answer.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::evidence::EXPORTS;
use crate::net::OUTSIDE;
use crate::process::eventually;
use crate::receiver::PORT;
use crate::region::{CONSOLE, Region};

/// A key of an account in one role.
pub struct Key {
    pub role: &'static str,
    sid: String,
    pub secret: String,
}

pub struct Answer {
    pub status: u16,
    pub octets: Vec<u8>,
}

/// Calls whose details are asked for.
const CALLS: usize = 4;

const EVENTS: [&str; 5] = [
    "Events=call.started",
    "Events=call.ringing",
    "Events=call.answered",
    "Events=call.ended",
    "Events=recording.stored",
];

impl Key {
    pub const ROLES: [&'static str; 3] = ["operator", "admin", "auditor"];

    /// From what `landline key create` says, this once.
    pub fn of(role: &'static str, made: &Value) -> Result<Self> {
        let text = |name: &str| {
            let text = made[name].as_str().with_context(|| format!("a key without {name}"))?;
            anyhow::Ok(text.to_owned())
        };
        Ok(Self { role, sid: text("sid")?, secret: text("secret")? })
    }
}

impl Answer {
    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.octets)?)
    }
}

/// Asks by HTTP/1.1: what HTTP/2 compresses in its headers no search would see.
fn ask(at: &Region<'_>, key: &Key, more: &[&str], path: &str) -> Result<Answer> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--http1.1", "--noproxy", "*", "--max-time", "10"])
        .arg("--cacert")
        .arg(at.shared.directory.join("pki/ca.pem"))
        .args(["--user", &format!("{}:{}", key.sid, key.secret)])
        .args(["--write-out", "%{http_code}"])
        .args(more)
        .arg(format!("https://{}:{CONSOLE}{path}", at.address.ip()))
        .env("SSLKEYLOGFILE", &at.shared.keys)
        .output()
        .context("curl cannot be started")?;
    if !output.status.success() {
        bail!("{path} of {}: {}", at.code(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let (octets, status) = output
        .stdout
        .split_last_chunk::<3>()
        .and_then(|(octets, status)| Some((octets, std::str::from_utf8(status).ok()?)))
        .context("no status")?;
    Ok(Answer { status: status.parse()?, octets: octets.to_vec() })
}

/// A region's account asks for all there is; how many answers there were.
pub fn visit(region: &mut Region<'_>) -> Result<usize> {
    let account = format!("/2010-04-01/Accounts/{}", region.account);
    let called = region.cast.people[1].number.replace('+', "%2B");
    let mut asked = 0;
    for (role, list) in [
        ("operator", ".json"),
        ("operator", "/Calls.json"),
        ("operator", &format!("/Calls.json?To={called}")),
        ("operator", "/Users.json"),
        ("operator", "/IncomingPhoneNumbers.json"),
        ("operator", "/Trunks.json"),
        ("operator", "/Recordings.json"),
        ("operator", "/Usage.json"),
        ("admin", "/Keys.json"),
        ("admin", "/Webhooks.json"),
        ("auditor", "/ResidencyReport.json"),
    ] {
        read(region, role, &format!("{account}{list}"))?;
        asked += 1;
    }
    let (calls, recordings) = (
        read(region, "operator", &format!("{account}/Calls.json?PageSize=1000"))?.json()?,
        read(region, "operator", &format!("{account}/Recordings.json?PageSize=1000"))?.json()?,
    );
    for call in sids(&calls["calls"])?.iter().take(CALLS) {
        read(region, "operator", &format!("{account}/Calls/{call}.json"))?;
        asked += 1;
    }
    for recording in sids(&recordings["recordings"])?.iter().take(EXPORTS) {
        let played = read(region, "operator", &format!("{account}/Recordings/{recording}.wav"))?;
        ensure!(played.octets.starts_with(b"RIFF"), "a recording that is no WAV file");
        asked += 1;
    }
    for path in ["/v1/region", "/openapi.json"] {
        let answer = read(region, "auditor", path)?;
        region.handed_out.push((format!("GET {path}"), answer.octets));
    }
    // What came of all this is written down.
    read(region, "auditor", &format!("{account}/Audit.json"))?;
    Ok(asked + 5)
}

/// An address of the account's own, to be told of all that happens.
pub fn name_a_webhook(region: &Region<'_>) -> Result<()> {
    let path = format!("/2010-04-01/Accounts/{}/Webhooks.json", region.account);
    let url = format!("Url=https://{OUTSIDE}:{PORT}/{}", region.code());
    let country = format!("Country={}", region.cast.jurisdiction);
    let mut form = vec!["--data", &url, "--data", &country];
    for event in EVENTS {
        form.extend(["--data", event]);
    }
    let answer = ask(region, key(region, "admin")?, &form, &path)?;
    let words = String::from_utf8_lossy(&answer.octets);
    ensure!(answer.status == 201, "a webhook was answered {} {words}", answer.status);
    Ok(())
}

fn sids(list: &Value) -> Result<Vec<String>> {
    let items = list.as_array().context("no list")?;
    Ok(items.iter().filter_map(|item| item["sid"].as_str().map(str::to_owned)).collect())
}

fn key<'a>(region: &'a Region<'_>, role: &str) -> Result<&'a Key> {
    region.keys.iter().find(|key| key.role == role).context("no such key")
}

fn read(region: &mut Region<'_>, role: &str, path: &str) -> Result<Answer> {
    let answer = ask(region, key(region, role)?, &[], path)?;
    ensure!(answer.status == 200, "{role} was answered {} to {path}", answer.status);
    region.listings.push((format!("GET {path} by {role}"), answer.octets.clone()));
    Ok(answer)
}

/// A key of `home` at another region's API is told where its home is.
pub fn ask_in_the_wrong_region(home: &Region<'_>, edge: &mut Region<'_>) -> Result<()> {
    let path = format!("/2010-04-01/Accounts/{}/Calls.json", home.account);
    let answer = ask(edge, key(home, "operator")?, &[], &path)?;
    let said = answer.json()?;
    ensure!(
        answer.status == 421 && said["home_region"] == home.code(),
        "{}'s key at {}: {} {said}",
        home.code(),
        edge.code(),
        answer.status
    );
    edge.listings.push((format!("GET by a key of {}", home.code()), answer.octets));
    Ok(())
}

/// Ends the live call to this user.
pub fn hang_up(region: &Region<'_>, callee: &str) -> Result<()> {
    let account = format!("/2010-04-01/Accounts/{}", region.account);
    // Records follow what happens: a call before this may still stand there as live.
    let live = format!("{account}/Calls.json?Status=in-progress&To={callee}");
    let operator = key(region, "operator")?;
    let call = eventually("a call is live", Duration::from_secs(5), || {
        let calls = ask(region, operator, &[], &live).ok()?.json().ok()?;
        sids(&calls["calls"]).ok()?.into_iter().next()
    })?;
    let form = ["--data", "Status=completed"];
    let answer = ask(region, operator, &form, &format!("{account}/Calls/{call}.json"))?;
    ensure!(matches!(answer.status, 200 | 202), "hanging up was answered {}", answer.status);
    Ok(())
}
