//! The parts of a recording: each relay that carried the call wrote one.
//!
//! A relay that goes on where another died can neither wait for what that one
//! has in its spool nor know where its chain ends, and must not take a number
//! that it may have used. So every part has rows, a key and a chain of its own;
//! they are one recording to whoever lists, hears or deletes it.

use aws_lc_rs::digest::{Context, SHA256};
use landline_region::RecordingSid;

/// Which part of which recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The recording's sid, as its call has it.
    pub whole: RecordingSid,
    /// 0 for what the first relay recorded.
    pub segment: u16,
}

impl Part {
    pub const fn of(whole: RecordingSid, segment: u16) -> Self {
        Self { whole, segment }
    }

    /// What its rows go by: the recording's own sid for the first, and one that
    /// follows from it for the others. Which recording a part belongs to can so
    /// be checked, and not be changed.
    pub fn sid(&self) -> RecordingSid {
        if self.segment == 0 {
            return self.whole;
        }
        let mut context = Context::new(&SHA256);
        context.update(b"landline recording part 1");
        context.update(&self.whole.as_u128().to_be_bytes());
        context.update(&self.segment.to_be_bytes());
        let digest = context.finish();
        let (first, _) = digest.as_ref().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        RecordingSid::from_u128(u128::from_be_bytes(*first))
    }
}
