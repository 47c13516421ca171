//! Reading a configuration file: every problem with its file and line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, DatabaseUrl, Regions, check, subprocessors};

/// What is wrong with one file. Prints one problem a line, as
/// `FILE:LINE: KEY: what is wrong, and what would be right`.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    pub file: PathBuf,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; `None` when no line is to blame.
    pub line: Option<usize>,
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", problem.text)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks a region's file. Paths in it are relative to it;
    /// variables it names are read from the environment.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(file)?;
        let mut config: Self = source.parse()?;
        let base = file.parent().unwrap_or(Path::new(""));
        for (_, path) in config.paths_mut() {
            *path = base.join(&*path);
        }
        let mut problems = resolve_database(&mut config, base);
        problems.extend(check::config(&config));
        match Regions::load(&config.directory.regions) {
            Ok(regions) => problems.extend(check::against_regions(&config, &regions)),
            Err(error) => return Err(source.with_listed("directory.regions", problems, error)),
        }
        if let Some(file) = &config.egress.subprocessors
            && let Err(error) = subprocessors::load(file)
        {
            return Err(source.with_listed("egress.subprocessors", problems, error));
        }
        source.verdict(problems).map(|()| config)
    }

    /// The database's URL, with what the environment gave.
    pub fn database_url(&self) -> &str {
        self.database.url.as_ref().map_or("", DatabaseUrl::expose)
    }

    /// Every path with its key.
    pub fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = vec![
            ("data_dir", &mut self.data_dir),
            ("key_ring", &mut self.key_ring),
            ("directory.snapshot", &mut self.directory.snapshot),
            ("directory.regions", &mut self.directory.regions),
            ("ca", &mut self.ca),
        ];
        if let Some(registry) = &mut self.egress.subprocessors {
            paths.push(("egress.subprocessors", registry));
        }
        if let Some(backup) = &mut self.backup {
            paths.push(("backup.directory", &mut backup.directory));
        }
        if let Some(proxy) = &mut self.proxy {
            paths.push(("proxy.identity.certificate", &mut proxy.identity.certificate));
            paths.push(("proxy.identity.key", &mut proxy.identity.key));
            if let Some(ca) = &mut proxy.trunk_ca {
                paths.push(("proxy.trunk_ca", ca));
            }
            if let Some(ca) = proxy.push.as_mut().and_then(|push| push.ca.as_mut()) {
                paths.push(("proxy.push.ca", ca));
            }
            if let Some(tls) = &mut proxy.tls {
                paths.push(("proxy.tls.certificate", &mut tls.certificate));
                paths.push(("proxy.tls.key", &mut tls.key));
                if let Some(ca) = &mut tls.client_ca {
                    paths.push(("proxy.tls.client_ca", ca));
                }
                for pair in &mut tls.also {
                    paths.push(("proxy.tls.also.certificate", &mut pair.certificate));
                    paths.push(("proxy.tls.also.key", &mut pair.key));
                }
            }
        }
        if let Some(relay) = &mut self.relay {
            paths.push(("relay.identity.certificate", &mut relay.identity.certificate));
            paths.push(("relay.identity.key", &mut relay.identity.key));
        }
        if let Some(console) = &mut self.console {
            paths.push(("console.tls.certificate", &mut console.tls.certificate));
            paths.push(("console.tls.key", &mut console.tls.key));
            if let Some(ca) = &mut console.webhooks.ca {
                paths.push(("console.webhooks.ca", ca));
            }
        }
        paths
    }
}

/// The key to blame and what is wrong, before the line is known.
pub(super) type Finding = (String, String);

fn resolve_database(config: &mut Config, base: &Path) -> Vec<Finding> {
    let database = &mut config.database;
    let mut findings = Vec::new();
    let mut variable = |key: &str, name: &Option<String>| {
        let name = name.as_ref()?;
        std::env::var(name)
            .map_err(|_| {
                findings
                    .push((key.to_owned(), format!("the environment variable {name} is not set")))
            })
            .ok()
    };
    let from_environment = variable("database.url_env", &database.url_env);
    let password = variable("database.password_env", &database.password_env);
    if database.url.is_some() == database.url_env.is_some() {
        let wanted = "wanted one of `url` and `url_env`, as `url = \"sqlite:database.sqlite\"`";
        findings.push(("database".to_owned(), wanted.to_owned()));
    }
    if let Some(text) = from_environment {
        match text.parse() {
            Ok(url) => database.url = Some(url),
            Err(error) => findings.push(("database.url_env".to_owned(), error)),
        }
    }
    if let Some(url) = &mut database.url {
        url.anchor(base);
        if let Some(Err(wanted)) = password.map(|password| url.set_password(&password)) {
            findings.push(("database.password_env".to_owned(), wanted.to_owned()));
        }
    }
    findings
}

/// One file's text, to find lines in.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: String,
}

impl<'a> Source<'a> {
    pub fn read(file: &'a Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            problems: vec![Problem { line: None, text: format!("cannot be read: {error}") }],
        })?;
        Ok(Self { file, text })
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let line = error.span().map(|span| self.line(&span));
            // The message may run over several lines; the first says what is wrong.
            let text = error.message().lines().collect::<Vec<_>>().join("; ");
            ConfigError { file: self.file.to_owned(), problems: vec![Problem { line, text }] }
        })
    }

    pub fn verdict(&self, findings: Vec<Finding>) -> Result<(), ConfigError> {
        if findings.is_empty() {
            return Ok(());
        }
        let problems = findings
            .into_iter()
            .map(|(key, text)| Problem { line: self.line_of(&key), text: format!("{key}: {text}") })
            .collect();
        Err(ConfigError { file: self.file.to_owned(), problems })
    }

    /// The findings here, and behind `key` those of the file it names.
    fn with_listed(
        &self,
        key: &str,
        mut findings: Vec<Finding>,
        error: ConfigError,
    ) -> ConfigError {
        findings.push((key.to_owned(), error.to_string()));
        match self.verdict(findings) {
            Err(error) => error,
            Ok(()) => error,
        }
    }

    /// The line of `a.b[2].c`, or of the nearest table around it.
    fn line_of(&self, key: &str) -> Option<usize> {
        let root = DeTable::parse(&self.text).ok()?;
        let mut found: Option<Range<usize>> = None;
        let mut table: Option<&DeTable<'_>> = Some(root.get_ref());
        for part in key.split('.') {
            let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((name, index)) => (name, index.parse::<usize>().ok()),
                None => (part, None),
            };
            let Some((key, value)) =
                table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name))
            else {
                break;
            };
            found = Some(key.span());
            let mut value: &Spanned<DeValue<'_>> = value;
            if let Some(item) = index
                .and_then(|index| value.get_ref().as_array().and_then(|items| items.get(index)))
            {
                found = Some(item.span());
                value = item;
            }
            table = value.get_ref().as_table();
        }
        found.map(|span| self.line(&span))
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        before.bytes().filter(|&b| b == b'\n').count() + 1
    }
}
