//! From an address and the environment to a client of the SDK.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

use super::{credentials, named};
use crate::error::{Code, Error, ErrorKind};
use crate::store::open::OpenOptions;
use crate::store::url::{BucketUrl, ChecksumHeader, Dialect, Endpoint, GuardHeader, PartSizes, PayloadSigning, Style};

/// How long a body may stand still before the request is given up. The SDK's own 5 s would break requests of a store that is
/// merely slow; much more would leave dead connections to the attempt's time-out alone.
const STALL_GRACE: Duration = Duration::from_secs(60);

/// Idle connections are dropped after this. AWS closes them after about 20 s; keeping ours longer would send writes into
/// connections that are about to be reset, and their outcome would be unknown.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// Credentials are renewed this long before they expire: longer than the slowest request that is signed with them takes.
pub(super) const CREDENTIALS_BUFFER: Duration = Duration::from_secs(300);

/// Everything that requests need.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub client: Client,
    pub dialect: Dialect,
    pub identity: String,
    pub region: String,
    pub guard: Option<(&'static str, &'static str)>,
    /// Whether the service is known by name for a guard that is not atomic.
    pub guard_is_weak: bool,
    pub checksum: ChecksumHeader,
    pub payload_signed: bool,
    /// Whether all parts of an upload but the last must be of one size.
    pub equal_parts: bool,
}

/// Resolves an address into a client.
pub(super) async fn resolve(url: &BucketUrl, options: &OpenOptions) -> Result<Settings, Error> {
    let endpoint = named::endpoint(url, &options.env)?;
    let dialect = named::dialect(url, endpoint.as_ref());
    let region = region(url, dialect, endpoint.as_ref(), options).await?;
    let style = style(url, dialect, endpoint.as_ref())?;
    let service = endpoint.clone().or_else(|| named::cos_endpoint(dialect, &region));
    let signed_by_default = service.as_ref().is_some_and(|e| !e.tls);
    Ok(Settings {
        client: Client::from_conf(client_config(options, dialect, &region, style, endpoint.as_ref())),
        dialect,
        region: region.to_string(),
        identity: named::identity_at(service.as_ref(), url),
        guard: guard(url.guard, dialect),
        guard_is_weak: dialect == Dialect::Cos || endpoint.as_ref().is_some_and(has_weak_guard),
        checksum: url.checksum.unwrap_or(match dialect {
            Dialect::S3 => ChecksumHeader::Crc64Nvme,
            Dialect::Cos => ChecksumHeader::Md5,
        }),
        payload_signed: url.payload.map_or(signed_by_default, |p| p == PayloadSigning::Signed),
        equal_parts: url.parts.map_or_else(|| endpoint.as_ref().is_some_and(wants_equal_parts), |parts| parts == PartSizes::Equal),
    })
}

fn client_config(options: &OpenOptions, dialect: Dialect, region: &Region, style: Style, endpoint: Option<&Endpoint>) -> Config {
    let loopback = endpoint.and_then(|e| e.host.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    // In DNS no bucket can stand before an address, but before "localhost" it can, and the resolver below knows such names.
    let service = match endpoint {
        Some(endpoint) if style == Style::Virtual && endpoint.is_loopback() => Some(endpoint.with_host("localhost")),
        Some(endpoint) => Some(endpoint.clone()),
        None => named::cos_endpoint(dialect, region),
    };
    let identity = IdentityCache::lazy().buffer_time(CREDENTIALS_BUFFER).load_timeout(Duration::from_secs(15)).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.clone())
        .force_path_style(style == Style::Path)
        .credentials_provider(credentials::provider(options.credentials.as_ref(), dialect, endpoint.is_some(), region, &options.env))
        .identity_cache(identity)
        .http_client(http_client(loopback))
        .timeout_config(TimeoutConfig::builder().connect_timeout(options.connect_timeout).build())
        // One attempt a call: repeating is retry.rs's business for some requests and the commit protocol's for the others.
        .retry_config(RetryConfig::disabled())
        // Checksums are ours: the SDK's own would need trailers, which COS and others refuse.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL_GRACE).build());
    if let Some(service) = service {
        config = config.endpoint_url(service.to_string());
    }
    config.build()
}

