use std::path::Path;
use std::time::SystemTime;

/// Tells one version of a snapshot from another without reading it. The default
/// is that of a file that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    pub fn of(path: &Path) -> Self {
        let read = || {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self(read())
    }
}
