//! The limit of open files. The usual one of 1,024 holds 250 calls, or a
//! thousand clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Roles;
use crate::config::Config;

/// Two sockets a leg, with those that rest after a call.
const FILES_A_SESSION: u64 = 4;

/// Takes as many as the system lets this process have, and says so where that
/// is less than its configured limits come to.
pub fn allow(config: &Config, roles: Roles) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let proxy = config.proxy.as_ref().filter(|_| roles.proxy);
    let relay = config.relay.as_ref().filter(|_| roles.relay);
    let console = config.console.as_ref().filter(|_| roles.console);
    let wanted = proxy.map_or(0, |it| u64::from(it.limits.max_connections))
        + relay.map_or(0, |it| u64::from(it.limits.max_sessions) * FILES_A_SESSION)
        + console.map_or(0, |it| u64::from(it.limits.max_connections));
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "the limit of open files (LimitNOFILE) is below what max_connections and max_sessions \
             come to"
        );
    }
}
