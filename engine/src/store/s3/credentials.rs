//! Where credentials come from.
//!
//! A config: its secrets, read anew each time, so that keys in files can be rotated under a running backup. Else, for
//! `s3://`: environment, profile, web identity, container; the instance's metadata only on AWS itself and when nothing else
//! is there. `cos://`: Tencent's variables, then the AWS ones, then the role of the machine at Tencent's metadata address; the
//! AWS metadata address is never asked.

use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as CredentialsResult, future};
use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::config::CREDENTIALS_BUFFER;
use crate::clock::{Clock as _, SystemClock};
use crate::store::open::{Env, GivenCredentials};
use crate::store::url::{Dialect, Endpoint, parse_endpoint};

/// Tencent's metadata service. Reachable from CVM instances only, by plain HTTP, as its manual says.
const CVM_METADATA: &str = "http://metadata.tencentyun.com";

/// Overrides [`CVM_METADATA`].
const CVM_METADATA_ENV: &str = "CATCHMENT_CVM_METADATA";

const CVM_ROLES: &str = "/latest/meta-data/cam/security-credentials/";

/// Longest wait for one answer of the metadata service. It answers within milliseconds where it exists; longer would hold up
/// the message that no credentials were found.
const CVM_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest answer of the metadata service that is read: a role's credentials have about 1.5 KB.
const CVM_ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How long keys of a file are used before the file is looked at again; the SDK's cache adds up to two and a half minutes. Longer would
/// prolong the refusals after a rotation, which lanes wait through; shorter would only read the same again.
const REREAD_AFTER: Duration = Duration::from_secs(30);

/// The provider of a store's credentials.
pub(super) fn provider(
    given: Option<&GivenCredentials>,
    dialect: Dialect,
    has_endpoint: bool,
    region: &Region,
    env: &Env,
) -> SharedCredentialsProvider {
    if let Some(given) = given {
        return SharedCredentialsProvider::new(FromConfig { given: given.clone(), clock: SystemClock::new() });
    }
    let config = ProviderConfig::without_region().with_region(Some(region.clone()));
    let profile = || ProfileFileCredentialsProvider::builder().configure(&config).build();
    let aws_env = Variables { env: env.clone(), names: AWS };
    if dialect == Dialect::Cos {
        let cvm = env.get(CVM_METADATA_ENV).unwrap_or_else(|| CVM_METADATA.to_owned());
        let chain = CredentialsProviderChain::first_try("TencentEnvironment", Variables { env: env.clone(), names: TENCENT })
            .or_else("Environment", aws_env)
            .or_else("Profile", profile())
            .or_else("CvmRole", CvmRole { metadata: cvm });
        return SharedCredentialsProvider::new(chain);
    }
    let chain = CredentialsProviderChain::first_try("Environment", aws_env)
        .or_else("Profile", profile())
        .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(&config).build())
        .or_else("Container", EcsCredentialsProvider::builder().configure(&config).build());
    // Another service's machine has no AWS metadata; asking for it would only delay the error.
    if has_endpoint {
        return SharedCredentialsProvider::new(chain);
    }
    SharedCredentialsProvider::new(chain.or_else("Instance", ImdsCredentialsProvider::builder().configure(&config).build()))
}

/// The secrets of a config.
#[derive(Debug)]
struct FromConfig {
    given: GivenCredentials,
    clock: SystemClock,
}

impl FromConfig {
    async fn load(&self) -> CredentialsResult {
        let given = self.given.clone();
        let read = tokio::task::spawn_blocking(move || given.reveal()).await.map_err(CredentialsError::provider_error)?;
        let keys = read.map_err(CredentialsError::provider_error)?;
        // The SDK renews what expires before it does; what says of no end it keeps for a quarter of an hour.
        let now = Duration::from_millis(u64::try_from(self.clock.wall_ms()).unwrap_or_default());
        let expiry = self.given.may_change().then(|| SystemTime::UNIX_EPOCH + now + CREDENTIALS_BUFFER + REREAD_AFTER);
        Ok(Credentials::new(keys.access_key, keys.secret_key, keys.session_token, expiry, "config"))
    }
}

