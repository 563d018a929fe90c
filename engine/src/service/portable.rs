//! What a rule needs on another machine: its connection and its store in a form that holds no secret.
//!
//! Place in the flow: beside the [workers](super::workers), which get it. A secret that is a reference (`file:`, `env:`) crosses as that reference, and each
//! machine reads its own; one that stands in the connection itself does not cross, and the rule stays here. A rule with a member's name of its own stays here
//! too: two processes under one name would fence each other.

use serde_json::{Map, Value, json};

use crate::config::secret::is_secret_property;
use crate::config::{BackupPlan, KafkaSettings, SaslSettings, Secret, StoreSettings, TlsSettings};
use crate::error::{Code, Error, ErrorKind, Result};

/// A secret stands in the connection itself.
pub const SECRET_INLINE: Code = Code(662);

/// The rule's processes would all have one name.
pub const MEMBER_NAMED: Code = Code(663);

/// The property that names a static member.
const MEMBER_PROPERTY: &str = "group.instance.id";

/// Whether workers may run this.
///
/// # Errors
/// `C0662`, `C0663`.
pub(super) fn check(plan: &BackupPlan) -> Result<()> {
    check_member(plan.instance_id.as_deref())?;
    kafka(&plan.kafka)?;
    store(&plan.to.store).map(drop)
}

/// Refuses a member's name that all processes would share.
///
/// # Errors
/// `C0663`.
pub(super) fn check_member(instance_id: Option<&str>) -> Result<()> {
    match instance_id.filter(|id| *id != "none") {
        None => Ok(()),
        Some(_) => Err(Error::new(MEMBER_NAMED, ErrorKind::Invalid, "workers cannot run a rule whose member has a name of its own")
            .help("leave out instance_id and the property group.instance.id, and each process gets a name by its host")),
    }
}

/// The keys of `[kafka.NAME]`.
///
/// # Errors
/// `C0662`, `C0663`.
pub(super) fn kafka(settings: &KafkaSettings) -> Result<Value> {
    let KafkaSettings { brokers, preset, sasl, tls, properties } = settings;
    check_member(properties.get(MEMBER_PROPERTY).map(String::as_str))?;
    let mut fields = Fields::default();
    fields.put("brokers", Some(json!(brokers)));
    fields.put("preset", preset.map(|preset| json!(preset.as_str())));
    fields.put("sasl", sasl.as_ref().map(login).transpose()?);
    fields.put("tls", tls.as_ref().map(encryption).transpose()?);
    for (name, value) in properties.iter().filter(|(name, _)| is_secret_property(name)) {
        reference(name, &Secret::from(value.as_str()))?;
    }
    fields.put("properties", Some(json!(properties)).filter(|_| !properties.is_empty()));
    Ok(fields.into())
}

fn login(sasl: &SaslSettings) -> Result<Value> {
    let SaslSettings { mechanism, username, password, token_file, token_endpoint, client_id, client_secret, scope } = sasl;
    let mut fields = Fields::default();
    fields.put("mechanism", Some(json!(mechanism.as_str())));
    fields.put("username", username.as_ref().map(|text| json!(text)));
    fields.secret("password", password.as_ref())?;
    fields.put("token_file", token_file.as_ref().map(|path| json!(path.to_string_lossy())));
    fields.put("token_endpoint", token_endpoint.as_ref().map(|text| json!(text)));
    fields.put("client_id", client_id.as_ref().map(|text| json!(text)));
    fields.secret("client_secret", client_secret.as_ref())?;
    fields.put("scope", scope.as_ref().map(|text| json!(text)));
    Ok(fields.into())
}

fn encryption(tls: &TlsSettings) -> Result<Value> {
    let TlsSettings { ca, certificate, key, key_password, verify } = tls;
    let mut fields = Fields::default();
    for (name, path) in [("ca", ca), ("certificate", certificate), ("key", key)] {
        fields.put(name, path.as_ref().map(|path| json!(path.to_string_lossy())));
    }
    fields.secret("key_password", key_password.as_ref())?;
    fields.put("verify", Some(json!(verify)));
    Ok(fields.into())
}

