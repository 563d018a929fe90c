//! What the reading verbs open: a place in a store by URL or path, and a Kafka to compare with.

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::Args;

use super::backup::KafkaArgs;
use crate::config::{Config, KafkaSettings, StoreSettings};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::runtime::open_options;
use crate::store::url::of_path;
use crate::verify::Place;

/// Where to look.
#[derive(Args, Clone, Debug)]
pub(super) struct PlaceArgs {
    /// s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/?region=R, file:///DIR/ or a path
    #[arg(value_name = "URL")]
    pub(super) url: String,
    /// Config file, for the credentials of a store and the login of a Kafka
    #[arg(long, value_name = "FILE", env = "CATCHMENT_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

impl PlaceArgs {
    /// The config file, if one is named.
    pub(super) fn config(&self) -> Result<Config, Vec<Error>> {
        self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)
    }

    /// Opens the place, creating nothing.
    pub(super) async fn open(&self, config: &Config) -> Result<Place> {
        let url = to_url(&self.url)?;
        let settings = store_of(config, &url);
        Place::open(&settings.url, &open_options(&settings)?).await
    }
}

/// The settings of the config's store that holds `url`, with that URL; without such a store the URL alone.
pub(super) fn store_of(config: &Config, url: &str) -> StoreSettings {
    let (address, query) = split_query(url);
    let holder = config.stores.values().filter(|store| {
        let base = split_query(&store.url).0.trim_end_matches('/');
        address.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match holder.max_by_key(|store| split_query(&store.url).0.len()) {
        Some(store) => {
            let query = if query.is_empty() { split_query(&store.url).1 } else { query };
            StoreSettings { url: format!("{address}{query}"), ..store.clone() }
        }
        None => StoreSettings { url: url.to_owned(), ..StoreSettings::default() },
    }
}

/// The address, and the query with its question mark.
pub(super) fn split_query(url: &str) -> (&str, &str) {
    url.find('?').map_or((url, ""), |at| url.split_at(at))
}

/// A path becomes a `file://` URL; a URL stays as it is.
pub(super) fn to_url(text: &str) -> Result<String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = Path::new(text).canonicalize().map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Invalid };
        Error::new(codes::NOTHING_THERE, kind, format!("there is nothing at {text:?}"))
            .because(e)
            .help("give a path that exists, or a URL: s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/, file:///DIR/")
    })?;
    Ok(of_path(&path))
}

/// The Kafka to compare with: by name, else the file's only one, as `backup` has it, with what the flags say; none if nothing names one.
pub(super) fn kafka_of(config: &Config, name: Option<&str>, given: &KafkaArgs) -> Result<Option<KafkaSettings>> {
    let names: Vec<&String> = config.kafka.keys().collect();
    let base = match (name, names.as_slice()) {
        (Some(name), _) => Some(config.kafka.get(name).cloned().ok_or_else(|| {
            Error::new(codes::CONFIG_NAME, ErrorKind::Invalid, format!("there is no [kafka.{name}]"))
                .help("name the config file with --config")
        })?),
        (None, [only]) => Some(config.kafka[*only].clone()),
        (None, _) => (!given.brokers.is_empty()).then(KafkaSettings::default),
    };
    let Some(mut kafka) = base else {
        return if given.properties.is_empty() && given.preset.is_none() { Ok(None) } else { Err(nothing_to_compare_with()) };
    };
    if !given.brokers.is_empty() {
        kafka.brokers.clone_from(&given.brokers);
    }
    kafka.preset = given.preset.or(kafka.preset);
    kafka.properties.extend(given.properties.iter().cloned());
    Ok(Some(kafka))
}

/// The error for settings of a comparison that nothing will use.
pub(super) fn nothing_to_compare_with() -> Error {
    Error::new(codes::CONFIG_MISSING, ErrorKind::Invalid, "-X and --preset are for a comparison with Kafka, and there is none")
        .help("say -b HOST:PORT or --kafka NAME, or leave them out")
}

/// Runs a verb's asynchronous part.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Vec<Error>>>) -> Result<T, Vec<Error>> {
    crate::threads::provide(crate::threads::THREADS_TO_READ)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|e| vec![Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e)])?;
    let answer = runtime.block_on(future);
    // Nothing that is still running matters any more: all of it only reads.
    runtime.shutdown_background();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_that_holds_a_url_gives_its_options() {
        let text = "[store.a]\nurl = \"cos://b-1/kafka/?region=r\"\naccess_key_id = \"env:A\"\nsecret_access_key = \"env:B\"\n\
                    [store.b]\nurl = \"s3://other/\"\n";
        let config = Config::parse(text, "f").unwrap();
        let of = |url: &str| store_of(&config, url);
        assert_eq!(of("cos://b-1/kafka/orders/").url, "cos://b-1/kafka/orders/?region=r");
        assert!(of("cos://b-1/kafka/orders/").access_key_id.is_some());
        assert_eq!(of("cos://b-1/kafka/?region=x").url, "cos://b-1/kafka/?region=x");
        assert_eq!(of("cos://b-1/kafkaesque/"), StoreSettings { url: "cos://b-1/kafkaesque/".to_owned(), ..StoreSettings::default() });
    }

    #[test]
    fn the_kafka_to_compare_with_is_the_one_that_backup_would_read() {
        let one = Config::parse("[kafka.a]\nbrokers = \"a:1\"\nproperties = { x = \"1\" }\n", "f").unwrap();
        let two = Config::parse("[kafka.a]\nbrokers = \"a:1\"\n[kafka.b]\nbrokers = \"b:1\"\n", "f").unwrap();
        let none = Config::default();
        let args = |brokers: &[&str], properties: &[(&str, &str)]| KafkaArgs {
            brokers: brokers.iter().map(|b| (*b).to_owned()).collect(),
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..KafkaArgs::default()
        };
        let brokers =
            |config: &Config, name: Option<&str>, given: &KafkaArgs| kafka_of(config, name, given).unwrap().map(|k| k.brokers.join(","));
        assert_eq!(brokers(&one, None, &args(&[], &[])).as_deref(), Some("a:1"), "the file's only one");
        assert_eq!(brokers(&two, None, &args(&[], &[])), None, "nothing says which");
        assert_eq!(brokers(&two, Some("b"), &args(&[], &[])).as_deref(), Some("b:1"));
        assert_eq!(brokers(&none, None, &args(&["c:1"], &[])).as_deref(), Some("c:1"));
        let over = kafka_of(&one, None, &args(&["c:1"], &[("y", "2")])).unwrap().unwrap();
        assert_eq!((over.brokers[0].as_str(), over.properties.len()), ("c:1", 2), "flags are laid over the file");
        assert_eq!(kafka_of(&none, Some("c"), &args(&[], &[])).unwrap_err().code, codes::CONFIG_NAME);
        for config in [&none, &two] {
            assert_eq!(kafka_of(config, None, &args(&[], &[("x", "1")])).unwrap_err().code, codes::CONFIG_MISSING, "-X is not ignored");
        }
    }

    #[test]
    fn a_path_becomes_a_url() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("50% ?#")).unwrap();
        let url = to_url(dir.path().join("50% ?#").to_str().unwrap()).unwrap();
        assert!(url.starts_with("file:///") && url.ends_with("/50%25 %3F%23"), "{url}");
        assert_eq!(to_url("s3://b/p/").unwrap(), "s3://b/p/");
        assert_eq!(to_url("/none/such").unwrap_err().kind, ErrorKind::NotFound);
    }
}
