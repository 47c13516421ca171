use std::sync::Arc;

use axum::http::header;
use landline_call::tenancy::{
    Account, CallsFrom, EdgePolicy, EncryptionPolicy, HoldMusic, RecordingPolicy, VoicemailPolicy,
};
use landline_store::{AccountChange, directory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{account_uri, named};
use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::{Reply, check_unchanged};

#[derive(Debug, Serialize, JsonSchema)]
pub struct AccountView {
    pub sid: String,
    pub friendly_name: String,
    /// Always `active`: accounts are not suspended yet.
    pub status: &'static str,
    /// Always `Full`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its SIP domain.
    pub domain: String,
    pub home_region: String,
    /// What other regions' proxies do with its requests.
    pub edge_policy: &'static str,
    /// Which other accounts may call this one.
    pub calls_from: &'static str,
    /// What those hear who are put on hold.
    pub hold_music: &'static str,
    /// Whether callers may leave messages for users who have said nothing else.
    pub voicemail: &'static str,
    /// Which calls are recorded.
    pub recording: &'static str,
    /// Whether apps must encrypt media.
    pub encryption: &'static str,
    /// Who its contract is with.
    pub contracting_entity: String,
    pub uri: String,
    pub subresource_uris: AccountUris,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct AccountUris {
    pub calls: String,
    pub recordings: String,
    pub users: String,
    pub incoming_phone_numbers: String,
    pub trunks: String,
    pub keys: String,
    pub usage: String,
    pub audit: String,
    pub residency_report: String,
    pub webhooks: String,
    pub hold_music: String,
    pub greeting: String,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountUpdate {
    #[schemars(extend("enum" = EdgePolicy::NAMES))]
    pub edge_policy: Option<String>,
    #[schemars(extend("enum" = CallsFrom::NAMES))]
    pub calls_from: Option<String>,
    #[schemars(extend("enum" = RecordingPolicy::NAMES))]
    pub recording: Option<String>,
    #[schemars(extend("enum" = EncryptionPolicy::NAMES))]
    pub encryption: Option<String>,
    /// `own` only where there is some.
    #[schemars(extend("enum" = HoldMusic::NAMES))]
    pub hold_music: Option<String>,
    #[schemars(extend("enum" = VoicemailPolicy::NAMES))]
    pub voicemail: Option<String>,
}

impl AccountView {
    pub fn new(account: &Account) -> Self {
        let uri = account_uri(account.sid);
        Self {
            sid: account.sid.to_string(),
            friendly_name: account.name.expose().clone(),
            status: "active",
            kind: "Full",
            domain: account.domain.clone(),
            home_region: account.home_region.to_string(),
            edge_policy: account.edge_policy.name(),
            calls_from: account.calls_from.name(),
            hold_music: account.hold_music.name(),
            voicemail: account.mailbox.policy.name(),
            recording: account.recording.name(),
            encryption: account.encryption.name(),
            contracting_entity: account.contracting_entity.clone(),
            subresource_uris: AccountUris {
                calls: format!("{uri}/Calls.json"),
                recordings: format!("{uri}/Recordings.json"),
                users: format!("{uri}/Users.json"),
                incoming_phone_numbers: format!("{uri}/IncomingPhoneNumbers.json"),
                trunks: format!("{uri}/Trunks.json"),
                keys: format!("{uri}/Keys.json"),
                usage: format!("{uri}/Usage.json"),
                audit: format!("{uri}/Audit.json"),
                webhooks: format!("{uri}/Webhooks.json"),
                hold_music: format!("{uri}/HoldMusic.json"),
                greeting: format!("{uri}/Greeting.json"),
                residency_report: format!("{uri}/ResidencyReport.json"),
            },
            uri: format!("{uri}.json"),
        }
    }
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let account = app.store.account_find(&input.account()?.to_string()).await?;
    Reply::json(&AccountView::new(&account))
}

pub async fn update(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let update: AccountUpdate = input.fields()?;
    let account = input.account()?;
    let known = app.store.account_find(&account.to_string()).await?;
    check_unchanged(input.header(&header::IF_MATCH), &AccountView::new(&known))?;
    let change = AccountChange {
        edge_policy: named("edge_policy", update.edge_policy.as_deref())?,
        recording: named("recording", update.recording.as_deref())?,
        encryption: named("encryption", update.encryption.as_deref())?,
        calls_from: named("calls_from", update.calls_from.as_deref())?,
        hold_music: named("hold_music", update.hold_music.as_deref())?,
        voicemail: named("voicemail", update.voicemail.as_deref())?,
    };
    let changed = app.store.account_set(account, &change).await?;
    if let Err(error) = directory::account_enter(app.store.gate(), app.homes.path(), &changed) {
        // Regions that read another thing in the directory would act on that.
        let former = AccountChange {
            edge_policy: Some(known.edge_policy),
            recording: Some(known.recording),
            encryption: Some(known.encryption),
            calls_from: Some(known.calls_from),
            hold_music: Some(known.hold_music),
            voicemail: Some(known.mailbox.policy),
        };
        app.store.account_set(account, &former).await?;
        return Err(error.into());
    }
    Reply::json(&AccountView::new(&changed))
}
