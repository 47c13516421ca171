//! The registry of sub-processors: one file, the same everywhere.

use std::path::Path;

use landline_region::egress::Registry;

use super::ConfigError;
use super::load::Source;

/// Reads and checks the registry.
pub fn load(file: &Path) -> Result<Registry, ConfigError> {
    let source = Source::read(file)?;
    let registry: Registry = source.parse()?;
    let problems = registry.problems();
    source.verdict(problems.into_iter().map(|it| (it.key, it.problem)).collect())?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("subprocessors.toml");
        let text = "version = 3\n\n[[subprocessors]]\nname = \"Post\"\nhosts = [\"smtp.example\"]\n\
                    flows = [\"mail\"]\nregions = [\"ie1\"]\npurpose = \"mail\"\n\
                    jurisdiction = \"IE\"\nsince = \"2026-11-22\"\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(load(&file).unwrap().version, 3);
        std::fs::write(&file, text.replace("[\"mail\"]", "[]")).unwrap();
        let error = load(&file).unwrap_err().to_string();
        assert!(error.contains("subprocessors.toml:6: subprocessors[0].flows"), "{error}");
        std::fs::write(&file, text.replace("[\"mail\"]", "[\"pigeon\"]")).unwrap();
        assert!(load(&file).unwrap_err().to_string().contains(":6: unknown variant `pigeon`"));
    }
}
