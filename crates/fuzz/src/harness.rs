//! How the tests drive a target.

use std::path::{Path, PathBuf};

use crate::mutate;

/// Every file of `corpus/NAME`, by name.
pub fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name))
}

/// Every file of a directory, by name; panics where there is none, since a
/// test over nothing would pass.
pub fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let fail = |error: std::io::Error| -> ! { panic!("{}: {error}", directory.display()) };
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| fail(error));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| fail(error)).path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no input", directory.display());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, std::fs::read(&path).unwrap_or_else(|error| fail(error)))
    };
    paths.into_iter().map(read).collect()
}

/// How many mutated inputs a target gets: `LANDLINE_FUZZ_INPUTS`, or 100,000.
pub fn inputs() -> u64 {
    match std::env::var("LANDLINE_FUZZ_INPUTS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("LANDLINE_FUZZ_INPUTS is no number")),
        Err(_) => 100_000,
    }
}

/// Gives the target every input as it is.
pub fn replay(target: fn(&[u8]), corpus: &[(String, Vec<u8>)]) {
    for (name, input) in corpus {
        let _culprit = Culprit(|| format!("corpus input {name}"));
        target(input);
    }
}

/// Gives the target `count` mutated inputs, prints how many it was and, when
/// one of them makes it panic, which.
pub fn run_mutated(name: &str, target: fn(&[u8]), corpus: &[(String, Vec<u8>)], count: u64) {
    for seed in 0..count {
        let (file, input) = &corpus[seed as usize % corpus.len()];
        let _culprit = Culprit(|| format!("mutate({seed}, {file})"));
        target(&mutate(seed, input));
    }
    println!("{name}: {count} mutated inputs over {} files, no panic", corpus.len());
}

/// Says what was being done when it is dropped by a panic.
struct Culprit<F: Fn() -> String>(F);

impl<F: Fn() -> String> Drop for Culprit<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", (self.0)());
        }
    }
}
