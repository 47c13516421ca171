use std::time::Duration;

use anyhow::Result;
use landline_call::tenancy::{ForwardingChange, User};
use landline_region::Personal;
use landline_store::{NewUser, UserChange, password as passwords};
use serde_json::{Value, json};

use super::place::{Home, Place};
use crate::cli::{PlaceChange, UserArgs, UserChanges, UserVerb};
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: UserVerb, style: Style) -> Result<String> {
    match verb {
        UserVerb::Add { account, user, args } => {
            add(&place.home(&account).await?, user, args, style).await
        }
        UserVerb::Set { account, user, changes } => {
            set(&place.home(&account).await?, &user, changes, style).await
        }
        UserVerb::List { account } => {
            let home = place.home(&account).await?;
            let users = home.store.user_list(home.account).await?;
            let rows = users.iter().map(|user| shown(user, &home.domain)).collect();
            let columns = ["user", "number", "media", "recording", "uri", "sid"];
            Ok(Table::new(&columns, rows, "no users").render(style))
        }
        UserVerb::Remove { account, user } => {
            let home = place.home(&account).await?;
            let gone = home.store.user_find(home.account, &user).await?;
            home.store.user_remove(home.account, &user, "operator").await?;
            home.publish_numbers().await?;
            Ok(card(&json!({ "removed": gone.sid.to_string() }), style))
        }
    }
}

async fn add(home: &Home, name: String, args: UserArgs, style: Style) -> Result<String> {
    let (password, made) = match args.password {
        Some(password) => {
            if password.chars().count() < EASILY_GUESSED {
                eprintln!(
                    "landline: fewer than {EASILY_GUESSED} characters are easily guessed; without --password one is made"
                );
            }
            (password, false)
        }
        None => (passwords::generate(), true),
    };
    let new = NewUser {
        digest: passwords::digest_secrets(&name, &home.domain, &password),
        name: Personal::new(name),
        number: args.number.map(Personal::new),
        media: args.media,
        recording: args.recording,
    };
    if let Some(number) = &new.number {
        home.number_free(number)?;
    }
    let user = home.store.user_add(home.account, &new).await?;
    if new.number.is_some() {
        home.publish_numbers().await?;
    }
    Ok(card(&with_password(shown(&user, &home.domain), made.then_some(password)), style))
}

async fn set(home: &Home, user: &str, changes: UserChanges, style: Style) -> Result<String> {
    let made = changes.new_password.then(passwords::generate);
    // The digest is over the name as it was given, not as it is typed here.
    let known = home.store.user_find(home.account, user).await?;
    let forwarding = forwarding(&changes);
    let password = changes.password.as_ref().or(made.as_ref());
    let change = UserChange {
        digest: password
            .map(|password| passwords::digest_secrets(known.name.expose(), &home.domain, password)),
        number: changes.number.map(|change| change.0.map(Personal::new)),
        media: changes.media,
        recording: changes.recording.map(|change| change.0),
        forwarding,
        voicemail: changes.voicemail.map(|change| change.0),
    };
    if let Some(Some(number)) = &change.number {
        home.number_free(number)?;
    }
    let user = home.store.user_set(home.account, user, &change).await?;
    if change.number.is_some() {
        home.publish_numbers().await?;
    }
    Ok(card(&with_password(shown(&user, &home.domain), made), style))
}

fn forwarding(changes: &UserChanges) -> ForwardingChange {
    let place = |change: &Option<PlaceChange>| {
        change.as_ref().map(|PlaceChange(to)| to.clone().map(Personal::new))
    };
    ForwardingChange {
        always: place(&changes.forward_always),
        busy: place(&changes.forward_busy),
        no_answer: place(&changes.forward_no_answer),
        unreachable: place(&changes.forward_unreachable),
        ring: changes.ring_seconds.map(|change| change.0.map(Duration::from_secs)),
        do_not_disturb: changes.do_not_disturb,
    }
}

/// Shorter passwords are taken, as phones with a key pad may need them, and
/// warned of.
const EASILY_GUESSED: usize = 8;

/// A generated password is shown here and never again: only its digest is kept.
fn with_password(mut shown: Value, password: Option<String>) -> Value {
    if let (Some(fields), Some(password)) = (shown.as_object_mut(), password) {
        fields.insert("password".to_owned(), Value::String(password));
    }
    shown
}

fn shown(user: &User, domain: &str) -> Value {
    json!({
        "sid": user.sid.to_string(),
        "user": user.name.expose(),
        "uri": format!("sip:{}@{domain}", user.name.expose()),
        "number": user.number.as_ref().map(Personal::expose),
        "media": user.media.name(),
        "recording": user.recording.map(|policy| policy.name()),
        "forward_always": user.forwarding.always.as_ref().map(Personal::expose),
        "forward_busy": user.forwarding.busy.as_ref().map(Personal::expose),
        "forward_no_answer": user.forwarding.no_answer.as_ref().map(Personal::expose),
        "forward_unreachable": user.forwarding.unreachable.as_ref().map(Personal::expose),
        "ring_seconds": user.forwarding.ring.map(|ring| ring.as_secs()),
        "do_not_disturb": user.forwarding.do_not_disturb,
        "voicemail": user.mailbox.policy.map(|policy| policy.name()),
        "new_messages": user.mailbox.new,
        "old_messages": user.mailbox.old,
    })
}
