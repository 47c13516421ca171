//! An answered call, or a parked one, as it outlives its process.

use std::fmt;

use landline_region::{AccountSid, CallSid, Personal, UnixMillis};

/// Everything it takes to go on with an answered call: dialogs, media, where its
/// session is. [`crate::Input::Restore`] makes it a call again.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub call: CallSid,
    pub account: AccountSid,
    /// Of the record's next step.
    pub sequence: u32,
    /// The call was up then.
    pub at: UnixMillis,
    /// Addresses, descriptions and media keys: to be sealed wherever it is kept,
    /// and to stay in the region.
    pub state: Personal<Vec<u8>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({}, {} octets)", self.call, self.state.expose().len())
    }
}
