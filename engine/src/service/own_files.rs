//! The files of the service's own state, which no connection, store or rule may lead to: whoever has a further token would read the file's token there, which may
//! do more. Nor may one that was created have librdkafka load or run code, which could do the same.
//!
//! A store of the config file may lie in a directory below that of the state: whoever writes that file is the operator, and has said so. Such a store is no way
//! to what else is there.
//!
//! Place in the flow: asked by the [supervisor](super::supervisor) for each plan and for each connection that was created, when it is made and whenever it is used,
//! and by the API for each key that is read. Paths are compared without links in them, as they are at that moment.
//!
//! Not here: other files of the service's user. A token is worth as much as that user there, as docs/api.md says.

use std::path::{Component, Path, PathBuf};

use super::state::State;
use crate::config::{Config, KafkaSettings, Secret, StoreSettings};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::store::file::root_of;
use crate::store::url::StoreUrl;

/// A path leads into the service's own state.
pub const OWN_FILES: Code = Code(657);

/// Words in the names of librdkafka's properties whose values are paths.
const PATHS: [&str; 4] = ["location", "keytab", "file", "path"];

/// librdkafka's properties that have it load or run what they name.
const CODE: [&str; 5] = ["plugin.library.paths", "ssl.engine.location", "ssl.engine.id", "ssl.providers", "sasl.kerberos.kinit.cmd"];

/// Where the service keeps its own.
#[derive(Clone, Debug)]
pub struct OwnFiles {
    directory: Option<PathBuf>,
    /// Whether its connections come from a server, which has looked at those that were created; others are of its config file.
    is_workers: bool,
}

impl OwnFiles {
    /// Those of a state; none of one that is in memory alone.
    pub(super) fn of(state: &State) -> Self {
        Self { is_workers: state.is_workers(), ..Self::below(state.directory()) }
    }

