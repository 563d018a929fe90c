//! Which place an address means, without opening it: for whoever must know whether two addresses are one destination.
//!
//! Place in the flow: asked before a rule runs. It looks at environment variables and, for directories, at links; nothing is sent, made or written.
//!
//! [`exact`] is what [`ObjectStore::identity`](super::ObjectStore::identity) says of the opened store, and what notes of the group carry a hash of: it never
//! changes its form. [`place`] is coarser, equal for all spellings of one place that can be told apart from the outside: for comparisons within a process.

use std::path::Path;

use super::file;
use super::open::Env;
#[cfg(feature = "s3")]
use super::s3::named;
#[cfg(feature = "s3")]
use super::url::Endpoint;
use super::url::StoreUrl;
use crate::error::Error;

/// The identity of the store at an address.
///
/// # Errors
/// C0310 and C0311 for an address that is not understood, C0312 for a directory that cannot be looked at, C0313 for a bucket without an endpoint.
pub fn exact(address: &str, env: &Env) -> Result<String, Error> {
    match StoreUrl::parse(address)? {
        StoreUrl::File(path) => directory(&path),
        #[cfg(feature = "s3")]
        StoreUrl::Bucket(url) => named::identity(&url, env),
        #[cfg(not(feature = "s3"))]
        StoreUrl::Bucket(url) => {
            let _ = env;
            Ok(url.shown())
        }
    }
}

/// A text that is equal for addresses of one place: an endpoint's scheme and its own port, a dot at the end of its name, names of this machine and of AWS
/// itself make no difference.
///
/// # Errors
/// As [`exact`].
pub fn place(address: &str, env: &Env) -> Result<String, Error> {
    match StoreUrl::parse(address)? {
        StoreUrl::File(path) => directory(&path),
        #[cfg(feature = "s3")]
        StoreUrl::Bucket(url) => {
            let service = named::service(&url, env)?.map_or_else(|| AWS.to_owned(), |service| normal(&service));
            Ok(format!("{service}/{}/{}", url.bucket, url.prefix))
        }
        #[cfg(not(feature = "s3"))]
        StoreUrl::Bucket(url) => {
            let _ = env;
            Ok(url.shown())
        }
    }
}

fn directory(path: &Path) -> Result<String, Error> {
    file::root_of(path).map(|root| format!("file://{}/", root.display()))
}

/// What stands for AWS, whose buckets have names that no other one has, in whatever region.
#[cfg(feature = "s3")]
const AWS: &str = "aws";

#[cfg(feature = "s3")]
fn normal(service: &Endpoint) -> String {
    let host = service.host.trim_end_matches('.');
    let is_aws = [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|domain| host.ends_with(domain)) && host.starts_with("s3");
    if is_aws {
        return AWS.to_owned();
    }
    let host = if service.is_loopback() { "localhost" } else { host };
    let own = if service.tls { 443 } else { 80 };
    match service.port.filter(|port| *port != own) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::{OpenOptions, open};

    fn place_of(address: &str) -> String {
        place(address, &Env::of(&[])).unwrap()
    }

    #[tokio::test]
    async fn the_exact_identity_is_that_of_the_opened_store() {
        let dir = tempfile::tempdir().unwrap();
        let below = format!("file://{}/not/there", dir.path().display());
        let mut addresses = vec![below.clone(), format!("{below}/")];
        if cfg!(feature = "s3") {
            let buckets =
                ["s3://lake/a?region=x", "s3://lake/?endpoint=https://H.example:443", "cos://lake-1/a?region=ap-x", "s3://lake?region=x"];
            addresses.extend(buckets.map(str::to_owned));
        }
        for address in addresses {
            let options = OpenOptions { env: Env::of(&[]), ..OpenOptions::default() };
            let opened = open(&address, &options).await.unwrap();
            assert_eq!(exact(&address, &options.env).unwrap(), opened.identity(), "{address}");
        }
    }

    #[test]
    #[cfg(feature = "s3")]
    fn spellings_of_one_place_are_equal_and_other_places_are_not() {
        for (one, other) in [
            ("s3://lake/p?region=x", "s3://lake/p/?region=y"),
            ("s3://lake/p?region=x", "s3://lake/p?endpoint=https://s3.eu-west-1.amazonaws.com"),
            ("s3://lake/p?endpoint=http://minio.example", "s3://lake/p/?endpoint=https://MINIO.example.:443/&style=path"),
            ("s3://lake/?endpoint=http://127.0.0.1:9000", "s3://lake?endpoint=http://localhost:9000"),
            ("cos://lake-1/p?region=ap-x", "s3://lake-1/p/?endpoint=https://cos.ap-x.myqcloud.com"),
        ] {
            assert_eq!(place_of(one), place_of(other), "{one} and {other}");
        }
        for (one, other) in [
            ("s3://lake/p?region=x", "s3://lake/p2?region=x"),
            ("s3://lake/?endpoint=http://a.example:9000", "s3://lake/?endpoint=http://a.example:9001"),
            ("s3://lake/?endpoint=http://a.example", "s3://lake/?endpoint=http://b.example"),
            ("s3://lake/?region=x", "s3://pond/?region=x"),
        ] {
            assert_ne!(place_of(one), place_of(other), "{one} and {other}");
        }
        let by_env = place("s3://lake/", &Env::of(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")])).unwrap();
        assert_eq!(by_env, place_of("s3://lake/?endpoint=http://localhost:9"));
    }

    #[test]
    fn a_directory_is_one_place_by_all_its_paths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
        let plain = place_of(&format!("file://{path}/a/b/"));
        for other in [format!("file://{path}/a//b"), format!("file://{path}/./a/b/"), format!("file://{path}/link/b")] {
            assert_eq!(place_of(&other), plain, "{other}");
        }
        assert_ne!(place_of(&format!("file://{path}/b")), plain);
    }
}
