//! `landline-residency`: the search alone, for anybody's regions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use landline_residency::{
    CanaryList, PlaceKind, Report, Scanner, Search, audio_leaks, decrypted_streams, read_flows,
    scan_database, text_leaks,
};

#[derive(Parser)]
#[command(
    name = "landline-residency",
    about = "Searches regions for what belongs to another region"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Search; exit status 0 only if nothing was found that is not declared.
    Search(Box<SearchArgs>),
    /// Plant every form of every canary in memory and say which the search
    /// would miss.
    Check {
        #[arg(long, value_name = "FILE.json")]
        canaries: PathBuf,
    },
}

#[derive(Args)]
struct SearchArgs {
    /// Canaries and declared exceptions: docs/residency-conformance.md.
    #[arg(long, value_name = "FILE.json")]
    canaries: PathBuf,
    /// A directory that a region holds; may be repeated.
    #[arg(long = "dir", value_name = "REGION=DIR", value_parser = held)]
    directories: Vec<(String, String)>,
    /// A file of a kind of its own, as core-dump; may be repeated.
    #[arg(long = "file", value_name = "REGION=KIND:FILE", value_parser = held)]
    files: Vec<(String, String)>,
    /// sqlite:PATH or postgres://…; may be repeated.
    #[arg(long = "database", value_name = "REGION=URL", value_parser = held)]
    databases: Vec<(String, String)>,
    /// pcap or pcapng of what a region sent or took; may be repeated.
    #[arg(long = "capture", value_name = "REGION=FILE", value_parser = held)]
    captures: Vec<(String, String)>,
    /// TLS session secrets (NSS key log), for all captures.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Ports where the captures' TLS is spoken, besides the usual ones.
    #[arg(long, value_name = "PORT")]
    tls_port: Vec<u16>,
    /// Where report.md and report.json are written.
    #[arg(long, value_name = "DIR", default_value = "residency-report")]
    report: PathBuf,
}

fn held(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((region, what)) if !region.is_empty() && !what.is_empty() => {
            Ok((region.to_owned(), what.to_owned()))
        }
        _ => Err("wanted REGION=…".to_owned()),
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Search(args) => search(&args),
        Verb::Check { canaries } => check(&canaries),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("landline-residency: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn search(args: &SearchArgs) -> Result<bool> {
    let list = CanaryList::load(&args.canaries)?;
    let scanner = Scanner::new(&list)?;
    let mut search = Search::new(&scanner, &list.exceptions);
    for (region, directory) in &args.directories {
        search.directory(region, Path::new(directory), None)?;
    }
    for (region, file) in &args.files {
        let (kind, path) = file.split_once(':').context("--file wants REGION=KIND:FILE")?;
        let kind = PlaceKind::ALL.into_iter().find(|it| it.name() == kind);
        let kind = kind.with_context(|| {
            let names: Vec<_> = PlaceKind::ALL.iter().map(|it| it.name()).collect();
            format!("--file {file}: the kinds are {}", names.join(", "))
        })?;
        search.file(region, kind, path, Path::new(path))?;
    }
    for (region, url) in &args.databases {
        scan_database(&mut search, region, url)?;
    }
    let mut opaque = 0;
    for (region, capture) in &args.captures {
        opaque += search_capture(&mut search, region, Path::new(capture), args)?;
    }
    let mut report = Report::of(&search, scanner.needles(), &list.exceptions);
    if !args.captures.is_empty() {
        let keys = args.keys.is_some();
        report.fact(!keys || opaque == 0, format!("{opaque} TLS connections were not decrypted"));
    }
    let passed = report.judge();
    report.write(&args.report)?;
    print!("{}", report.markdown());
    Ok(passed)
}

/// How many TLS connections no key opened.
fn search_capture(
    search: &mut Search<'_>,
    region: &str,
    path: &Path,
    args: &SearchArgs,
) -> Result<usize> {
    for (key, flow) in read_flows(path)? {
        let name = format!("protocol {} {} > {}", key.protocol, key.from, key.to);
        search.octets(region, PlaceKind::Capture, &name, &flow.payload);
    }
    let Some(keys) = &args.keys else { return Ok(0) };
    let streams = decrypted_streams(path, keys, &args.tls_port)?;
    for stream in &streams {
        let (client, server) = (stream.client, stream.server);
        for (name, octets) in [
            (format!("TLS {client} > {server}"), &stream.from_client),
            (format!("TLS {server} > {client}"), &stream.from_server),
        ] {
            search.octets(region, PlaceKind::Decrypted, &name, octets);
        }
    }
    Ok(streams.iter().filter(|stream| !stream.is_opened()).count())
}

fn check(canaries: &Path) -> Result<bool> {
    let list = CanaryList::load(canaries)?;
    let scanner = Scanner::new(&list)?;
    let (mut planted, mut missed) = (0, 0);
    for canary in &list.canaries {
        let words = canary.words.iter().map(|word| (word.what.clone(), text_leaks(word)));
        let tones = canary.tones.iter().map(|&hz| (format!("tone of {hz} Hz"), audio_leaks(hz)));
        for (what, leaks) in words.chain(tones) {
            for leak in leaks {
                planted += 1;
                let seen = scanner.sightings(&[b"\0\x01", &leak.octets[..], b"\xff"].concat());
                let found = seen.iter().any(|it| it.what == what && it.canary == canary.region);
                if !found {
                    missed += 1;
                    println!("missed: {what} of {} as {}", canary.region, leak.form);
                }
            }
        }
    }
    if planted == 0 {
        bail!("the list holds no canaries");
    }
    println!("{planted} leaks planted, {missed} missed");
    Ok(missed == 0)
}
