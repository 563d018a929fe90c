//! Where metrics are pushed, as OpenTelemetry's standard variables say it.
//!
//! Place in the flow: read once, when a process starts. Without an endpoint nothing is pushed. What is said of metrics alone (`..._METRICS_...`) wins over what is
//! said of all signals; an empty variable is as good as none.
//!
//! Guarantees: what cannot be used is an error that names the variable, and repeats nothing of its text: headers and addresses hold keys. It ends the start only of
//! who asks for metrics outright: what an environment says of all signals may be meant for other programs, and is warned of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::error::{Error, ErrorKind, Result, codes};
use crate::https::Tls;
use crate::store::url::percent_decode;
use crate::tls;

/// The only form that is spoken; the standard's own default.
const PROTOCOL: &str = "http/protobuf";

/// The media type of a request.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Who pushes.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("catchment/", env!("CARGO_PKG_VERSION")));

/// The standard's defaults, in milliseconds.
const INTERVAL_MS: u64 = 60_000;
const TIMEOUT_MS: u64 = 10_000;

/// What an interval and a time-out may be, in milliseconds. Shorter intervals cost more than they tell; a day is a mistake.
const BOUNDS_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// Where to push, what to show there, and how often.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) endpoint: Uri,
    pub(super) headers: HeaderMap,
    pub(super) tls: Tls,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// What pushes, as attributes.
    pub(super) resource: BTreeMap<String, String>,
}

/// A variable that is set, and its text.
type Said = (&'static str, String);

impl Settings {
    /// Those of this process; none if it pushes nothing.
    ///
    /// # Errors
    /// `C0114`; `C0650` and `C0651` of certificates.
    pub(crate) fn of_process() -> Result<Option<Self>> {
        Self::asked_for(&Variables(&|name| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())))
    }

    fn asked_for(variables: &Variables<'_>) -> Result<Option<Self>> {
        match Self::of(variables) {
            Err(error) if !variables.ask_outright() => {
                tracing::warn!(code = %error.code, "no metrics are pushed: {error}");
                Ok(None)
            }
            said => said,
        }
    }

    fn of(variables: &Variables<'_>) -> Result<Option<Self>> {
        if variables.is_off() {
            return Ok(None);
        }
        let Some(endpoint) = variables.endpoint()? else { return Ok(None) };
        variables.check_protocol()?;
        Ok(Some(Self {
            tls: variables.tls(&endpoint)?,
            endpoint,
            headers: variables.headers()?,
            interval: variables.duration(["OTEL_METRIC_EXPORT_INTERVAL"; 2], INTERVAL_MS)?,
            timeout: variables.duration(["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"], TIMEOUT_MS)?,
            resource: variables.resource()?,
        }))
    }

    /// The endpoint as it may be shown: a path or a query may be a key.
    pub(super) fn shown(&self) -> String {
        let authority = self.endpoint.authority().map(ToString::to_string).unwrap_or_default();
        format!("{}://{authority}", self.endpoint.scheme_str().unwrap_or_default())
    }
}

fn refused(variable: &'static str, why: impl std::fmt::Display, help: &str) -> Error {
    Error::new(codes::METRICS_PUSH, ErrorKind::Invalid, "metrics cannot be pushed as a variable says")
        .with("variable", variable)
        .because(why)
        .help(format!("{help}; or set OTEL_METRICS_EXPORTER=none to push nothing"))
}

