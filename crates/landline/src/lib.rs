//! The binary's rooms: configuration, command line, roles, administration,
//! the demo, telemetry. It alone knows every other crate.

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
mod files;
mod open;
mod output;
mod pki;
mod roles;
mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{CommandFactory, Parser};
use serde_json::json;

use admin::Task;
use cli::{Cli, Command, ConfigVerb, KeysVerb, PkiVerb, RelayArgs, RunArgs};
use config::{CheckFiles, Config, ConfigError};
use output::{Style, card, say};

/// Runs the command that the process was started with.
///
/// Exit codes: 0 done, 1 failed, 2 used wrongly.
pub fn run() -> ExitCode {
    // Several crates bring a rustls provider along; this is the one for all.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("landline: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(carry_out(cli.command)));
    match result {
        Ok(code) => code,
        Err(error) if error.is::<admin::Nowhere>() => {
            Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, error).exit()
        }
        Err(error) => {
            eprintln!("landline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(command: Command) -> Result<ExitCode> {
    let (place, task) = match command {
        Command::Demo(args) => return demo::run(args).await,
        Command::Up(args) => return done(roles::up(&begin(args)?).await),
        Command::Proxy(args) => {
            return done(roles::proxy(&begin(args.run)?, args.keeper.as_deref()).await);
        }
        Command::Keep(args) => return done(roles::keep(&begin(args)?).await),
        Command::Relay(RelayArgs { verb: Some(verb), .. }) => {
            return done(admin::relay::run(&verb).await);
        }
        Command::Relay(RelayArgs { run, verb: None }) => {
            let run = run.ok_or(admin::Nowhere)?;
            return done(roles::relay(&begin(run)?).await);
        }
        Command::Console(args) => return done(roles::console(&begin(args)?).await),
        Command::Config { verb } => return done(check(verb)),
        Command::Pki { verb } => return done(make_certificates(verb)),
        Command::Keys { verb } => return done(make_keys(verb)),
        Command::Region { place, verb } => (place, Task::Region(verb)),
        Command::Account { place, verb } => (place, Task::Account(verb)),
        Command::User { place, verb } => (place, Task::User(verb)),
        Command::Number { place, verb } => (place, Task::Number(verb)),
        Command::Trunk { place, verb } => (place, Task::Trunk(verb)),
        Command::Calls { place, verb } => (place, Task::Calls(verb)),
        Command::Recording { place, verb } => (place, Task::Recording(verb)),
        Command::Voicemail { place, verb } => (place, Task::Voicemail(verb)),
        Command::Receipt { place, verb } => (place, Task::Receipt(verb)),
        Command::Residency { place, verb } => (place, Task::Residency(verb)),
        Command::Key { place, verb } => (place, Task::Key(verb)),
        Command::Ledger { place, verb } => (place, Task::Ledger(verb)),
        Command::Backup { place, verb } => (place, Task::Backup(verb)),
        Command::Restore { place, args } => (place, Task::Restore(args)),
    };
    done(admin::run(&place, task).await)
}

/// What holds for every role, before it reads its configuration.
fn begin(args: RunArgs) -> Result<PathBuf> {
    if args.reveal_tls_secrets {
        let file = std::env::var_os("SSLKEYLOGFILE");
        let file = file.context("--reveal-tls-secrets: SSLKEYLOGFILE names no file")?;
        eprintln!(
            "landline: WARNING: whoever reads {} can read every TLS session of this process",
            PathBuf::from(file).display()
        );
        landline_proxy::reveal_session_secrets();
    }
    Ok(args.config)
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// `landline config check`: what a role does before it binds anything.
fn check(verb: ConfigVerb) -> Result<()> {
    let ConfigVerb::Check { file, json } = verb;
    let checked = Config::load(&file).and_then(|config| match config.missing_files() {
        missing if missing.is_empty() => Ok(config),
        problems => Err(ConfigError { file: file.clone(), problems }),
    });
    let style = Style::detect(json);
    match checked {
        Ok(config) => {
            let roles: Vec<&str> = [
                ("proxy", config.proxy.is_some()),
                ("relay", config.relay.is_some()),
                ("console", config.console.is_some()),
            ]
            .into_iter()
            .filter_map(|(role, there)| there.then_some(role))
            .collect();
            let answer = json!({
                "ok": true,
                "file": file.display().to_string(),
                "region": config.region.code.to_string(),
                "roles": roles,
                "problems": [],
            });
            Ok(say(&card(&answer, style))?)
        }
        Err(error) if json => {
            let problems: Vec<_> = error
                .problems
                .iter()
                .map(|problem| json!({ "line": problem.line, "problem": problem.text }))
                .collect();
            let answer =
                json!({ "ok": false, "file": file.display().to_string(), "problems": problems });
            say(&card(&answer, style))?;
            bail!("{} cannot be used", file.display())
        }
        Err(error) => Err(error.into()),
    }
}

fn make_keys(verb: KeysVerb) -> Result<()> {
    let KeysVerb::Create { config } = verb;
    let config = Config::load(&config)?;
    open::create_key_ring(&config)?;
    Ok(say(&format!("{}", config.key_ring.display()))?)
}

fn make_certificates(verb: PkiVerb) -> Result<()> {
    let PkiVerb::Init { dir, region, mut proxies, names } = verb;
    if proxies.is_empty() {
        proxies.push(pki::first_proxy(region));
    }
    let now = roles::wall_clock();
    let authority = pki::Authority::open(&dir, now)?;
    let own = dir.join(region.as_str());
    pki::provide_region(&authority, &own, region, &proxies, &names, now)?;
    let file = |stem: &str| own.join(stem).display().to_string();
    say(&format!(
        "ca                          {}\nproxy.tls.certificate       {}.pem\nproxy.identity.certificate  {}.pem\nrelay.identity.certificate  {}.pem\nconsole.tls.certificate     {}.pem\nKeys lie beside them as .key.",
        authority.file().display(),
        file(pki::PROXY_TLS),
        file(pki::PROXY_IDENTITY),
        file(pki::RELAY_IDENTITY),
        file(pki::CONSOLE_TLS),
    ))
    .map_err(|error| anyhow!(error))
}
