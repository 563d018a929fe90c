//! Rules, connections and stores of files: the config file, and `rules.d/*.toml` beside it.
//!
//! Rules of files are read-only elsewhere, but may be paused. A file is read at the start and again at SIGHUP; a rule that is not in any file any more
//! becomes an orphan: it does not run, and what is known of it stays until the file has it again or somebody deletes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::definition;
use crate::config::Config;
use crate::error::{Error, ErrorKind, codes};

/// The directory of rules beside the config file.
const RULES_DIRECTORY: &str = "rules.d";

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Connections and stores.
    pub base: Config,
    /// The bodies of rules, by name.
    pub rules: BTreeMap<String, String>,
}

/// Reads the config file and the files of rules beside it.
///
/// # Errors
/// Every problem of every file; a rule, connection or store that two files define.
pub fn read(config: &Path) -> Result<Files, Vec<Error>> {
    let mut files = Files::default();
    let mut problems = Vec::new();
    for file in std::iter::once(config.to_owned()).chain(files_beside(config)?) {
        match read_one(&file) {
            Ok((config, rules)) => files.take(&file, config, rules, &mut problems),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn read_one(file: &Path) -> Result<(Config, BTreeMap<String, String>), Vec<Error>> {
    let config = Config::load(file)?;
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(file, &e))?;
    Ok((config, definition::rules_of(&text)?))
}

fn unreadable(file: &Path, why: &std::io::Error) -> Error {
    Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the config file cannot be read")
        .with("file", file.display())
        .because(why)
        .help("check the path and the permissions")
}

/// `rules.d/*.toml`, in the order of names.
fn files_beside(config: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = config.parent().unwrap_or(Path::new("")).join(RULES_DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(&directory, &e)),
    };
    let paths: Result<Vec<PathBuf>, std::io::Error> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|e| unreadable(&directory, &e))?;
    // Editors leave hidden copies beside what they edit.
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(path));
    paths.sort();
    Ok(paths)
}

impl Files {
    fn take(&mut self, file: &Path, config: Config, rules: BTreeMap<String, String>, problems: &mut Vec<Error>) {
        let mut twice = |kind: &str, name: &str| {
            problems.push(
                Error::new(codes::CONFIG_RELATION, ErrorKind::Invalid, format!("[{kind}.{name}] is in two files"))
                    .with("file", file.display())
                    .help("give one of them another name, or delete it"),
            );
        };
        for (name, settings) in config.kafka {
            if self.base.kafka.insert(name.clone(), settings).is_some() {
                twice("kafka", &name);
            }
        }
        for (name, settings) in config.stores {
            if self.base.stores.insert(name.clone(), settings).is_some() {
                twice("store", &name);
            }
        }
        for (name, body) in rules {
            if self.rules.insert(name.clone(), body).is_some() {
                twice("rule", &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_lie_in_the_config_file_and_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("catchment.toml");
        std::fs::write(&config, "[kafka.k]\nbrokers = \"h:1\"\n[rule.a]\nsource = { topics = [\"a\"] }\n").unwrap();
        assert_eq!(read(&config).unwrap().rules.len(), 1, "no directory is no problem");
        let rules = dir.path().join(RULES_DIRECTORY);
        std::fs::create_dir(&rules).unwrap();
        std::fs::write(rules.join("b.toml"), "[rule.b]\nsource = { topics = [\"b\"] }\n").unwrap();
        std::fs::write(rules.join("notes.txt"), "no rule").unwrap();
        std::fs::write(rules.join(".b.toml"), "what an editor leaves").unwrap();
        let files = read(&config).unwrap();
        assert_eq!(files.rules.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(files.base.kafka.contains_key("k"));
        std::fs::write(rules.join("c.toml"), "[rule.a]\n[kafka.k]\nbrokers = \"h:2\"\n").unwrap();
        std::fs::write(rules.join("d.toml"), "[rule.d]\nwindow = 5\n").unwrap();
        let problems = read(&config).unwrap_err();
        let found: Vec<_> = problems.iter().map(|e| e.code).collect();
        assert_eq!(found.iter().filter(|code| **code == codes::CONFIG_RELATION).count(), 2, "{problems:?}");
        assert!(found.contains(&codes::CONFIG_VALUE), "{problems:?}");
    }
}
