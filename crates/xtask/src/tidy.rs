//! House rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::root;

/// Crates that see no clock, randomness, socket, file, channel or runtime.
const PURE: [&str; 5] = ["sip", "media", "region", "control", "call"];

/// What may not stand in a pure crate's source.
const IMPURE: [&str; 14] = [
    "Instant::now(",
    "SystemTime::now(",
    "SystemRandom",
    "getrandom",
    "thread_rng",
    "rand::rng",
    "tokio::",
    "async fn",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::fs",
    "std::thread",
    "std::sync::mpsc",
    "std::process",
];

/// Everything that may lie at the root, apart from dot files.
const TOP_LEVEL: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates",
    "sipconf",
    "testdata",
    "benches",
    "docker-compose.yml",
    "docs",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "rustfmt.toml",
    "deny.toml",
];

pub fn run() -> Result<()> {
    let files = tracked()?;
    let mut faults = Vec::new();
    faults.extend(strangers_at_the_root(&files));
    faults.extend(impurities(&files));
    faults.extend(unfinished(&files));
    faults.extend(crate::personal::undeclared(&files));
    faults.extend(crate::personal::ways_out(&files));
    let tests = crate::residency_page::tests(&files);
    faults.extend(crate::residency_page::faults(&tests));
    faults.extend(crate::conformance_page::faults(&tests));
    if !faults.is_empty() {
        bail!("house rules are broken:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn tracked() -> Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()?;
    if !listed.status.success() {
        bail!("`git ls-files` ended with {}", listed.status);
    }
    let names = String::from_utf8(listed.stdout)?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn strangers_at_the_root(files: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = files
        .iter()
        .filter_map(|file| file.iter().next()?.to_str().map(str::to_owned))
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    names.dedup();
    names.into_iter().map(|name| format!("{name} does not belong at the root")).collect()
}

fn impurities(files: &[PathBuf]) -> Vec<String> {
    let pure = |file: &Path| {
        PURE.iter().any(|name| file.starts_with(format!("crates/{name}/src")))
            && file.extension().is_some_and(|extension| extension == "rs")
    };
    lines(files, pure)
        .filter_map(|(file, number, line)| {
            let impure = IMPURE.iter().find(|pattern| line.contains(*pattern))?;
            Some(format!("{}:{number}: `{impure}` in a pure crate", file.display()))
        })
        .collect()
}

fn unfinished(files: &[PathBuf]) -> Vec<String> {
    let source = |file: &Path| {
        file.starts_with("crates")
            && file.extension().is_some_and(|extension| extension == "rs")
            && !file.starts_with("crates/xtask")
    };
    lines(files, source)
        .filter(|(_, _, line)| {
            ["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore"]
                .iter()
                .any(|mark| line.contains(mark))
        })
        .map(|(file, number, line)| format!("{}:{number}: {}", file.display(), line.trim()))
        .collect()
}

/// The code lines (tests and comments apart) of the files that `wanted` takes.
pub fn lines<'a>(
    files: &'a [PathBuf],
    wanted: impl Fn(&Path) -> bool + 'a,
) -> impl Iterator<Item = (&'a Path, usize, String)> + 'a {
    files.iter().filter(move |file| wanted(file)).flat_map(|file| {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let code: Vec<_> = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (file.as_path(), index + 1, line.to_owned()))
            .collect();
        code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_rules_hold() {
        run().unwrap();
    }

    #[test]
    fn a_stranger_at_the_root_is_named() {
        let faults = strangers_at_the_root(&["notes.txt".into(), "crates/sip/src/lib.rs".into()]);
        assert_eq!(faults, ["notes.txt does not belong at the root"]);
    }
}
