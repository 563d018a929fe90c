//! What the reading verbs open: a place in a store by URL or path, and a Kafka to compare with.

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, KafkaSettings, StoreSettings};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::runtime::open_options;
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
    let mut url = "file://".to_owned();
    for c in path.to_string_lossy().chars() {
        match c {
            '%' | '?' | '#' => url.push_str(&format!("%{:02X}", u32::from(c))),
            _ => url.push(c),
        }
    }
    Ok(url)
}

/// The Kafka that a verb is told to compare with; none if it is told nothing.
pub(super) fn kafka_of(
    config: &Config,
    name: Option<&str>,
    brokers: &[String],
    properties: &[(String, String)],
) -> Result<Option<KafkaSettings>> {
    let mut kafka = match name {
        None if brokers.is_empty() => return Ok(None),
        None => KafkaSettings::default(),
        Some(name) => config.kafka.get(name).cloned().ok_or_else(|| {
            Error::new(codes::CONFIG_NAME, ErrorKind::Invalid, format!("there is no [kafka.{name}]"))
                .help("name the config file with --config")
        })?,
    };
    if !brokers.is_empty() {
        kafka.brokers = brokers.to_vec();
    }
    kafka.properties.extend(properties.iter().cloned());
    Ok(Some(kafka))
}

/// Runs a verb's asynchronous part.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Vec<Error>>>) -> Result<T, Vec<Error>> {
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
        let text = "[store.a]\nurl = \"cos://b-1/kafka/?region=r\"\naccess_key_id = \"env:A\"\nsecret_access_key = \"env:B\"\n[store.b]\nurl = \"s3://c/\"\n";
        let config = Config::parse(text, "f").unwrap();
        let of = |url: &str| store_of(&config, url);
        assert_eq!(of("cos://b-1/kafka/orders/").url, "cos://b-1/kafka/orders/?region=r");
        assert!(of("cos://b-1/kafka/orders/").access_key_id.is_some());
        assert_eq!(of("cos://b-1/kafka/?region=x").url, "cos://b-1/kafka/?region=x");
        assert_eq!(of("cos://b-1/kafkaesque/"), StoreSettings { url: "cos://b-1/kafkaesque/".to_owned(), ..StoreSettings::default() });
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
