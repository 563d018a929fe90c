//! Where objects go: the store, the prefix below it, the layout. What the store or the layout would refuse is refused here already.

use super::Overrides;
use super::file::Given;
use super::plan::{Check, missing, or, undefined};
use super::settings::{Config, RuleSettings, StoreSettings};
use super::words::LayoutKind;
use crate::error::Error;
use crate::store::key::{Layout, Template, checked_id};
use crate::store::url::{StoreUrl, below};

/// Longest prefix, in bytes: COS takes keys of 850 bytes, of which a topic's name may need 249 twice.
const PREFIX_BYTES_MAX: usize = 256;

/// Where objects go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The store.
    pub store: StoreSettings,
    /// Prefix below the store's own: empty, or ending in a slash.
    pub prefix: String,
    /// How directories are named.
    pub layout: LayoutSettings,
}

/// How directories are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutSettings {
    /// `<topic>/dt=2026-11-22/hour=5/`.
    Hive,
    /// `<instance>/<topic id>/<yyyyMMddHHmmss>/`.
    Tencent {
        /// The instance id.
        instance: String,
        /// The topic id; none: the topic's name.
        topic_id: Option<String>,
    },
    /// `topics/<topic>/partition=N/`.
    Confluent,
    /// A template of the directory.
    Template(String),
}

impl LayoutSettings {
    /// The layout of these settings.
    ///
    /// # Errors
    /// C0315 and C0317 for what no layout can be made of.
    pub fn to_layout(&self) -> Result<Layout, Error> {
        match self {
            Self::Hive => Ok(Layout::Hive),
            Self::Confluent => Ok(Layout::Confluent),
            Self::Tencent { instance, topic_id } => Layout::named("tencent", Some(instance), topic_id.as_deref()),
            Self::Template(text) => Template::parse(text).map(Layout::Template),
        }
    }
}

impl Check {
    pub(super) fn destination(&mut self, config: &Config, overrides: &Overrides, settings: &RuleSettings) -> Destination {
        let store = self.store(config, overrides, settings);
        let prefix = self.prefix(settings);
        self.address(&store, &prefix, settings);
        Destination { store, prefix, layout: self.layout(settings) }
    }

    fn store(&mut self, config: &Config, overrides: &Overrides, settings: &RuleSettings) -> StoreSettings {
        if let Some(url) = &overrides.to {
            // Options of a store in the file belong to its own bucket and are not carried over to another one.
            let same = config.stores.values().find(|s| s.url == *url).cloned();
            return same.unwrap_or_else(|| StoreSettings { url: url.clone(), ..StoreSettings::default() });
        }
        let names: Vec<&str> = config.stores.keys().map(String::as_str).collect();
        match (&settings.store, names.as_slice()) {
            (Some(named), _) => config.stores.get(&named.value).cloned().unwrap_or_else(|| {
                self.add(undefined("store", &named.value, names, named.at.as_deref()));
                StoreSettings::default()
            }),
            (None, [only]) => config.stores[*only].clone(),
            (None, []) => {
                self.add(
                    missing("no destination is named", "neither a flag nor a config file does")
                        .help("say --to s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/?region=R or file:///DIR/, or define [store.NAME]"),
                );
                StoreSettings::default()
            }
            (None, _) => {
                self.add(
                    missing("the rule does not say which store it writes to", "the file defines several")
                        .help(format!("set to.store to one of {}", names.join(", "))),
                );
                StoreSettings::default()
            }
        }
    }

    /// The address as it will be opened. Its own problems are known already if it stands in a file.
    fn address(&mut self, store: &StoreSettings, prefix: &str, settings: &RuleSettings) {
        if store.url.is_empty() {
            return;
        }
        if let Err(error) = StoreUrl::parse(&store.url) {
            self.add(error);
        } else if let (Err(error), Some(given)) = (StoreUrl::parse(&below(&store.url, prefix)), &settings.prefix) {
            self.add(given.placed(error));
        }
    }

    fn prefix(&mut self, settings: &RuleSettings) -> String {
        let Some(given) = &settings.prefix else { return String::new() };
        match normal_prefix(&given.value) {
            Ok(prefix) => prefix,
            Err(why) => {
                self.relation(given, format!("{} {:?} {why}", given.name, given.value));
                String::new()
            }
        }
    }

    fn layout(&mut self, settings: &RuleSettings) -> LayoutSettings {
        if let (Some(layout), Some(path)) = (&settings.layout, &settings.path) {
            self.relation(path, format!("{} and {} exclude each other", path.name, layout.name));
            return LayoutSettings::Hive;
        }
        if let Some(path) = &settings.path {
            if let Err(error) = Template::parse(&path.value) {
                self.add(path.placed(error));
            }
            return LayoutSettings::Template(path.value.clone());
        }
        let layout = or(settings.layout.as_ref(), LayoutKind::Hive);
        let by = settings.layout.as_ref().map_or("the default layout", |l| l.name.as_str());
        if layout != LayoutKind::Tencent {
            for given in [&settings.instance, &settings.topic_id].into_iter().flatten() {
                self.relation(given, format!("{} is for the tencent layout, not for {layout} ({by})", given.name));
            }
        }
        match layout {
            LayoutKind::Hive => LayoutSettings::Hive,
            LayoutKind::Confluent => LayoutSettings::Confluent,
            LayoutKind::Tencent => self.tencent(settings),
        }
    }

    fn tencent(&mut self, settings: &RuleSettings) -> LayoutSettings {
        if settings.instance.is_none() {
            self.add(
                missing("the tencent layout needs an instance id", "its directories are named <instance>/<topic id>/<time>")
                    .help("set to.instance, or say --instance ID"),
            );
        }
        let topics = settings.topics.as_ref().map(|topics| topics.value.as_slice()).unwrap_or_default();
        if let Some(id) = settings.topic_id.as_ref().filter(|_| topics.len() > 1 || topics.iter().any(|t| t.starts_with('^'))) {
            self.relation(id, format!("{} names one topic, but the rule may read several", id.name));
        }
        for given in [&settings.instance, &settings.topic_id].into_iter().flatten() {
            if let Err(error) = checked_id(&given.name, &given.value) {
                self.add(given.placed(error));
            }
        }
        let value = |given: &Option<Given<String>>| given.as_ref().map(|given| given.value.clone());
        LayoutSettings::Tencent { instance: value(&settings.instance).unwrap_or_default(), topic_id: value(&settings.topic_id) }
    }
}

/// A prefix without a leading slash and with a trailing one.
fn normal_prefix(text: &str) -> Result<String, &'static str> {
    let text = text.trim_start_matches('/');
    if text.len() > PREFIX_BYTES_MAX {
        return Err("is longer than 256 bytes");
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has a character that a key should not have");
    }
    let parts: Vec<&str> = text.trim_end_matches('/').split('/').collect();
    if parts == [""] {
        return Ok(String::new());
    }
    if parts.iter().any(|p| p.is_empty() || *p == "." || *p == "..") {
        return Err("has an empty, '.' or '..' component");
    }
    if parts.contains(&"_catchment") {
        return Err("lies in _catchment/, which holds control objects");
    }
    Ok(format!("{}/", parts.join("/")))
}
