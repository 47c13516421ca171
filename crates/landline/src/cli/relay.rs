//! A region's relay: running one, and emptying one.

use clap::{Args, Subcommand};
use landline_control::RelayId;

use super::{RunArgs, Where};

#[derive(Debug, Args)]
pub struct RelayArgs {
    #[command(flatten)]
    pub run: Option<RunArgs>,
    #[command(subcommand)]
    pub verb: Option<RelayVerb>,
}

#[derive(Debug, Subcommand)]
pub enum RelayVerb {
    /// Have a relay left by its calls, for maintenance, and wait until it is
    /// empty. It takes no new ones until `resume`, also after a restart.
    Drain {
        /// Its name, as configured.
        #[arg(value_parser = name)]
        relay: RelayId,
        /// Give up after so many seconds; the relay goes on being emptied.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        limit: u32,
        #[command(flatten)]
        place: Where,
    },
    /// Let a drained relay take calls again.
    Resume {
        #[arg(value_parser = name)]
        relay: RelayId,
        #[command(flatten)]
        place: Where,
    },
}

fn name(text: &str) -> Result<RelayId, String> {
    let fine = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    match fine {
        true => Ok(RelayId(text.to_owned())),
        false => Err("no name of a relay: wanted 1 to 63 letters, digits, `-`, `.` or `_`".into()),
    }
}
