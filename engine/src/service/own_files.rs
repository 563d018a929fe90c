//! The files of the service's own state, which no connection, store or rule may lead to: whoever has a further token would read the file's token there, which may
//! do more.
//!
//! Place in the flow: asked by the [supervisor](super::supervisor) for each plan and for each connection that was created, when it is made and whenever it is used,
//! and by the API for each key that is read. Paths are compared without links in them, as they are at that moment.
//!
//! Not here: other files of the service's user. A token is worth as much as that user there, as docs/api.md says.

use std::path::{Path, PathBuf};

use crate::config::{Config, KafkaSettings, Secret, StoreSettings};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::store::file::root_of;
use crate::store::url::StoreUrl;

/// A path leads into the service's own state.
pub const OWN_FILES: Code = Code(657);

/// Words in the names of librdkafka's properties whose values are paths.
const PATHS: [&str; 4] = ["location", "keytab", "file", "path"];

/// Where the service keeps its own.
#[derive(Clone, Debug)]
pub struct OwnFiles(Option<PathBuf>);

impl OwnFiles {
    /// Those below a directory; none of a state that is in memory alone.
    pub(super) fn below(directory: Option<&Path>) -> Self {
        Self(directory.map(without_links))
    }

    /// Refuses a path that leads there, by itself or by links.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check(&self, setting: &str, path: &Path) -> Result<()> {
        match &self.0 {
            Some(own) if without_links(path).starts_with(own) => {
                Err(Error::new(OWN_FILES, ErrorKind::Denied, "the path leads into the service's own state")
                    .with("setting", setting)
                    .with("path", path.display())
                    .help("keep objects, keys and passwords outside of the directory that `catchment serve --state` has"))
            }
            _ => Ok(()),
        }
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
        self.check_place(store, "")
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

    /// Refuses a place below a store that is in the service's state.
    ///
    /// # Errors
    /// `C0657`.
    pub(super) fn check_place(&self, store: &StoreSettings, prefix: &str) -> Result<()> {
        match StoreUrl::parse(&store.url) {
            Ok(StoreUrl::File(root)) => self.check("url", &root.join(prefix.trim_start_matches('/'))),
            // What cannot be parsed is refused by whoever opens it.
            _ => Ok(()),
        }
    }
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
    use super::super::state::{Origin, State, StoredConnection};
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
            let text = format!("[store.s]\nurl = \"s3://b/\"\n{}\n{setting} = \"file:{{}}/state/token\"\n", lines.join("\n"));
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
        ground.own.check_place(&store, "backups/").unwrap();
        for prefix in ["state/", "/state/x/", "link/"] {
            assert_eq!(ground.own.check_place(&store, prefix).unwrap_err().code, OWN_FILES, "{prefix}");
        }
        OwnFiles::below(None).check_place(&store, "state/").unwrap();
    }
}
