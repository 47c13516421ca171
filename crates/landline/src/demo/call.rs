//! One call in each account between two phones of our own, and who heard whom.

use super::cast::{ACCOUNTS, Account, CALLEE, CALLER};
use super::layout::Layout;
use super::verify::near;

/// What one phone sent and what it heard.
#[derive(Debug, Clone, Copy)]
pub struct Ear {
    pub sent_hz: f64,
    pub heard_hz: Option<f64>,
}

impl Ear {
    pub fn hears(&self, other: &Ear) -> bool {
        self.heard_hz.is_some_and(|heard| near(heard, other.sent_hz))
    }
}

#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Ear,
    pub callee: Ear,
    /// What went wrong, if anything did.
    pub problem: Option<String>,
}

impl Call {
    pub fn is_well(&self) -> bool {
        self.problem.is_none() && self.caller.hears(&self.callee) && self.callee.hears(&self.caller)
    }
}

/// Places the calls of all accounts at the same time; in the accounts' order.
pub async fn place_all(layout: &Layout, accounts: &[Account]) -> Vec<Call> {
    let _ = (layout, CALLEE, CALLER);
    accounts
        .iter()
        .zip(&ACCOUNTS)
        .map(|(_, cast)| Call {
            caller: Ear { sent_hz: cast.tones.0, heard_hz: None },
            callee: Ear { sent_hz: cast.tones.1, heard_hz: None },
            problem: Some("no phones yet".to_owned()),
        })
        .collect()
}
