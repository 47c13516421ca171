//! What a mailbox holds whose owner listens by phone.

use std::sync::Arc;
use std::time::Duration;

use landline_call::StoredMessage;
use landline_region::{AccountSid, CallSid, UserSid};
use landline_store::{Store, StoreError, VoicemailToPlay};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::inbox::Incoming;
use crate::shared::Shared;

/// Owners that wait; more are told that it cannot be read.
pub(crate) const QUEUE: usize = 256;
/// Below the core's own limit.
const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) type Entry = (CallSid, AccountSid, UserSid);

/// Answers until the driver's end of the queue is dropped.
pub(crate) async fn run(store: Store, mut entries: mpsc::Receiver<Entry>, shared: Arc<Shared>) {
    while let Some((call, account, user)) = entries.recv().await {
        let messages = match timeout(PATIENCE, messages(&store, account, user)).await {
            Ok(Ok(messages)) => Some(messages),
            Ok(Err(error)) => {
                tracing::warn!(%call, %error, "a mailbox cannot be read");
                None
            }
            Err(_) => None,
        };
        let _gone = shared.answers.send(Incoming::Messages { call, messages }).await;
    }
}

/// Those that are new first, and of all the oldest.
async fn messages(
    store: &Store,
    account: AccountSid,
    user: UserSid,
) -> Result<Vec<StoredMessage>, StoreError> {
    let messages = store.voicemail_to_play(account, user).await?;
    let stored = |it: &VoicemailToPlay| StoredMessage {
        sid: it.sid,
        recording: it.recording,
        is_new: it.is_new,
    };
    Ok(messages.iter().map(stored).collect())
}
