use std::path::Path;

use anyhow::{Context, Result};
use landline_console::audio;
use landline_region::receipt::DeletionReason;
use landline_region::{Personal, VoicemailSid};
use landline_store::{DeletedBy, VoicemailRecord};
use serde_json::{Value, json};

use super::account::sound_in;
use super::calls::time;
use super::place::{Home, Place};
use super::recording::write_mono;
use crate::cli::VoicemailVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: VoicemailVerb, style: Style) -> Result<String> {
    match verb {
        VoicemailVerb::List { account, user } => {
            let home = place.home(&account).await?;
            let user = home.store.user_find(home.account, &user).await?;
            let messages = home.store.voicemail_list(home.account, user.sid).await?;
            let rows = messages.iter().map(shown).collect();
            let columns = ["left_at", "from", "duration_ms", "heard", "call", "sid"];
            Ok(Table::new(&columns, rows, "no messages").render(style))
        }
        VoicemailVerb::Export { account, message, file } => {
            let home = place.home(&account).await?;
            Ok(card(&export(&home, message, &file).await?, style))
        }
        VoicemailVerb::Heard { account, message, not } => {
            let home = place.home(&account).await?;
            let message = home.store.voicemail_heard(home.account, message, !not).await?;
            Ok(card(&shown(&message), style))
        }
        VoicemailVerb::Remove { account, message, erasure } => {
            let home = place.home(&account).await?;
            let reason = if erasure { DeletionReason::Erasure } else { DeletionReason::Request };
            let by = DeletedBy { reason, actor: "operator".to_owned() };
            let gone = home.store.voicemail_remove(home.account, message, &by).await?;
            Ok(card(&json!({ "removed": gone.sid.to_string() }), style))
        }
        VoicemailVerb::Greeting { account, file, user, remove: _ } => {
            let home = place.home(&account).await?;
            let user = match user {
                Some(user) => Some(home.store.user_find(home.account, &user).await?.sid),
                None => None,
            };
            let answer = match file {
                Some(file) => {
                    let samples = sound_in(&file)?;
                    let put = home.store.greeting_put(home.account, user, &samples).await?;
                    json!({ "greeting": put.sid.to_string(), "duration_ms": put.duration_ms })
                }
                None => {
                    home.store.greeting_remove(home.account, user).await?;
                    json!({ "greeting": null })
                }
            };
            Ok(card(&answer, style))
        }
    }
}

/// Writes a 16-bit WAV of one channel: the caller.
async fn export(home: &Home, message: VoicemailSid, file: &Path) -> Result<Value> {
    let message = home.store.voicemail_show(home.account, message).await?;
    let rendered = audio::rendered(&home.store, message.recording).await?;
    write_mono(file, &rendered).with_context(|| format!("{}", file.display()))?;
    let mut answer = shown(&message);
    answer["file"] = json!(file);
    answer["sample_rate"] = json!(rendered.rate);
    Ok(answer)
}

fn shown(message: &VoicemailRecord) -> Value {
    json!({
        "sid": message.sid.to_string(),
        "user": message.user.to_string(),
        "call": message.call.to_string(),
        "recording": message.recording.to_string(),
        "from": message.from.as_ref().map(Personal::expose),
        "left_at": message.left_at.to_string(),
        "duration_ms": message.duration_ms,
        "heard": message.heard_at.is_some(),
        "heard_at": time(message.heard_at),
        "cut_short": message.cut_short,
    })
}