    /// Those below a directory.
    pub(super) fn below(directory: Option<&Path>) -> Self {
        // The parent of a file's bare name is empty, and means the current directory.
        let named = |directory: &Path| if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.to_owned() };
        Self { directory: directory.map(|directory| without_links(&named(directory))), is_workers: false }
    }

    /// Refuses a path that leads there, by itself or by links.
    ///
    /// # Errors
    /// `C0657`.
    fn check(&self, setting: &str, path: &Path) -> Result<()> {
        match &self.directory {
            Some(own) if without_links(path).starts_with(own) => {
                Err(Error::new(OWN_FILES, ErrorKind::Denied, "the path leads into the service's own state")
                    .with("setting", setting)
                    .with("path", path.display())
                    .help("keep objects, keys and passwords outside of the directory that `catchment serve --state` has"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a path stays below `root`, which lies in the state's directory, and is not that directory itself.
    fn is_apart(&self, root: &Path, path: &Path) -> bool {
        let (root, path) = (without_links(root), without_links(path));
        // Where a step up leads that still stands in it, is not known before what it goes through is there.
        let is_known = !path.components().any(|part| part == Component::ParentDir);
        is_known && self.directory.as_ref().is_some_and(|own| root.starts_with(own) && path.starts_with(&root) && path != *own)
    }

    /// Refuses a connection or a store, of a config that has it alone, which names such a path.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check_connections(&self, config: &Config) -> Result<()> {
        config.kafka.values().try_for_each(|kafka| self.check_kafka(kafka))?;
        config.stores.values().try_for_each(|store| self.check_store(store))
    }

    fn check_kafka(&self, kafka: &KafkaSettings) -> Result<()> {
        if !self.is_workers {
            check_code(kafka)?;
        }
        if let Some(sasl) = &kafka.sasl {
            self.check_paths([("sasl.token_file", sasl.token_file.as_ref())])?;
            self.check_secrets([("sasl.password", sasl.password.as_ref()), ("sasl.client_secret", sasl.client_secret.as_ref())])?;
        }
        if let Some(tls) = &kafka.tls {
            self.check_paths([("tls.ca", tls.ca.as_ref()), ("tls.certificate", tls.certificate.as_ref()), ("tls.key", tls.key.as_ref())])?;
            self.check_secrets([("tls.key_password", tls.key_password.as_ref())])?;
        }
        kafka.properties.iter().try_for_each(|(name, value)| match Secret::new(value) {
            Secret::File(path) => self.check(name, Path::new(&path)),
            // What else begins with a slash and is no path leads nowhere.
            _ if value.starts_with('/') || PATHS.iter().any(|word| name.contains(word)) => self.check(name, Path::new(value)),
            _ => Ok(()),
        })
    }

    fn check_store(&self, store: &StoreSettings) -> Result<()> {
        let StoreSettings { access_key_id, secret_access_key, session_token, .. } = store;
        self.check_secrets([
            ("access_key_id", access_key_id.as_ref()),
            ("secret_access_key", secret_access_key.as_ref()),
            ("session_token", session_token.as_ref()),
        ])?;
        self.check_place(store, "", false)
    }

    fn check_paths<const N: usize>(&self, paths: [(&str, Option<&PathBuf>); N]) -> Result<()> {
        paths.into_iter().filter_map(|(setting, path)| Some((setting, path?))).try_for_each(|(setting, path)| self.check(setting, path))
    }

    fn check_secrets<const N: usize>(&self, secrets: [(&str, Option<&Secret>); N]) -> Result<()> {
        secrets.into_iter().try_for_each(|(setting, secret)| match secret {
            Some(Secret::File(path)) => self.check(setting, Path::new(path)),
            _ => Ok(()),
        })
    }

    /// Refuses a place below a store that is in the service's state. Below a store `of_file`, of the config file, which lies there itself, only one that leads
    /// out of it, and the state's directory.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check_place(&self, store: &StoreSettings, prefix: &str, of_file: bool) -> Result<()> {
        // What cannot be parsed is refused by whoever opens it.
        let Ok(StoreUrl::File(root)) = StoreUrl::parse(&store.url) else { return Ok(()) };
        let place = root.join(prefix.trim_start_matches('/'));
        if of_file && self.is_apart(&root, &place) { Ok(()) } else { self.check("url", &place) }
    }

    /// Refuses a key that leads into the service's state, from a place that was not refused itself.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check_key(&self, place: &Path, key: &str) -> Result<()> {
        let path = place.join(key);
        // A place there is one of the config file, and all that is below it are objects.
        if self.is_apart(place, place) && self.is_apart(place, &path) { Ok(()) } else { self.check("key", &path) }
    }
}

/// Refuses properties by which librdkafka loads or runs code, as the service's user.
fn check_code(kafka: &KafkaSettings) -> Result<()> {
    let Some(name) = CODE.into_iter().find(|name| kafka.properties.contains_key(*name)) else { return Ok(()) };
    Err(Error::new(
        OWN_FILES,
        ErrorKind::Denied,
        format!("the property {name} has code loaded or run, which could read the service's own state"),
    )
    .with("property", name)
    .help("put the connection into the config file, whose connections may have it"))
}

/// A path without links in what exists of it. What cannot be looked at cannot be opened either, and is compared as it is written.
fn without_links(path: &Path) -> PathBuf {
    let written = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    root_of(&written).unwrap_or(written)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::changes::By;
    use super::super::definition::Kind;
    use super::super::state::{Origin, StoredConnection};
    use super::super::supervisor::Supervisor;
    use super::*;

    /// A directory with the state in `state`, its token in it, and a link to it named `link`.
    struct Ground {
        dir: tempfile::TempDir,
        own: OwnFiles,
    }

    fn ground() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("token"), "t").unwrap();
        std::os::unix::fs::symlink(&state, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(state.join("token"), dir.path().join("innocent.pem")).unwrap();
        Ground { own: OwnFiles::below(Some(state.as_path())), dir }
    }

    impl Ground {
        /// Whether a config is refused, in whose text `{}` stands for the directory.
        fn refuses(&self, text: &str) -> bool {
            let text = text.replace("{}", self.dir.path().to_str().unwrap());
            match self.own.check_connections(&Config::parse(&text, "test").unwrap()) {
                Ok(()) => false,
                Err(error) => {
                    assert_eq!(error.code, OWN_FILES, "{error}");
                    true
                }
            }
        }
    }

    #[test]
    fn every_setting_that_is_a_path_is_looked_at() {
        let ground = ground();
        for setting in [
            "sasl = { mechanism = \"PLAIN\", username = \"u\", password = \"file:PATH\" }",
            "sasl = { mechanism = \"OAUTHBEARER\", token_file = \"PATH\" }",
            "sasl = { mechanism = \"OAUTHBEARER\", token_endpoint = \"https://t/\", client_id = \"i\", client_secret = \"file:PATH\" }",
            "tls = { ca = \"PATH\" }",
            "tls = { certificate = \"PATH\", key = \"/k.pem\" }",
            "tls = { certificate = \"/c.pem\", key = \"PATH\" }",
            "tls = { certificate = \"/c.pem\", key = \"/k.pem\", key_password = \"file:PATH\" }",
            "properties = { \"ssl.ca.location\" = \"PATH\" }",
            "properties = { \"ssl.key.password\" = \"file:PATH\" }",
            "properties = { \"what.comes.later\" = \"PATH\" }",
        ] {
            let of = |path: &str| format!("[kafka.k]\nbrokers = [\"h:1\"]\n{}\n", setting.replace("PATH", path));
            assert!(ground.refuses(&of("{}/state/token")), "{setting}");
            assert!(!ground.refuses(&of("{}/other/token")), "{setting}");
        }
        for setting in ["access_key_id", "secret_access_key", "session_token"] {
            let others = "access_key_id = \"env:A\"\nsecret_access_key = \"env:S\"\nsession_token = \"env:T\"\n";
            let lines: Vec<&str> = others.lines().filter(|line| !line.starts_with(setting)).collect();
            let text = format!("[store.s]\nurl = \"s3://bucket/\"\n{}\n{setting} = \"file:{{}}/state/token\"\n", lines.join("\n"));
            assert!(ground.refuses(&text), "{text}");
        }
        assert!(!ground.refuses("[kafka.k]\nbrokers = [\"h:1\"]\nproperties = { \"client.id\" = \"state/token\" }\n"));
    }

    #[test]
    fn a_path_is_what_it_leads_to() {
        let ground = ground();
        for (path, is_refused) in [
            ("state", true),
            ("state/", true),
            ("state/made/later/", true),
            ("link/x/", true),
            ("./state/./x/", true),
            ("states/", false),
            ("", false),
        ] {
            assert_eq!(ground.refuses(&format!("[store.s]\nurl = \"file://{{}}/{path}\"\n")), is_refused, "{path}");
        }
        let ca = |path: &str| format!("[kafka.k]\nbrokers = [\"h:1\"]\ntls = {{ ca = \"{{}}/{path}\" }}\n");
        std::fs::create_dir(ground.dir.path().join("other")).unwrap();
        for path in ["innocent.pem", "link/token", "other/../state/token"] {
            assert!(ground.refuses(&ca(path)), "{path}");
        }
        // Links that are set later count, too: a path is looked at whenever it is used.
        assert!(!ground.refuses(&ca("later.pem")));
        std::os::unix::fs::symlink(ground.dir.path().join("state/token"), ground.dir.path().join("later.pem")).unwrap();
        assert!(ground.refuses(&ca("later.pem")));
    }

    #[test]
    fn the_parent_of_a_bare_name_is_the_current_directory() {
        let own = OwnFiles::below(Path::new("state.db").parent());
        let here = std::env::current_dir().unwrap();
        assert_eq!(own.check("key", &here.join("token")).unwrap_err().code, OWN_FILES);
        own.check("key", here.parent().unwrap()).unwrap();
        own.check("key", Path::new("/nowhere/token")).unwrap();
        own.check("key", Path::new("")).unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_created_has_no_code_run() {
        let ground = ground();
        let state = Arc::new(State::open(&ground.dir.path().join("state/state.db")).unwrap());
        let of_file =
            "[kafka.k]\nbrokers = [\"h:1\"]\nproperties = { \"plugin.library.paths\" = \"/p.so\" }\n[store.s]\nurl = \"file:///x/\"\n";
        let supervisor = Supervisor::new(Arc::clone(&state), Config::parse(of_file, "base").unwrap(), "128MiB".parse().unwrap()).unwrap();
        for name in ["plugin.library.paths", "ssl.engine.location", "ssl.engine.id", "ssl.providers", "sasl.kerberos.kinit.cmd"] {
            let source = json!({ "name": "evil", "brokers": ["h:1"], "properties": { name: "x" } });
            let refused = supervisor.create_connection(Kind::Kafka, source, "api:ci").await.unwrap_err().remove(0);
            assert_eq!(refused.code, OWN_FILES);
            assert!(
                refused.message.contains(name) && refused.help.as_ref().is_some_and(|help| help.contains("config file")),
                "{refused:?}"
            );
        }
        // One that an earlier version has let in is of no use. At a worker it is of its server's config file.
        let body = json!({ "brokers": ["h:1"], "properties": { "ssl.engine.location": "/e.so" } }).to_string();
        let old = StoredConnection { kind: "kafka".to_owned(), name: "old".to_owned(), body, version: 1 };
        let worker = Arc::new(State::open_of_worker(&ground.dir.path().join("worker.db")).unwrap());
        for state in [&state, &worker] {
            state.put_connection(&old, "api:ci", 1).unwrap();
        }
        assert_eq!(supervisor.config().await.unwrap().kafka.keys().collect::<Vec<_>>(), ["k"], "that of the file stays");
        let supervisor = Supervisor::new(worker, Config::default(), "128MiB".parse().unwrap()).unwrap();
        assert_eq!(supervisor.config().await.unwrap().kafka.keys().collect::<Vec<_>>(), ["old"]);
    }

    #[tokio::test]
    async fn a_store_of_the_config_file_may_lie_below_the_state() {
        let ground = ground();
        let own = ground.dir.path().join("state");
        for directory in ["objects/a", "objects/b", "else"] {
            std::fs::create_dir_all(own.join(directory)).unwrap();
        }
        for (link, to) in [("up", ""), ("beside", "else"), ("token", "token")] {
            std::os::unix::fs::symlink(own.join(to), own.join("objects").join(link)).unwrap();
        }
        let state = Arc::new(State::open(&own.join("state.db")).unwrap());
        let (url, itself) = (format!("file://{}/objects/", own.display()), format!("file://{}/", own.display()));
        let base = format!("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"{url}\"\n[store.itself]\nurl = \"{itself}\"\n");
        let supervisor = Supervisor::new(Arc::clone(&state), Config::parse(&base, "base").unwrap(), "128MiB".parse().unwrap()).unwrap();
        for (store, prefix, is_refused) in [
            ("s", "", false),
            ("s", "a/", false),
            ("s", "new/x/", false),
            ("s", "up/", true),
            ("s", "up/x/", true),
            ("s", "beside/", true),
            ("s", "a/../../", true),
            ("s", "new/../../x/", true),
            ("itself", "", true),
            ("itself", "objects/up/", true),
            ("itself", "objects/", false),
        ] {
            assert_eq!(supervisor.store_named(store, prefix).await.is_err_and(|e| e.code == OWN_FILES), is_refused, "{store} {prefix}");
            let body = json!({ "source": { "topics": ["t"] }, "to": { "store": store, "prefix": prefix } }).to_string();
            if !prefix.contains("..") {
                let plan = supervisor.plan("r", &body, Vec::new()).await;
                assert_eq!(plan.is_err_and(|e| e[0].code == OWN_FILES), is_refused, "{store} {prefix}");
            }
        }
        // What lies there is read, and nothing beside it.
        let files = supervisor.own_files();
        for (place, key, is_refused) in [
            ("objects/", "", false),
            ("objects/", "a/t+0+1.parquet", false),
            ("objects/a/", "t+0+1.parquet", false),
            ("objects/a/", "../b/t+0+1.parquet", true),
            ("objects/", "token", true),
            ("objects/", "beside/x", true),
            ("objects/", "up/token", true),
            ("", "token", true),
            ("", "objects/a/x", true),
        ] {
            assert_eq!(files.check_key(&own.join(place), key).is_err(), is_refused, "{place} {key}");
        }
        // The file's word is not that of whoever creates another store.
        let store = json!({ "name": "own", "url": format!("{url}a/") });
        assert_eq!(supervisor.create_connection(Kind::Store, store, "api:ci").await.unwrap_err()[0].code, OWN_FILES);
    }

    #[tokio::test]
    async fn nobody_leads_a_connection_or_a_rule_there() {
        let ground = ground();
        let here = ground.dir.path().display();
        let state = Arc::new(State::open(&ground.dir.path().join("state/state.db")).unwrap());
        let base = format!("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file://{here}/\"\n");
        let supervisor = Supervisor::new(Arc::clone(&state), Config::parse(&base, "base").unwrap(), "128MiB".parse().unwrap()).unwrap();
        let store = json!({ "name": "own", "url": format!("file://{here}/link/") });
        let refused = supervisor.create_connection(Kind::Store, store, "api:ci").await.unwrap_err();
        assert_eq!(refused[0].code, OWN_FILES);
        let source = json!({ "name": "own", "brokers": ["h:1"], "tls": { "ca": format!("{here}/innocent.pem") } });
        let refused = supervisor.create_connection(Kind::Kafka, source, "api:ci").await.unwrap_err();
        assert_eq!(refused[0].code, OWN_FILES);
        let by = By { who: "api:ci".to_owned(), origin: Origin::Api };
        let body = json!({ "source": { "topics": ["t"] }, "to": { "prefix": "state/" } }).to_string();
        assert_eq!(supervisor.create("r", &body, &by).await.unwrap_err()[0].code, OWN_FILES);
        assert_eq!(supervisor.store_named("s", "state/").await.unwrap_err().code, OWN_FILES);
        supervisor.store_named("s", "elsewhere/").await.unwrap();
        // One that an earlier version has let in is of no use.
        let body = json!({ "url": format!("file://{here}/state/") }).to_string();
        let old = StoredConnection { kind: "store".to_owned(), name: "old".to_owned(), body, version: 1 };
        state.put_connection(&old, "api:ci", 1).unwrap();
        assert_eq!(supervisor.config().await.unwrap().stores.keys().collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn a_prefix_does_not_lead_in_either() {
        let ground = ground();
        let store = StoreSettings { url: format!("file://{}/", ground.dir.path().display()), ..StoreSettings::default() };
        for of_file in [false, true] {
            ground.own.check_place(&store, "backups/", of_file).unwrap();
            for prefix in ["state/", "/state/x/", "link/"] {
                assert_eq!(ground.own.check_place(&store, prefix, of_file).unwrap_err().code, OWN_FILES, "{prefix}");
            }
        }
        OwnFiles::below(None).check_place(&store, "state/", false).unwrap();
    }
}
