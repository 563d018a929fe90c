//! Where a service of this program is, whom a caller trusts there, and what it shows: flags of every verb that calls one.

use std::path::{Path, PathBuf};

use clap::Args;

use super::rule::call::Service;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::https::Tls;
use crate::service::ADDRESS_DEFAULT;
use crate::tls;

/// Flags that say where a service is and how to come in.
#[derive(Args, Clone, Debug)]
pub(super) struct RemoteArgs {
    /// Address of the service
    #[arg(long, global = true, value_name = "URL", default_value = ADDRESS_DEFAULT, env = "CATCHMENT_SERVICE")]
    service: String,
    /// File with the token: `token` in the service's --state directory, or one with a further token
    #[arg(long, global = true, value_name = "FILE", env = "CATCHMENT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Flags that say whom a caller trusts, and what certificate it shows.
#[derive(Args, Clone, Debug)]
pub(super) struct TrustArgs {
    /// Trust the authorities of this PEM file in place of the system's
    #[arg(long, global = true, value_name = "FILE", env = "CATCHMENT_CA")]
    ca: Option<PathBuf>,
    /// Certificate to show to a service that wants one; a PEM file
    #[arg(long, global = true, value_name = "FILE", env = "CATCHMENT_CERT")]
    cert: Option<PathBuf>,
    /// Key of that certificate; a PEM file
    #[arg(long, global = true, value_name = "FILE", env = "CATCHMENT_KEY")]
    key: Option<PathBuf>,
}

impl RemoteArgs {
    /// The service, with what is shown to it.
    ///
    /// # Errors
    /// `C0101`, `C0102`, `C0650`, `C0651`.
    pub(super) fn service(&self) -> Result<Service> {
        self.with_token_of(self.token_file.as_deref())
    }

    /// The same with the token of this file, if the flags name none.
    pub(super) fn service_with(&self, token_file: &Path) -> Result<Service> {
        self.with_token_of(Some(self.token_file.as_deref().unwrap_or(token_file)))
    }

    fn with_token_of(&self, file: Option<&Path>) -> Result<Service> {
        Ok(Service { url: self.service.clone(), token: token(file)?, tls: self.trust.tls(&self.service)? })
    }
}

impl TrustArgs {
    /// What a TLS client needs to call this address.
    ///
    /// # Errors
    /// `C0101`, `C0650`, `C0651`.
    pub(super) fn tls(&self, url: &str) -> Result<Tls> {
        let is_asked = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        if is_asked && !url.starts_with("https://") {
            return Err(Error::new(codes::USAGE, ErrorKind::Invalid, "the address is not called by TLS").with("url", url).help(
                "begin the address with https://, or leave --ca, --cert and --key out (CATCHMENT_CA, CATCHMENT_CERT, CATCHMENT_KEY)",
            ));
        }
        let own = match (self.cert.as_deref(), self.key.as_deref()) {
            (None, None) if self.ca.is_none() => return Ok(Tls::default()),
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => {
                return Err(Error::new(codes::USAGE, ErrorKind::Invalid, "a certificate and its key go together")
                    .help("say both --cert and --key (CATCHMENT_CERT, CATCHMENT_KEY), or neither"));
            }
        };
        tls::client(self.ca.as_deref(), own)
    }
}

fn token(file: Option<&Path>) -> Result<String> {
    let failed = |why: String| {
        Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the token cannot be read")
            .because(why)
            .help("name the file `token` in the service's --state directory: --token-file, or CATCHMENT_TOKEN_FILE")
    };
    let Some(file) = file else { return Err(failed("no file is named".to_owned())) };
    let text = std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_wants_its_key() {
        let args =
            |cert: Option<&str>, key: Option<&str>| TrustArgs { ca: None, cert: cert.map(PathBuf::from), key: key.map(PathBuf::from) };
        args(None, None).tls("https://h").unwrap();
        assert_eq!(args(Some("c"), Some("k")).tls("http://h").unwrap_err().code, codes::USAGE, "an s was forgotten");
        for (cert, key) in [(Some("c"), None), (None, Some("k"))] {
            assert_eq!(args(cert, key).tls("https://h").unwrap_err().code, codes::USAGE);
        }
        assert_eq!(args(Some("/nonexistent/c"), Some("/nonexistent/k")).tls("https://h").unwrap_err().code, tls::TLS_UNREADABLE);
    }
}
