//! Makes the web phone: copies `web/` below OUT_DIR, installs the locked npm
//! packages there, checks the types, bundles, and lists the files for `lib.rs`.
//! Nothing is written beside the sources.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the page is made from. `node_modules`, which an editor may want there,
/// is not looked at.
const SOURCES: [&str; 6] =
    ["src", "static", "package.json", "package-lock.json", "tsconfig.json", "build.mjs"];
const LOCK: &str = "package-lock.json";
/// What the bundler, the type checker and Debian 12 have in common.
const OLDEST_NODE: u32 = 18;

fn main() -> ExitCode {
    for source in SOURCES {
        println!("cargo::rerun-if-changed=web/{source}");
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?);
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo names no manifest")?;
    let (web, sources) = (out.join("web"), Path::new(&manifest).join("web"));
    node()?;
    // Before it is overwritten: whether the installed packages are those.
    let installed = is_installed(&web, &sources);
    copy_sources(&sources, &web).map_err(|error| format!("{}: {error}", web.display()))?;
    if !installed {
        install(&web)?;
    }
    let dist = out.join("dist");
    run(Command::new("node").arg("build.mjs").arg(&dist).current_dir(&web)).map_err(|problem| {
        format!("the web phone (crates/webphone/web) does not build\n{problem}")
    })?;
    list(&dist, &out.join("files.rs"))
}

fn node() -> Result<(), String> {
    let needed = format!(
        "the web phone in the `landline` binary is built with Node.js {OLDEST_NODE} or later and npm: \
         on Debian or Ubuntu `apt-get install nodejs npm`, elsewhere https://nodejs.org. \
         Crates that do not hold the binary need neither: name them with `cargo build -p`."
    );
    let version = Command::new("node").arg("--version").output();
    let version = version.map_err(|error| format!("node cannot be run: {error}\n{needed}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    if major.parse::<u32>().is_ok_and(|major| major >= OLDEST_NODE) {
        let npm = Command::new("npm").arg("--version").output();
        return npm.map(drop).map_err(|error| format!("npm cannot be run: {error}\n{needed}"));
    }
    Err(format!("node is {version}\n{needed}"))
}

fn is_installed(web: &Path, sources: &Path) -> bool {
    let marker = fs::read(web.join("node_modules/.installed"));
    marker.is_ok_and(|marker| fs::read(sources.join(LOCK)).is_ok_and(|lock| lock == marker))
}

fn install(web: &Path) -> Result<(), String> {
    let arguments = ["ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"];
    let mut npm = Command::new("npm");
    run(npm.args(arguments).arg("--loglevel=error").current_dir(web)).map_err(|problem| {
        format!(
            "`npm ci` could not install what crates/webphone/web/{LOCK} names: it wants the npm \
             registry, or npm's cache of an earlier build\n{problem}"
        )
    })?;
    let marker = web.join("node_modules/.installed");
    fs::copy(web.join(LOCK), &marker).map(drop).map_err(|error| error.to_string())
}

fn copy_sources(sources: &Path, web: &Path) -> std::io::Result<()> {
    fs::create_dir_all(web)?;
    for name in SOURCES {
        let (from, to) = (sources.join(name), web.join(name));
        if !from.is_dir() {
            fs::copy(&from, &to)?;
            continue;
        }
        // What was removed at the source is not to be bundled.
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The program's words where it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    Err(format!("{:?} ended with {}\n{}", command.get_program(), output.status, lossy(&words)))
}

fn lossy(words: &[u8]) -> String {
    String::from_utf8_lossy(words).trim().to_owned()
}

/// Writes the list that `lib.rs` includes.
fn list(dist: &Path, file: &Path) -> Result<(), String> {
    let entries = fs::read_dir(dist).map_err(|error| format!("{}: {error}", dist.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut text = "&[\n".to_owned();
    for path in &paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let media_type = media_type(name).ok_or_else(|| format!("{name}: of no known type"))?;
        let _infallible = writeln!(
            text,
            "    File {{ path: {name:?}, media_type: {media_type:?}, bytes: include_bytes!({path:?}) }},"
        );
    }
    text.push_str("]\n");
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn media_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}