impl ProvideCredentials for FromConfig {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// Names of environment variables that hold credentials.
#[derive(Clone, Copy, Debug)]
struct Names {
    access_key: &'static str,
    secret_key: &'static str,
    /// The first one that is set counts.
    session_token: &'static [&'static str],
}

const AWS: Names = Names { access_key: "AWS_ACCESS_KEY_ID", secret_key: "AWS_SECRET_ACCESS_KEY", session_token: &["AWS_SESSION_TOKEN"] };

const TENCENT: Names = Names {
    access_key: "TENCENTCLOUD_SECRET_ID",
    secret_key: "TENCENTCLOUD_SECRET_KEY",
    session_token: &["TENCENTCLOUD_SESSION_TOKEN", "TENCENTCLOUD_TOKEN"],
};

/// Credentials in environment variables.
#[derive(Debug)]
struct Variables {
    env: Env,
    names: Names,
}

impl Variables {
    fn load(&self) -> CredentialsResult {
        let Names { access_key: id, secret_key: secret, session_token } = self.names;
        let (Some(access_key), Some(secret_key)) = (self.env.get(id), self.env.get(secret)) else {
            return Err(CredentialsError::not_loaded(format!("{id} and {secret} are not both set")));
        };
        let session_token = session_token.iter().find_map(|name| self.env.get(name));
        Ok(Credentials::new(access_key, secret_key, session_token, None, "Variables"))
    }
}

impl ProvideCredentials for Variables {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.load())
    }
}

/// The role of a CVM instance. The SDK's cache asks again before the credentials expire.
#[derive(Debug)]
struct CvmRole {
    metadata: String,
}

/// The metadata service's answer for a role.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    code: Option<String>,
    tmp_secret_id: String,
    tmp_secret_key: String,
    token: String,
    /// Seconds since 1970.
    expired_time: u64,
}

impl CvmRole {
    async fn load(&self) -> CredentialsResult {
        let endpoint = parse_endpoint(&self.metadata).map_err(CredentialsError::invalid_configuration)?;
        let ask = |path: String| {
            let endpoint = endpoint.clone();
            async move {
                let answer = tokio::time::timeout(CVM_TIMEOUT, http_get(&endpoint, &path)).await;
                answer.map_err(|_| CredentialsError::provider_timed_out(CVM_TIMEOUT))
            }
        };
        let roles = match ask(CVM_ROLES.to_owned()).await? {
            Ok((200, body)) => body,
            // No such service, or no role: this machine has none, and another provider may.
            Ok((status, _)) => return Err(CredentialsError::not_loaded(format!("the CVM metadata answers {status}"))),
            Err(e) => return Err(CredentialsError::not_loaded(e)),
        };
        let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
        let role = role.ok_or_else(|| CredentialsError::not_loaded("the CVM instance has no role"))?;
        match ask(format!("{CVM_ROLES}{role}")).await? {
            Ok((200, body)) => parse_role(&body),
            Ok((status, _)) => Err(CredentialsError::provider_error(format!("the CVM metadata answers {status} for role {role}"))),
            Err(e) => Err(CredentialsError::provider_error(e)),
        }
    }
}

fn parse_role(body: &str) -> CredentialsResult {
    let role: RoleCredentials = serde_json::from_str(body).map_err(CredentialsError::provider_error)?;
    if let Some(code) = role.code.filter(|code| code != "Success") {
        return Err(CredentialsError::provider_error(format!("the CVM metadata answers code {code}")));
    }
    let expiry = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(role.expired_time));
    Ok(Credentials::new(role.tmp_secret_id, role.tmp_secret_key, Some(role.token), expiry, "CvmRole"))
}

