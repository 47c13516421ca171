//! Where a user's calls are sent on to, as it stands in the database.

use std::time::Duration;

use landline_call::tenancy::{Forwarding, ForwardingChange, MAILBOX, MOST_PLACES, is_e164, places};
use landline_region::catalogue::sealed::SEALED_USER_FORWARDING;
use landline_region::{AccountSid, Personal, UserSid};
use serde_json::{Value, json};

use crate::error::{Result, StoreError};
use crate::seal::Sealer;
use crate::sql::{Tx, values};
use crate::store::Store;

/// Shorter, nobody could answer; longer, no caller waits.
const RING_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;

/// `None` where nothing is set.
fn sealed(sealer: &Sealer, user: UserSid, forwarding: &Forwarding) -> Option<Vec<u8>> {
    if *forwarding == Forwarding::default() {
        return None;
    }
    let place = |place: &Option<Personal<String>>| place.as_ref().map(|it| it.expose().clone());
    let written = json!({
        "always": place(&forwarding.always),
        "busy": place(&forwarding.busy),
        "no_answer": place(&forwarding.no_answer),
        "unreachable": place(&forwarding.unreachable),
        "ring_seconds": forwarding.ring.map(|ring| ring.as_secs()),
        "do_not_disturb": forwarding.do_not_disturb,
    });
    let written = written.to_string();
    Some(sealer.seal(&SEALED_USER_FORWARDING, &user.to_string(), written.as_bytes()))
}

pub(crate) fn opened(
    sealer: &Sealer,
    user: UserSid,
    account: AccountSid,
    sealed: Option<Vec<u8>>,
) -> Result<Forwarding> {
    let Some(sealed) = sealed else { return Ok(Forwarding::default()) };
    let text = sealer.open_text(&SEALED_USER_FORWARDING, &user.to_string(), &sealed)?;
    let written: Value = serde_json::from_str(&text).map_err(|_| StoreError::Sealed {
        what: "user.forwarding",
        account,
        problem: "it is not JSON",
    })?;
    let place = |name: &str| written[name].as_str().map(|it| Personal::new(it.to_owned()));
    Ok(Forwarding {
        always: place("always"),
        busy: place("busy"),
        no_answer: place("no_answer"),
        unreachable: place("unreachable"),
        ring: written["ring_seconds"].as_u64().map(Duration::from_secs),
        do_not_disturb: written["do_not_disturb"] == true,
    })
}

impl Store {
    pub(crate) async fn forwarding_set(
        &self,
        tx: &mut Tx,
        sealer: &Sealer,
        account: AccountSid,
        user: UserSid,
        change: &ForwardingChange,
    ) -> Result<()> {
        if *change == ForwardingChange::default() {
            return Ok(());
        }
        let select = "SELECT forwarding FROM account_user WHERE sid = $1";
        let known = tx.row(select, values![user]).await?;
        let known = known.map(|row| row.bytes_or_null("forwarding")).transpose()?.flatten();
        let forwarding = opened(sealer, user, account, known)?.changed(change);
        self.checked_forwarding(tx, account, user, &forwarding).await?;
        let update = "UPDATE account_user SET forwarding = $2 WHERE sid = $1";
        tx.execute(update, values![user, sealed(sealer, user, &forwarding)]).await?;
        Ok(())
    }

    /// Each place is a number, or another user of the account.
    async fn checked_forwarding(
        &self,
        tx: &mut Tx,
        account: AccountSid,
        user: UserSid,
        forwarding: &Forwarding,
    ) -> Result<()> {
        let invalid = |problem: &str| {
            Err(StoreError::Invalid { field: "forwarding", problem: problem.to_owned() })
        };
        if forwarding.ring.is_some_and(|ring| !RING_SECONDS.contains(&ring.as_secs())) {
            return invalid("phones ring 5 to 300 seconds");
        }
        let Forwarding { always, busy, no_answer, unreachable, .. } = forwarding;
        for to in [always, busy, no_answer, unreachable].into_iter().flatten() {
            let named: Vec<&str> = places(to.expose()).concat();
            if named.len() > MOST_PLACES {
                return invalid("calls are sent on to twelve places at the most");
            }
            // The mailbox takes a call alone. A user's name may look like several.
            if to.expose() == MAILBOX || self.is_place(tx, account, user, to.expose()).await.is_ok()
            {
                continue;
            }
            for place in named {
                self.is_place(tx, account, user, place).await?;
            }
        }
        Ok(())
    }

    async fn is_place(
        &self,
        tx: &mut Tx,
        account: AccountSid,
        user: UserSid,
        place: &str,
    ) -> Result<()> {
        let problem = match self.user_sid(tx, account, place).await {
            _ if is_e164(place) => return Ok(()),
            Ok(other) if other != user => return Ok(()),
            Ok(_) => "a user's calls lead to that user",
            Err(StoreError::NotFound { .. }) if place == MAILBOX => {
                "voicemail stands alone, not beside or after others: the mailbox takes what \
                 none of them takes"
            }
            Err(StoreError::NotFound { .. }) => {
                "wanted users of the account, numbers of E.164 with +, one or several with & \
                 between those that ring at once and commas between those that ring one after \
                 the other; or voicemail alone"
            }
            Err(error) => return Err(error),
        };
        Err(StoreError::Invalid { field: "forwarding", problem: problem.to_owned() })
    }
}
