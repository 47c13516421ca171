//! What comes over a control connection, from a proxy or from a relay.

use std::fmt::Debug;

use landline_control::{FrameError, Framer, FromRelay, MAX_FRAME, ToRelay, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A byte stream of either side: the first byte says how to cut it. However it
/// is cut, the same messages and the same error come out, and what was read is
/// written and read again as it was.
pub fn control(input: &[u8]) {
    let Some((chunk, stream)) = input.split_first() else { return };
    let chunk = usize::from(*chunk).max(1);
    one_side::<ToRelay>(chunk, stream);
    one_side::<FromRelay>(chunk, stream);
}

fn one_side<M: Serialize + DeserializeOwned + PartialEq + Debug>(chunk: usize, stream: &[u8]) {
    let (messages, error) = read::<M>([stream].into_iter());
    let cut = read::<M>(stream.chunks(chunk));
    assert!((&messages, &error) == (&cut.0, &cut.1), "the cuts of the stream moved a border");
    if let Some(FrameError::TooLong(length)) = error {
        assert!(length > MAX_FRAME, "a frame within the limit was refused as too long");
    }
    let mut written = Vec::new();
    for message in &messages {
        // What a log would do with it.
        assert!(!format!("{message:?}").is_empty());
        let before = written.len();
        encode(message, &mut written).expect("a message that came in a frame fits one");
        assert!(written.len() - before <= MAX_FRAME + 4);
    }
    // A number may come in more octets than it needs: never is ours the longer.
    assert!(written.len() <= stream.len(), "encoding grew what was decoded");
    let again = read::<M>([written.as_slice()].into_iter());
    assert!(again.0 == messages && again.1.is_none(), "a message changed on its second way");
}

fn read<'a, M: DeserializeOwned>(
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<M>, Option<FrameError>) {
    let mut framer = Framer::default();
    let mut messages = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        loop {
            match framer.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
