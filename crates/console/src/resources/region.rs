//! What a region says of itself to anyone: where it is, under which law, and
//! what can be had there.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct RegionView {
    pub code: String,
    /// A country code of ISO 3166-1.
    pub jurisdiction: String,
    /// Who customers of this region contract with unless their account says otherwise.
    pub contracting_entity: String,
    /// How the region's data-protection officer is reached (GDPR Art. 37(7)).
    pub data_protection_officer: Option<String>,
    /// What receipts and reports of this region are signed with.
    pub receipt_key: ReceiptKey,
    pub base_url: Option<String>,
    pub version: &'static str,
    pub features: Vec<Feature>,
    /// Every region that the directory knows, this one included.
    pub regions: Vec<Neighbour>,
}

/// Whoever verifies a file should have had the key before the file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReceiptKey {
    /// As receipts name it.
    pub key_id: String,
    /// The Ed25519 public key in hexadecimal.
    pub ed25519: String,
    /// The same in PEM, as `landline receipt verify --key` reads it.
    pub pem: String,
}

/// One row of the feature matrix: the same rows in every region.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Feature {
    pub name: &'static str,
    pub available: bool,
    pub note: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Neighbour {
    pub code: String,
    pub jurisdiction: String,
    pub base_url: Option<String>,
    /// Where SIP clients connect.
    pub sip_uri: Option<String>,
}

pub async fn show(app: Arc<App>, _: Input) -> Result<Reply, Problem> {
    let regions = app.homes.regions();
    let neighbours = regions.iter().map(|(code, entry)| Neighbour {
        code: code.to_string(),
        jurisdiction: entry.jurisdiction.to_string(),
        base_url: entry.console.clone(),
        sip_uri: entry.public_uri.clone(),
    });
    let key = app.store.verifying_key().await?;
    Reply::json(&RegionView {
        code: app.region.code.to_string(),
        jurisdiction: app.region.jurisdiction.to_string(),
        contracting_entity: app.region.contracting_entity.clone(),
        data_protection_officer: app.region.data_protection_officer.clone(),
        receipt_key: ReceiptKey {
            key_id: key.id().to_string(),
            ed25519: key.to_hex(),
            pem: key.to_pem(),
        },
        base_url: app.homes.base_url(app.region.code),
        version: env!("CARGO_PKG_VERSION"),
        features: features(app.calls.is_some()),
        regions: neighbours.collect(),
    })
}

/// What is offered, and of what customers ask for, what is not.
fn features(with_calls: bool) -> Vec<Feature> {
    let row = |name, available, note| Feature { name, available, note };
    vec![
        row("voice", true, "calls between registered users, and by trunks"),
        row("sip_trunking", true, "trunks with address lists or digest, over UDP, TCP and TLS"),
        row("routing", true, "numbers to users and trunks; trunks by the number's longest prefix"),
        row("webrtc_clients", true, "SIP over WebSocket with DTLS-SRTP"),
        row("media_encryption", true, "DTLS-SRTP and SDES; plain RTP only where it is allowed"),
        row("call_recording", true, "sealed and chained in the region's own database"),
        row("call_records_api", true, "lists, filters and pages over HTTPS"),
        row("recordings_api", true, "lists, WAV and deletion over HTTPS"),
        row("administration_api", true, "users, numbers, trunks, keys and policies over HTTPS"),
        row("usage_api", true, "minutes by day, computed in the region"),
        row("audit_api", true, "who did what by the API, from where"),
        row(
            "receipts_api",
            true,
            "signed receipts of calls and residency reports, checked offline",
        ),
        row("webhooks", true, "signed events with retries, without names, numbers or times"),
        row("hang_up_api", with_calls, "where the console runs in the proxy's process"),
        row("originate_api", with_calls, "one user is rung, then whom he is to talk to"),
        row("messaging", false, "SMS and conversations are not offered"),
        row("transcription", false, "recordings are not transcribed"),
    ]
}

pub async fn openapi(app: Arc<App>, _: Input) -> Result<Reply, Problem> {
    let mut document = crate::openapi::document();
    if let Some(base) = app.homes.base_url(app.region.code) {
        document["servers"] = serde_json::json!([{ "url": base }]);
    }
    Reply::json(&document)
}
