//! The command line as typed.

mod admin;
mod backup;
mod receipt;
mod relay;
mod run;

pub use admin::{
    AccountPolicies, AccountVerb, CallsVerb, KeyVerb, LedgerVerb, NumberTargetArg, NumberVerb,
    PlaceChange, RecordingVerb, RegionVerb, ResidencyVerb, TrunkArgs, TrunkVerb, UserArgs,
    UserChanges, UserVerb, VoicemailVerb, Where,
};
pub use backup::{BackupVerb, RestoreArgs};
pub use receipt::{CheckArgs, ProveArgs, ReceiptVerb, TrustArgs};
pub use relay::{RelayArgs, RelayVerb};
pub use run::{DemoArgs, KeysVerb, PkiVerb, ProxyArgs, RunArgs};

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Calls that are signalled, relayed, recorded and written down in their
/// account's home region, and nowhere else.
#[derive(Debug, Parser)]
#[command(name = "landline", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start three regions on this machine, place a call in each, and stay up.
    Demo(DemoArgs),
    /// Run every role of one region in one process.
    Up(RunArgs),
    /// Run a region's proxy: registrations, calls, records.
    Proxy(ProxyArgs),
    /// Hold a region's client sockets and connections and keep its proxy running
    /// on them: it can be restarted and upgraded (SIGHUP) and no client notices.
    Keep(RunArgs),
    /// Run a region's relay: media and recordings; or empty one.
    #[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
    Relay(RelayArgs),
    /// Run a region's HTTPS API apart from its proxy.
    Console(RunArgs),
    /// The regions that the directory knows.
    Region {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: RegionVerb,
    },
    /// Tenants: a SIP domain and a home region.
    Account {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: AccountVerb,
    },
    /// Persons and devices of an account that register.
    User {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: UserVerb,
    },
    /// E.164 numbers and where they lead.
    Number {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: NumberVerb,
    },
    /// Peers that calls are sent to and taken from.
    Trunk {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: TrunkVerb,
    },
    /// Records of calls.
    Calls {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: CallsVerb,
    },
    /// Recordings of calls.
    Recording {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: RecordingVerb,
    },
    /// Messages that callers left for users.
    Voicemail {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: VoicemailVerb,
    },
    /// Signed statements of where a call was, and files to check them with.
    Receipt {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: ReceiptVerb,
    },
    /// What is held where, what leaves a region, and who receives it.
    Residency {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: ResidencyVerb,
    },
    /// Keys of the HTTPS API, each for one account and one role.
    Key {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// The journal that no call record is lost from.
    Ledger {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: LedgerVerb,
    },
    /// Write a backup of the region into its directory, beside its running
    /// processes; or look at those that are there.
    Backup {
        #[command(flatten)]
        place: Where,
        #[command(subcommand)]
        verb: Option<BackupVerb>,
    },
    /// Bring a backup into the region's database, which must be empty, or try to.
    Restore {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        args: RestoreArgs,
    },
    /// Configuration files.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// A region's master keys.
    Keys {
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Certificates for trying out: an authority of one's own and what it signs.
    Pki {
        #[command(subcommand)]
        verb: PkiVerb,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Read a file as a role would at its start, and name every problem.
    Check {
        file: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn where_and_json_may_stand_before_or_after_the_verb() {
        for line in [
            "landline user --data d --json list acme.test",
            "landline user list acme.test --data d --json",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::User { place, verb: UserVerb::List { account } } = cli.command else {
                panic!("{line}");
            };
            assert!(place.json && place.data == Some("d".into()) && account == "acme.test");
        }
    }

    #[test]
    fn wrong_names_and_numbers_are_usage_errors() {
        for line in [
            "landline user add acme.test dave --media zrtp --data d",
            "landline user add acme.test dave --number 0123 --data d",
            "landline user add acme.test dave --record some --data d",
            "landline trunk add acme.test carrier --send-to carrier.example --data d",
            "landline trunk add acme.test carrier --send-to udp:h:1 --username u --data d",
            "landline number add acme.test +35312345 --to dave --data d",
            "landline account create x --domain acme..test --region ie1 --data d",
            "landline account create x --domain acme.test --region dublin --data d",
            "landline user list acme.test --data d --config f",
            "landline up",
            "landline demo --base-port 65000",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }
}