/// The keys of `[store.NAME]`.
///
/// # Errors
/// `C0662`.
pub(super) fn store(settings: &StoreSettings) -> Result<Value> {
    let StoreSettings { url, access_key_id, secret_access_key, session_token } = settings;
    let mut fields = Fields::default();
    fields.put("url", Some(json!(url)));
    fields.secret("access_key_id", access_key_id.as_ref())?;
    fields.secret("secret_access_key", secret_access_key.as_ref())?;
    fields.secret("session_token", session_token.as_ref())?;
    Ok(fields.into())
}

/// Keys that have a value.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn secret(&mut self, name: &str, secret: Option<&Secret>) -> Result<()> {
        self.put(name, secret.map(|secret| reference(name, secret)).transpose()?);
        Ok(())
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}

fn reference(setting: &str, secret: &Secret) -> Result<Value> {
    match secret {
        Secret::Env(_) | Secret::File(_) => Ok(json!(secret.to_string())),
        Secret::Literal(_) => {
            Err(Error::new(SECRET_INLINE, ErrorKind::Invalid, "workers do not get a secret that stands in the connection itself")
                .with("setting", setting)
                .help("put it into a file on each machine, or a variable, and name that: file:/path or env:NAME"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::to_toml;
    use super::*;
    use crate::config::Config;

    const FILE: &str = r#"
        [kafka.k]
        brokers = ["h:1", "h:2"]
        preset = "msk"
        sasl = { mechanism = "PLAIN", username = "u", password = "env:PASSWORD" }
        tls = { ca = "/ca.pem", certificate = "/c.pem", key = "/k.pem", key_password = "file:/p", verify = false }
        properties = { "client.id" = "x", "ssl.key.password" = "file:/q" }
        [store.s]
        url = "s3://lake/p/?region=r"
        access_key_id = "env:ID"
        secret_access_key = "file:/key"
        session_token = "file:/token"
    "#;

    fn config(text: &str) -> Config {
        Config::parse(text, "test").unwrap()
    }

    #[test]
    fn references_cross_and_the_other_side_reads_the_same_settings() {
        let here = config(FILE);
        let there = |section: &str, name: &str, body: Value| config(&to_toml(section, name, &body.to_string()).unwrap());
        assert_eq!(there("kafka", "k", kafka(&here.kafka["k"]).unwrap()).kafka, here.kafka);
        assert_eq!(there("store", "s", store(&here.stores["s"]).unwrap()).stores, here.stores);
        let token = "[kafka.k]\nbrokers = \"h:1\"\nsasl = { mechanism = \"OAUTHBEARER\", token_endpoint = \"https://t/\", client_id = \"i\", client_secret = \"env:S\", scope = \"s\" }\n";
        let here = config(token);
        assert_eq!(there("kafka", "k", kafka(&here.kafka["k"]).unwrap()).kafka, here.kafka);
    }

    #[test]
    fn no_secret_crosses_that_stands_in_the_connection() {
        for (reference, literal) in [
            ("env:PASSWORD", "hush"),
            ("file:/p", "hush"),
            ("file:/q", "hush"),
            ("env:ID", "hush"),
            ("file:/key", "hush"),
            ("file:/token", "hush"),
        ] {
            let changed = config(&FILE.replace(reference, literal));
            let error = kafka(&changed.kafka["k"]).and_then(|_| store(&changed.stores["s"])).unwrap_err();
            assert_eq!(error.code, SECRET_INLINE, "{reference}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn a_member_of_its_own_name_stays_where_it_is() {
        assert_eq!(check_member(Some("one")).unwrap_err().code, MEMBER_NAMED);
        check_member(Some("none")).unwrap();
        check_member(None).unwrap();
        let named = config("[kafka.k]\nbrokers = \"h:1\"\nproperties = { \"group.instance.id\" = \"x\" }\n");
        assert_eq!(kafka(&named.kafka["k"]).unwrap_err().code, MEMBER_NAMED);
    }
}
