//! Commands that administer regions, beside their running processes: those
//! see a change in the database or the directory within a second.

mod account;
mod backup;
mod calls;
mod key;
mod ledger;
mod number;
mod place;
mod prove;
mod receipt;
mod recording;
mod region;
pub mod relay;
mod residency;
mod trunk;
mod user;
mod voicemail;

use anyhow::Result;

use crate::cli::{
    AccountVerb, BackupVerb, CallsVerb, KeyVerb, LedgerVerb, NumberVerb, ReceiptVerb,
    RecordingVerb, RegionVerb, ResidencyVerb, RestoreArgs, TrunkVerb, UserVerb, VoicemailVerb,
    Where,
};
use crate::output::{Style, say};

pub use account::enter as enter_in_directory;
pub use place::{Nowhere, Place, publish_numbers};
pub use recording::recorded_tones;

/// What a command wants done.
pub enum Task {
    Region(RegionVerb),
    Account(AccountVerb),
    User(UserVerb),
    Number(NumberVerb),
    Trunk(TrunkVerb),
    Calls(CallsVerb),
    Recording(RecordingVerb),
    Voicemail(VoicemailVerb),
    Key(KeyVerb),
    Ledger(LedgerVerb),
    Receipt(ReceiptVerb),
    Residency(ResidencyVerb),
    Backup(Option<BackupVerb>),
    Restore(RestoreArgs),
}

/// Carries out one command and prints its answer.
pub async fn run(place: &Where, task: Task) -> Result<()> {
    let style = Style::detect(place.json);
    if let Task::Receipt(ReceiptVerb::Verify { file, trust }) = &task {
        return receipt::verify(place, file, trust);
    }
    if let Task::Residency(ResidencyVerb::Map) = task {
        return Ok(say(&residency::map(style)?)?);
    }
    let place = Place::open(place)?;
    let answer = match task {
        Task::Region(verb) => region::run(&place, verb, style).await,
        Task::Account(verb) => account::run(&place, verb, style).await,
        Task::User(verb) => user::run(&place, verb, style).await,
        Task::Number(verb) => number::run(&place, verb, style).await,
        Task::Trunk(verb) => trunk::run(&place, verb, style).await,
        Task::Calls(verb) => calls::run(&place, verb, style).await,
        Task::Recording(verb) => recording::run(&place, verb, style).await,
        Task::Voicemail(verb) => voicemail::run(&place, verb, style).await,
        Task::Key(verb) => key::run(&place, verb, style).await,
        Task::Ledger(verb) => ledger::run(&place, verb, style).await,
        Task::Receipt(verb) => receipt::run(&place, verb, style).await,
        Task::Residency(verb) => residency::run(&place, verb, style).await,
        Task::Backup(verb) => backup::run(&place, verb, style).await,
        Task::Restore(args) => backup::restore(&place, args, style).await,
    }?;
    place.write_egress().await?;
    Ok(say(&answer)?)
}