fn http_client(loopback: IpAddr) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(IDLE_CONNECTION)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_with_resolver(Resolver { loopback })
}

/// The system's resolver, but for names under `localhost`, which are this machine (RFC 6761) whatever the system says.
#[derive(Clone, Debug)]
struct Resolver {
    loopback: IpAddr,
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        if name.ends_with(".localhost") {
            return DnsFuture::ready(Ok(vec![self.loopback]));
        }
        DnsFuture::new(async move {
            let addresses = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

async fn region(url: &BucketUrl, dialect: Dialect, endpoint: Option<&Endpoint>, options: &OpenOptions) -> Result<Region, Error> {
    if let Some(region) = named::region(url, dialect, &options.env) {
        return Ok(region);
    }
    // Behind a custom endpoint the region is only a word in the signature, and nearly every service takes this one.
    let fallback = || endpoint.is_some().then(|| Region::from_static("us-east-1"));
    let profile = match dialect {
        Dialect::S3 => ProfileFileRegionProvider::new().region().await,
        Dialect::Cos => None,
    };
    profile.or_else(fallback).ok_or_else(|| {
        let example = if dialect == Dialect::Cos { "ap-guangzhou" } else { "eu-west-1" };
        misfit(url, "no region").help(format!("add ?region={example} to the address, or set {}", named::region_variables(dialect)[0]))
    })
}

fn style(url: &BucketUrl, dialect: Dialect, endpoint: Option<&Endpoint>) -> Result<Style, Error> {
    let style = match (url.style, endpoint) {
        (Some(Style::Path), _) if dialect == Dialect::Cos => {
            return Err(misfit(url, "COS refuses path style").help("leave out style=path"));
        }
        (Some(style), _) => style,
        (None, _) if dialect == Dialect::Cos => Style::Virtual,
        // A name without a dot is a machine of the local network; no bucket stands before it in anybody's DNS.
        (None, Some(endpoint)) if endpoint.is_address() || !endpoint.host.contains('.') => Style::Path,
        (None, _) => Style::Virtual,
    };
    let impossible = endpoint.is_some_and(|e| e.is_address() && !e.is_loopback());
    if style == Style::Virtual && impossible {
        return Err(misfit(url, "virtual-hosted style needs an endpoint with a name").help("give a host name, or style=path"));
    }
    Ok(style)
}

fn guard(wanted: GuardHeader, dialect: Dialect) -> Option<(&'static str, &'static str)> {
    const IF_NONE_MATCH: (&str, &str) = ("if-none-match", "*");
    const COS: (&str, &str) = ("x-cos-forbid-overwrite", "true");
    match (wanted, dialect) {
        (GuardHeader::None, _) => None,
        (GuardHeader::IfNoneMatch, _) | (GuardHeader::Auto, Dialect::S3) => Some(IF_NONE_MATCH),
        (GuardHeader::Cos, _) | (GuardHeader::Auto, Dialect::Cos) => Some(COS),
    }
}

/// Services whose guard is void on buckets that ever had versions, or is not known to be atomic: Alibaba OSS, IBM COS.
fn has_weak_guard(endpoint: &Endpoint) -> bool {
    [".aliyuncs.com", ".appdomain.cloud"].iter().any(|domain| endpoint.host.ends_with(domain))
}

/// Cloudflare's R2 makes no object of parts of several sizes.
fn wants_equal_parts(endpoint: &Endpoint) -> bool {
    endpoint.host.ends_with(".r2.cloudflarestorage.com")
}

pub(super) fn misfit(url: &BucketUrl, why: impl std::fmt::Display) -> Error {
    Error::new(Code(313), ErrorKind::Invalid, "the store's endpoint, style and region do not fit together")
        .with("url", url.shown())
        .because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::Env;
    use crate::store::url::StoreUrl;

    fn bucket(text: &str) -> BucketUrl {
        match StoreUrl::parse(text).unwrap() {
            StoreUrl::Bucket(url) => url,
            StoreUrl::File(path) => panic!("a file: {path:?}"),
        }
    }

    async fn settings(text: &str, env: &[(&str, &str)]) -> Result<Settings, Error> {
        resolve(&bucket(text), &OpenOptions { env: Env::of(env), ..OpenOptions::default() }).await
    }

    #[test]
    fn styles_follow_the_endpoint() {
        let style_of = |text: &str| {
            let url = bucket(text);
            style(&url, named::dialect(&url, url.endpoint.as_ref()), url.endpoint.as_ref())
        };
        for text in
            ["s3://lake/?endpoint=http://127.0.0.1:1", "s3://lake/?endpoint=http://localhost:1", "s3://lake/?endpoint=http://minio:1"]
        {
            assert_eq!(style_of(text).unwrap(), Style::Path, "{text}");
        }
        for text in ["s3://lake/", "s3://lake/?endpoint=https://s3.example.com", "cos://lake-1/?endpoint=http://127.0.0.1:1"] {
            assert_eq!(style_of(text).unwrap(), Style::Virtual, "{text}");
        }
        for text in
            ["cos://lake-1/?style=path", "cos://lake-1/?endpoint=http://10.0.0.1", "s3://lake/?style=virtual&endpoint=http://10.0.0.1"]
        {
            assert_eq!(style_of(text).unwrap_err().code, Code(313), "{text}");
        }
    }

    #[tokio::test]
    async fn identity_is_endpoint_bucket_and_prefix() {
        let id = |s: Result<Settings, Error>| s.unwrap().identity;
        assert_eq!(id(settings("s3://lake/a?region=x", &[]).await), "s3://lake/a/");
        assert_eq!(id(settings("cos://lake-1/a?region=ap-x", &[]).await), "https://cos.ap-x.myqcloud.com/lake-1/a/");
        let by_env = id(settings("s3://lake/", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]).await);
        assert_eq!(by_env, id(settings("s3://lake/?endpoint=http://127.0.0.1:9", &[]).await));
    }

    #[tokio::test]
    async fn bodies_are_signed_over_plain_http_only() {
        assert!(!settings("s3://lake/?region=x", &[]).await.unwrap().payload_signed);
        assert!(!settings("cos://lake-1/?region=x", &[]).await.unwrap().payload_signed);
        assert!(settings("s3://lake/?endpoint=http://127.0.0.1:1", &[]).await.unwrap().payload_signed);
        assert!(!settings("s3://lake/?endpoint=http://127.0.0.1:1&payload=unsigned", &[]).await.unwrap().payload_signed);
        assert!(settings("s3://lake/?region=x&payload=signed", &[]).await.unwrap().payload_signed);
    }

    #[tokio::test]
    async fn parts_are_equal_where_the_address_says_so_or_the_service_is_known_for_it() {
        const R2: &str = "s3://lake/?endpoint=https://account.r2.cloudflarestorage.com";
        for (text, expected) in [
            ("s3://lake/?region=x", false),
            ("s3://lake/?region=x&parts=equal", true),
            (R2, true),
            (&format!("{R2}&parts=growing"), false),
            ("s3://lake/?endpoint=https://r2.example.com", false),
        ] {
            assert_eq!(settings(text, &[]).await.unwrap().equal_parts, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn the_dialect_decides_guard_and_checksum() {
        let s3 = settings("s3://lake/?region=x", &[]).await.unwrap();
        assert_eq!((s3.guard, s3.checksum, s3.guard_is_weak), (Some(("if-none-match", "*")), ChecksumHeader::Crc64Nvme, false));
        for text in ["cos://lake-1/?region=x", "s3://lake-1/?region=x&endpoint=https://cos.ap-x.myqcloud.com"] {
            let cos = settings(text, &[]).await.unwrap();
            assert_eq!((cos.guard, cos.checksum, cos.guard_is_weak), (Some(("x-cos-forbid-overwrite", "true")), ChecksumHeader::Md5, true));
        }
        assert!(settings("s3://lake/?region=x&endpoint=https://oss-cn.aliyuncs.com", &[]).await.unwrap().guard_is_weak);
    }

    #[tokio::test]
    async fn a_missing_region_says_what_to_set() {
        let error = settings("cos://lake-1/", &[]).await.unwrap_err();
        assert_eq!(error.code, Code(313));
        assert!(error.help.unwrap().contains("region=ap-guangzhou"));
        assert!(settings("s3://lake/", &[("AWS_ENDPOINT_URL", "nonsense")]).await.is_err());
    }
}