impl ProvideCredentials for CvmRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// One HTTP/1.0 GET: the answer ends with the connection, so nothing but the status line and the body needs parsing.
async fn http_get(endpoint: &Endpoint, path: &str) -> std::io::Result<(u16, String)> {
    let invalid = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port.unwrap_or(80))).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", endpoint.host).as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(CVM_ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let text = String::from_utf8(answer).map_err(|_| invalid("the answer is not UTF-8"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| invalid("the answer is not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| invalid("the answer has no status"))?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Serves each of these answers to one connection.
    async fn metadata(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).await.unwrap();
                assert!(request[..n].starts_with(b"GET /latest/meta-data/cam/security-credentials/"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_secret_that_is_replaced_in_its_file_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = |text: &str| std::fs::write(&path, text).unwrap();
        token("first");
        let given = GivenCredentials {
            access_key: "id".into(),
            secret_key: "key".into(),
            session_token: Some(format!("file:{}", path.display()).as_str().into()),
        };
        let provider = FromConfig { given: given.clone(), clock: SystemClock::new() };
        assert_eq!(provider.load().await.unwrap().session_token(), Some("first"));
        token("second\n");
        let second = provider.load().await.unwrap();
        assert_eq!(second.session_token(), Some("second"));
        let kept = second.expiry().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap() - CREDENTIALS_BUFFER;
        let now = Duration::from_millis(SystemClock::new().wall_ms().unsigned_abs());
        assert!(kept <= now + REREAD_AFTER, "asked for again soon");
        std::fs::remove_file(&path).unwrap();
        let error = provider.load().await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("C0109"), "{error:?}");
        let literal = FromConfig { given: GivenCredentials { session_token: None, ..given }, clock: SystemClock::new() };
        assert_eq!(literal.load().await.unwrap().expiry(), None, "what cannot change needs no second look");
    }

    #[tokio::test]
    async fn takes_the_first_role_of_the_machine() {
        let role = r#"{"TmpSecretId":"id","TmpSecretKey":"key","ExpiredTime":1924992000,"Expiration":"x","Token":"t","Code":"Success"}"#;
        let metadata = metadata(vec![ok("writer\nother"), ok(role)]).await;
        let got = CvmRole { metadata }.load().await.unwrap();
        assert_eq!((got.access_key_id(), got.secret_access_key(), got.session_token()), ("id", "key", Some("t")));
        assert_eq!(got.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_924_992_000)));
    }

    #[tokio::test]
    async fn a_machine_without_a_role_lets_others_try() {
        for answer in ["HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), ok("")] {
            let metadata = metadata(vec![answer]).await;
            let error = CvmRole { metadata }.load().await.unwrap_err();
            assert!(matches!(error, CredentialsError::CredentialsNotLoaded(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_broken_answer_is_an_error() {
        for body in ["{}", "nonsense", r#"{"TmpSecretId":"a","TmpSecretKey":"b","ExpiredTime":1,"Token":"t","Code":"Failure"}"#] {
            let metadata = metadata(vec![ok("writer"), ok(body)]).await;
            assert!(matches!(CvmRole { metadata }.load().await, Err(CredentialsError::ProviderError(_))), "{body}");
        }
    }

    #[test]
    fn variables_need_both_and_take_a_token() {
        let env = |vars: &[(&'static str, &'static str)]| Variables { env: Env::of(vars), names: TENCENT };
        assert!(env(&[("TENCENTCLOUD_SECRET_ID", "i")]).load().is_err());
        let pair = [("TENCENTCLOUD_SECRET_ID", "i"), ("TENCENTCLOUD_SECRET_KEY", "k")];
        assert_eq!(env(&pair).load().unwrap().session_token(), None);
        let both = [pair[0], pair[1], ("TENCENTCLOUD_TOKEN", "t")];
        assert_eq!(env(&both).load().unwrap().session_token(), Some("t"));
    }
}
