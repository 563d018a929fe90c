//! What an address and the environment say of a bucket's service, without a client.

use aws_sdk_s3::config::Region;

use super::config::misfit;
use crate::error::Error;
use crate::store::open::Env;
use crate::store::url::{BucketUrl, Dialect, Endpoint, parse_endpoint};

/// The endpoint that the address or the environment gives.
pub(super) fn endpoint(url: &BucketUrl, env: &Env) -> Result<Option<Endpoint>, Error> {
    if url.endpoint.is_some() || url.dialect == Dialect::Cos {
        return Ok(url.endpoint.clone());
    }
    for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        if let Some(value) = env.get(name) {
            return parse_endpoint(&value).map(Some).map_err(|why| misfit(url, format!("{name}: {why}")));
        }
    }
    Ok(None)
}

/// An address of COS under the `s3` scheme still speaks COS: its checksums and its guard are not those of AWS.
pub(super) fn dialect(url: &BucketUrl, endpoint: Option<&Endpoint>) -> Dialect {
    if endpoint.is_some_and(|e| e.host.ends_with(".myqcloud.com")) { Dialect::Cos } else { url.dialect }
}

/// The variables that name a region.
pub(super) fn region_variables(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::S3 => &["AWS_REGION", "AWS_DEFAULT_REGION"],
        Dialect::Cos => &["TENCENTCLOUD_REGION"],
    }
}

/// The region that the address or the environment gives.
pub(super) fn region(url: &BucketUrl, dialect: Dialect, env: &Env) -> Option<Region> {
    url.region.clone().or_else(|| region_variables(dialect).iter().find_map(|name| env.get(name))).map(Region::new)
}

/// COS has an endpoint for each region.
pub(super) fn cos_endpoint(dialect: Dialect, region: &Region) -> Option<Endpoint> {
    let host = || format!("cos.{region}.myqcloud.com");
    (dialect == Dialect::Cos).then(|| Endpoint { tls: true, host: host(), port: None })
}

/// The service that a bucket is asked for at; none for AWS itself.
///
/// # Errors
/// C0313 for a bucket of COS without a region, and for an endpoint of the environment that is none.
pub(in crate::store) fn service(url: &BucketUrl, env: &Env) -> Result<Option<Endpoint>, Error> {
    let endpoint = endpoint(url, env)?;
    let dialect = dialect(url, endpoint.as_ref());
    match (endpoint, dialect) {
        (Some(endpoint), _) => Ok(Some(endpoint)),
        (None, Dialect::S3) => Ok(None),
        (None, Dialect::Cos) => {
            let region =
                region(url, dialect, env).ok_or_else(|| misfit(url, "no region").help("add ?region=ap-guangzhou to the address"))?;
            Ok(cos_endpoint(dialect, &region))
        }
    }
}

/// Text that identifies endpoint, bucket and prefix.
pub(super) fn identity_at(service: Option<&Endpoint>, url: &BucketUrl) -> String {
    format!("{}/{}/{}", service.map_or("s3:/".to_owned(), Endpoint::to_string), url.bucket, url.prefix)
}

/// [`identity_at`] the service that the bucket is asked for at.
///
/// # Errors
/// As [`service`].
pub(in crate::store) fn identity(url: &BucketUrl, env: &Env) -> Result<String, Error> {
    Ok(identity_at(service(url, env)?.as_ref(), url))
}
