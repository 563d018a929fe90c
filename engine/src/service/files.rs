//! Rules, connections and stores of files: the config file, and `rules.d/*.toml` beside it.
//!
//! Rules of files are read-only elsewhere, but may be paused. A file is read at the start and again at SIGHUP; a rule that is not in any file any more
//! becomes an orphan: it does not run, and what is known of it stays until the file has it again or somebody deletes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::definition::{self, Kind};
use crate::config::Config;
use crate::error::{Error, ErrorKind, codes};

/// The directory of rules beside the config file.
const RULES_DIRECTORY: &str = "rules.d";

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Connections and stores.
    pub base: Config,
    /// The same as they are written.
    pub connections: Bodies,
    /// The bodies of rules, by name.
    pub rules: BTreeMap<String, String>,
}

/// Bodies of connections and stores, by section and name. They may hold secrets, which no message shows.
#[derive(Clone, Default)]
pub struct Bodies(BTreeMap<(&'static str, String), String>);

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What became of a connection or a store from one reading to the next.
pub(super) struct Became<'a> {
    /// `kafka` or `store`.
    pub(super) section: &'static str,
    /// Its name.
    pub(super) name: &'a str,
    /// Its body before; none if it is new.
    pub(super) before: Option<&'a str>,
    /// Its body now; none if it is gone.
    pub(super) after: Option<&'a str>,
}

impl Bodies {
    /// Those of a file that was read without a problem.
    fn of(text: &str) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for kind in [Kind::Kafka, Kind::Store] {
            let bodies = definition::bodies_of(text, kind.section())?;
            all.extend(bodies.into_iter().map(|(name, body)| ((kind.section(), name), body)));
        }
        Ok(Self(all))
    }

    /// What differs in a later reading.
    pub(super) fn became<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = Became<'a>> {
        let keys: BTreeSet<&(&'static str, String)> = self.0.keys().chain(later.0.keys()).collect();
        let body = |of: &'a Self, key: &(&'static str, String)| of.0.get(key).map(String::as_str);
        let became = move |key: &'a (&'static str, String)| {
            let (section, name) = (key.0, key.1.as_str());
            Became { section, name, before: body(self, key), after: body(later, key) }
        };
        keys.into_iter().map(became).filter(|became| became.before != became.after)
    }
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
            Ok(one) => files.take(&file, one, &mut problems),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn read_one(file: &Path) -> Result<Files, Vec<Error>> {
    let base = Config::load(file)?;
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(file, &e))?;
    Ok(Files { base, connections: Bodies::of(&text)?, rules: definition::rules_of(&text)? })
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
    fn take(&mut self, file: &Path, one: Self, problems: &mut Vec<Error>) {
        let mut twice = |kind: &str, name: &str| {
            problems.push(
                Error::new(codes::CONFIG_RELATION, ErrorKind::Invalid, format!("[{kind}.{name}] is in two files"))
                    .with("file", file.display())
                    .help("give one of them another name, or delete it"),
            );
        };
        for (name, settings) in one.base.kafka {
            if self.base.kafka.insert(name.clone(), settings).is_some() {
                twice("kafka", &name);
            }
        }
        for (name, settings) in one.base.stores {
            if self.base.stores.insert(name.clone(), settings).is_some() {
                twice("store", &name);
            }
        }
        self.connections.0.extend(one.connections.0);
        for (name, body) in one.rules {
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
    fn what_became_of_connections_is_found_and_no_debug_text_has_a_secret() {
        let of = |text: &str| Bodies::of(text).unwrap();
        let before = of("[kafka.k]\nbrokers = \"h:1\"\n[store.gone]\nurl = \"file:///x/\"\n[store.s]\nurl = \"file:///y/\"\n[rule.r]\n");
        let after = of(
            "[store.s]\nurl = \"file:///y/\"\n[kafka.new]\nbrokers = \"h:2\"\n[kafka.k]\nsasl = { password = \"hush\" }\nbrokers = \"h:1\"\n",
        );
        let became: Vec<_> = before.became(&after).map(|one| (one.section, one.name, one.before.is_some(), one.after.is_some())).collect();
        assert_eq!(became, [("kafka", "k", true, true), ("kafka", "new", false, true), ("store", "gone", true, false)]);
        assert_eq!(before.became(&before).count(), 0);
        assert!(!format!("{:?}", Files { connections: after, ..Files::default() }).contains("hush"));
    }

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
