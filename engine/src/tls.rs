//! Certificates and keys of PEM files, for whoever serves by TLS or calls by it.
//!
//! TLS is rustls with aws-lc-rs. Each file is read when it is needed and named by what is wrong with it; no error repeats what stands in a key's file. Not here:
//! the TLS of the Kafka client and of the stores, which have settings of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::error::{Code, Error, ErrorKind, Result};
use crate::https::Tls;

/// A file with a certificate or a key cannot be read or used.
pub(crate) const TLS_UNREADABLE: Code = Code(650);
/// The key is another certificate's.
pub(crate) const TLS_KEY_OTHER: Code = Code(651);
/// The certificate is not valid at this time.
pub(crate) const TLS_EXPIRED: Code = Code(652);

/// The certificates of a file, the end's first.
pub(crate) type Chain = Vec<CertificateDer<'static>>;

/// What does the arithmetic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unusable(what: &'static str, file: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(TLS_UNREADABLE, ErrorKind::Invalid, format!("the {what} cannot be used"))
        .with("file", file.display())
        .because(why)
        .help("name a PEM file that this user may read: -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----, without a password")
}

/// Why a file has none, in words that hold nothing of the file.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => "it has none".to_owned(),
        _ => "it is no PEM file".to_owned(),
    }
}

/// The certificates of a file: at least one.
///
/// # Errors
/// `C0650`.
pub(crate) fn chain(file: &Path) -> Result<Chain> {
    let what = "file with certificates";
    let found: Result<Chain, pem::Error> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|e| unusable(what, file, reason(&e)))?;
    if found.is_empty() { Err(unusable(what, file, "it has none")) } else { Ok(found) }
}

/// A certificate with its chain and its key.
///
/// # Errors
/// `C0650`; `C0651` if the key is another one's.
pub(crate) fn pair(certificate: &Path, key: &Path) -> Result<(Chain, PrivateKeyDer<'static>)> {
    let chain = chain(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable("file with the key", key, reason(&e)))?;
    match CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider()) {
        Ok(_) => Ok((chain, private)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::new(TLS_KEY_OTHER, ErrorKind::Invalid, "the key does not fit the certificate")
                .with("certificate", certificate.display())
                .with("key", key.display())
                .help("name the key that the certificate was made for; the first certificate of its file is the one that counts"))
        }
        Err(rustls::Error::InvalidCertificate(e)) => Err(unusable("file with certificates", certificate, format!("{e:?}"))),
        Err(_) => Err(unusable("file with the key", key, "it is of no kind that can be used")),
    }
}

/// Authorities that are trusted.
///
/// # Errors
/// `C0650`.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        roots.add(certificate).map_err(|e| unusable("file with certificates", file, e))?;
    }
    Ok(roots)
}

/// How a caller speaks TLS that trusts `ca` in place of the system's authorities, and shows a certificate of its own with its key.
///
/// # Errors
/// `C0650`, `C0651`.
pub(crate) fn client(ca: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<Tls> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| unusable("TLS of this program", Path::new("-"), e))?;
    let trusting = match ca {
        Some(file) => builder.with_root_certificates(roots(file)?),
        None => builder.with_native_roots().map_err(|e| unusable("system's certificates", Path::new("-"), e))?,
    };
    let Some((certificate, key)) = own else { return Ok(trusting.with_no_client_auth().into()) };
    let (chain, private) = pair(certificate, key)?;
    Ok(trusting.with_client_auth_cert(chain, private).map_err(|e| unusable("file with certificates", certificate, e))?.into())
}

/// Says so if a certificate is not valid at this time; whether it is trusted is asked by whoever is shown it.
pub(crate) fn expired(chain: &Chain, wall_ms: i64) -> Option<Error> {
    let (end, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    // The times are looked at before any signature, so whose authority stands here does not matter; but there must be one.
    roots.add(chain.last()?.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(wall_ms).unwrap_or_default()));
    let why = match verifier.verify_server_cert(end, rest, &name, &[], now) {
        Err(rustls::Error::InvalidCertificate(
            e @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        )) => e.to_string(),
        _ => return None,
    };
    let error = Error::new(TLS_EXPIRED, ErrorKind::Invalid, "the certificate is not valid at this time").because(why);
    Some(error.help("put a new certificate into its file; a service reads it at SIGHUP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_none_is_named_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pem");
        let code = |found: Result<()>| found.unwrap_err();
        assert_eq!(code(chain(&file).map(drop)).code, TLS_UNREADABLE, "it is not there");
        for text in ["", "hush-canary", "-----BEGIN CERTIFICATE-----\nhush-canary\n", "-----BEGIN PRIVATE KEY-----\nhush-canary\n-----END"]
        {
            std::fs::write(&file, text).unwrap();
            for error in [code(chain(&file).map(drop)), code(roots(&file).map(drop)), code(pair(&file, &file).map(drop))] {
                assert_eq!(error.code, TLS_UNREADABLE, "{text}");
                assert!(error.context.iter().any(|(_, value)| value.contains("x.pem")) && !format!("{error:?}").contains("hush-canary"));
            }
        }
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert_eq!(chain(&file).unwrap().len(), 1);
        assert_eq!(code(roots(&file).map(drop)).code, TLS_UNREADABLE, "no certificate");
        assert!(expired(&chain(&file).unwrap(), 0).is_none(), "nothing is known of it");
    }
}
