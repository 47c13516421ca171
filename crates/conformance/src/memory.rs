//! What a process holds in memory, where the kernel writes no crash dump to
//! where the process was.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

const CHUNK: usize = 1 << 20;

/// Whether a crash dump would go elsewhere: to a program, to a directory of the
/// machine's, or nowhere.
pub fn dumps_go_elsewhere() -> bool {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let pattern = pattern.trim();
    pattern.is_empty() || pattern.starts_with('|') || pattern.contains('/')
}

/// Stops the process and writes its writable memory to a sparse file.
pub fn dump(id: u32, to: &Path) -> Result<()> {
    crate::net::run(Command::new("kill").args(["-STOP", &id.to_string()]))?;
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let memory = File::open(format!("/proc/{id}/mem")).context("a process's memory")?;
    let dump = File::create(to)?;
    let mut chunk = vec![0; CHUNK];
    let mut written = 0;
    for (mut from, to) in maps.lines().filter_map(writable) {
        while from < to {
            let wanted = usize::try_from(to - from).unwrap_or(CHUNK).min(CHUNK);
            // Some of the kernel's own mappings cannot be read.
            let Ok(read @ 1..) = memory.read_at(&mut chunk[..wanted], from) else { break };
            if chunk[..read].iter().any(|octet| *octet != 0) {
                dump.write_all_at(&chunk[..read], written)?;
            }
            from += read as u64;
            written += read as u64;
        }
    }
    Ok(dump.set_len(written)?)
}

/// proc_pid_maps(5): `FROM-TO PERMISSIONS …`.
fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-').filter(|_| rest.starts_with("rw"))?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_written_is_taken() {
        assert_eq!(writable("7f00-8f00 rw-p 00000000 00:00 0 [heap]"), Some((0x7f00, 0x8f00)));
        assert_eq!(writable("7f00-8f00 r-xp 00000000 00:00 0"), None);
        assert_eq!(writable("nonsense"), None);
    }
}