/// The environment.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &'static str) -> Option<Said> {
        let text = (self.0)(name)?.trim().to_owned();
        (!text.is_empty()).then_some((name, text))
    }

    /// What is said of metrics, or else of all signals.
    fn first(&self, [of_metrics, of_all]: [&'static str; 2]) -> Option<Said> {
        self.get(of_metrics).or_else(|| self.get(of_all))
    }

    /// Whether pushes are switched off, whatever else is said.
    fn is_off(&self) -> bool {
        let is_disabled = self.get("OTEL_SDK_DISABLED").is_some_and(|(_, text)| text.eq_ignore_ascii_case("true"));
        let exporters = self.get("OTEL_METRICS_EXPORTER");
        is_disabled || exporters.is_some_and(|(_, text)| text.split(',').all(|exporter| exporter.trim() != "otlp"))
    }

    /// Whether somebody wants metrics to be pushed, not signals of whatever kind.
    fn ask_outright(&self) -> bool {
        self.get("OTEL_METRICS_EXPORTER").is_some() || self.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT").is_some()
    }

    /// That of metrics is taken as it is; that of all signals gets a path.
    fn endpoint(&self) -> Result<Option<Uri>> {
        if let Some((name, text)) = self.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
            return address(name, &text).map(Some);
        }
        let Some((name, base)) = self.get("OTEL_EXPORTER_OTLP_ENDPOINT") else { return Ok(None) };
        if base.contains(['?', '#']) {
            let help = "name the whole address in OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
            return Err(refused(name, "a path cannot be put behind a query", help));
        }
        address(name, &format!("{}/v1/metrics", base.trim_end_matches('/'))).map(Some)
    }

    fn check_protocol(&self) -> Result<()> {
        match self.first(["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            Some((name, text)) if text != PROTOCOL => {
                let help = format!("set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL={PROTOCOL} and name the collector's HTTP port, mostly 4318");
                Err(refused(name, format!("only {PROTOCOL} is spoken"), &help))
            }
            _ => Ok(()),
        }
    }

    fn tls(&self, endpoint: &Uri) -> Result<Tls> {
        if endpoint.scheme_str() != Some("https") {
            return Ok(Tls::default());
        }
        let file = |names| self.first(names).map(|(_, text)| PathBuf::from(text));
        let ca = file(["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
        let certificate = file(["OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]);
        let key = file(["OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"]);
        let own = match (&certificate, &key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            _ => {
                let help = "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY, or neither";
                return Err(refused("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "a certificate and its key go together", help));
            }
        };
        tls::client(ca.as_deref(), own)
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        let said = self.first(["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]);
        for Pair { variable, number, name, value } in pairs(said)? {
            let header = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
            let Some((name, mut value)) = header else { return Err(Pair::refused(variable, number, "no header")) };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // Whatever was said: it is what is sent.
        headers.insert(CONTENT_TYPE, PROTOBUF);
        Ok(headers)
    }

    fn duration(&self, names: [&'static str; 2], default_ms: u64) -> Result<Duration> {
        let Some((name, text)) = self.first(names) else { return Ok(Duration::from_millis(default_ms)) };
        match text.parse::<u64>() {
            Ok(ms) if BOUNDS_MS.contains(&ms) => Ok(Duration::from_millis(ms)),
            _ => {
                let (least, most) = (BOUNDS_MS.start(), BOUNDS_MS.end());
                Err(refused(name, format!("it is no number of milliseconds from {least} to {most}"), "write a number, such as 60000"))
            }
        }
    }

    /// What pushes: processes of one rule must be told from each other, or a collector takes their counters for one that jumps.
    fn resource(&self) -> Result<BTreeMap<String, String>> {
        let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
        let own = [
            ("service.name", "catchment".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", format!("{host}:{}", std::process::id())),
        ];
        let mut resource: BTreeMap<String, String> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        resource.extend(pairs(self.get("OTEL_RESOURCE_ATTRIBUTES"))?.into_iter().map(|pair| (pair.name, pair.value)));
        resource.extend(self.get("OTEL_SERVICE_NAME").map(|(_, name)| ("service.name".to_owned(), name)));
        Ok(resource)
    }
}

/// An address that can be asked.
fn address(variable: &'static str, text: &str) -> Result<Uri> {
    let refused = |why: &str| refused(variable, why, "write an address such as http://127.0.0.1:4318");
    let uri: Uri = text.parse().map_err(|_| refused("it is no address"))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refused("it begins neither with http:// nor with https://"));
    }
    if authority.contains('@') {
        return Err(refused("it holds a user or a password, which belong into OTEL_EXPORTER_OTLP_HEADERS"));
    }
    if uri.host().is_none_or(str::is_empty) { Err(refused("it names no host")) } else { Ok(uri) }
}

/// One of `NAME=VALUE,NAME=VALUE`.
struct Pair {
    variable: &'static str,
    /// The first one's is 1.
    number: usize,
    name: String,
    value: String,
}

impl Pair {
    fn of(variable: &'static str, number: usize, text: &str) -> Result<Self> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((percent_decode(name.trim())?, percent_decode(value.trim())?)));
        match parts.filter(|(name, _)| !name.is_empty()) {
            Some((name, value)) => Ok(Self { variable, number, name, value }),
            None => Err(Self::refused(variable, number, "no NAME=VALUE")),
        }
    }

    fn refused(variable: &'static str, number: usize, is: &str) -> Error {
        refused(variable, format!("number {number} of its parts is {is}"), "write NAME=VALUE,NAME=VALUE, with a comma in a value as %2C")
    }
}

/// The pairs of a variable, without spaces around them and with their escapes taken out.
fn pairs(said: Option<Said>) -> Result<Vec<Pair>> {
    let Some((variable, text)) = said else { return Ok(Vec::new()) };
    let all = text.split(',').map(str::trim).enumerate().filter(|(_, text)| !text.is_empty());
    all.map(|(at, text)| Pair::of(variable, at + 1, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[(&str, &str)]) -> Result<Option<Settings>> {
        let find = |name: &str| said.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
        Settings::of(&Variables(&find))
    }

    fn set(said: &[(&str, &str)]) -> Settings {
        of(said).expect("it can be used").expect("it pushes")
    }

    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OF_METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

    #[test]
    fn nothing_is_pushed_unless_an_endpoint_says_where() {
        let none = |said: &[(&str, &str)]| assert!(of(said).expect("nothing is wrong").is_none(), "{said:?}");
        none(&[]);
        none(&[("OTEL_SERVICE_NAME", "x"), (HEADERS, "not=looked,at"), (BASE, " ")]);
        none(&[(BASE, "http://h:4318"), ("OTEL_METRICS_EXPORTER", "none")]);
        none(&[(BASE, "not an address"), ("OTEL_SDK_DISABLED", "true")]);
        set(&[(BASE, "http://h:4318"), ("OTEL_METRICS_EXPORTER", "prometheus, otlp"), ("OTEL_SDK_DISABLED", "false")]);
    }

    #[test]
    fn an_endpoint_of_all_signals_gets_the_path_and_that_of_metrics_is_taken_as_it_is() {
        for (said, expected) in [
            (&[(BASE, "http://h:4318")][..], "http://h:4318/v1/metrics"),
            (&[(BASE, "http://h:4318/otlp/")], "http://h:4318/otlp/v1/metrics"),
            (&[(BASE, "http://h"), (OF_METRICS, "http://other:1/x?key=hush-canary")], "http://other:1/x?key=hush-canary"),
            (&[(OF_METRICS, "http://h/hush-canary/x")], "http://h/hush-canary/x"),
        ] {
            let settings = set(said);
            assert_eq!(settings.endpoint.to_string(), expected);
            assert!(!settings.shown().contains("hush-canary"), "{}", settings.shown());
        }
        assert_eq!(set(&[(OF_METRICS, "http://h:1/x?key=v")]).shown(), "http://h:1");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_name_and_not_repeated() {
        let here = (BASE, "http://h:4318");
        for (variable, said) in [
            (BASE, &[(BASE, "hush-canary:4318")][..]),
            (BASE, &[(BASE, "ftp://hush-canary")]),
            (BASE, &[(BASE, "http://user:hush-canary@h:4318")]),
            (BASE, &[(BASE, "http://h:4318?key=hush-canary")]),
            (OF_METRICS, &[here, (OF_METRICS, "http://hush canary")]),
            (HEADERS, &[here, (HEADERS, "Bearer hush-canary")]),
            (HEADERS, &[here, (HEADERS, "a=b,c=hush-canary%0a")]),
            (HEADERS, &[here, (HEADERS, "hush canary=b")]),
            (HEADERS, &[here, (HEADERS, "a=hush-canary%")]),
            ("OTEL_RESOURCE_ATTRIBUTES", &[here, ("OTEL_RESOURCE_ATTRIBUTES", "hush-canary")]),
            ("OTEL_METRIC_EXPORT_INTERVAL", &[here, ("OTEL_METRIC_EXPORT_INTERVAL", "60s")]),
            ("OTEL_METRIC_EXPORT_INTERVAL", &[here, ("OTEL_METRIC_EXPORT_INTERVAL", "0")]),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &[here, ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1")]),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", &[here, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
        ] {
            let error = of(said).expect_err("it cannot be used");
            assert_eq!(error.code, codes::METRICS_PUSH, "{error}");
            assert!(error.context.contains(&("variable", variable.to_owned())), "{variable}: {error}");
            assert!(error.help.is_some() && !format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn what_may_be_meant_for_other_programs_does_not_end_the_start() {
        let asked = |said: &[(&str, &str)]| {
            Settings::asked_for(&Variables(&|name| said.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())))
        };
        let (grpc, base) = (("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), (BASE, "http://h:4317"));
        assert!(asked(&[base, grpc]).expect("nobody asked for metrics").is_none());
        for outright in [("OTEL_METRICS_EXPORTER", "otlp"), (OF_METRICS, "http://h:4317/v1/metrics")] {
            assert_eq!(asked(&[base, grpc, outright]).expect_err("asked for").code, codes::METRICS_PUSH);
        }
    }

    #[test]
    fn headers_are_sent_and_never_shown() {
        let settings = set(&[(BASE, "http://h:4318"), (HEADERS, "api-key = hush%2Ccanary%3D , x-scope=b")]);
        assert_eq!(settings.headers["api-key"], "hush,canary=");
        assert_eq!(settings.headers["x-scope"], "b");
        assert_eq!(settings.headers[CONTENT_TYPE], "application/x-protobuf");
        assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
        let overridden = set(&[(BASE, "http://h"), (HEADERS, "a=b"), ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "c=d,content-type=x")]);
        assert!(!overridden.headers.contains_key("a") && overridden.headers["c"] == "d");
        assert_eq!(overridden.headers[CONTENT_TYPE], "application/x-protobuf");
    }

    #[test]
    fn a_process_is_named_and_told_from_others() {
        let settings = set(&[(BASE, "http://h:4318")]);
        assert_eq!(settings.resource["service.name"], "catchment");
        assert!(settings.resource["service.instance.id"].ends_with(&format!(":{}", std::process::id())));
        assert_eq!((settings.interval.as_millis(), settings.timeout.as_millis()), (60_000, 10_000));
        let attributes = "service.name=lost,deployment.environment=a%20b,service.instance.id=7";
        let named = set(&[
            (BASE, "http://h:4318"),
            ("OTEL_SERVICE_NAME", "won"),
            ("OTEL_RESOURCE_ATTRIBUTES", attributes),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "300"),
        ]);
        let shown = |name: &str| named.resource[name].as_str();
        assert_eq!((shown("service.name"), shown("deployment.environment"), shown("service.instance.id")), ("won", "a b", "7"));
        assert_eq!((named.interval.as_millis(), named.timeout.as_millis()), (250, 300));
    }

    #[test]
    fn a_certificate_for_a_collector_wants_its_key() {
        let one = [(BASE, "https://h:4318"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k")];
        assert_eq!(of(&one).expect_err("half a pair").code, codes::METRICS_PUSH);
        let missing = [(BASE, "https://h:4318"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem")];
        assert_eq!(of(&missing).expect_err("no such file").code, tls::TLS_UNREADABLE);
        set(&[(BASE, "http://h:4318"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem")]);
    }
}
