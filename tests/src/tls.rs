//! TLS for tests: throw-away certificates of `tests/services/certs.sh`, and a client that trusts whom it is told to and shows what it is told to.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority, and what it has signed; and a rogue one.
#[derive(Debug)]
pub struct Certificates {
    dir: tempfile::TempDir,
}

/// A connection over TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Certificates {
    /// New ones.
    ///
    /// # Panics
    /// If openssl does not make them.
    pub fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("services/certs.sh");
        let out = Command::new("bash").arg(script).arg(dir.path().join("certs")).output().expect("bash runs");
        assert!(out.status.success(), "no certificates: {}", String::from_utf8_lossy(&out.stderr));
        Self { dir }
    }

    /// `ca`, `server`, `client`, `rogue`, `rogue-ca` with `.pem` or `.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("certs").join(name)
    }

    /// The same as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.file(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// A certificate for the server's key that expired yesterday.
    ///
    /// # Panics
    /// If openssl does not make it.
    pub fn expired(&self) -> String {
        let (expired, extensions) = (self.arg("expired.pem"), self.arg("expired.ext"));
        std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\n").expect("a file");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-days", "-1", "-CAcreateserial", "-in"]).arg(self.file("server.csr"));
        openssl.arg("-CA").arg(self.file("ca.pem")).arg("-CAkey").arg(self.file("ca.key"));
        openssl.args(["-extfile", &extensions, "-out", &expired]);
        let out = openssl.output().expect("openssl runs");
        assert!(out.status.success(), "no certificate: {}", String::from_utf8_lossy(&out.stderr));
        expired
    }
}

/// Connects to an `https://` address as somebody who trusts `ca` and shows a certificate with its key. The handshake comes with the first bytes.
///
/// # Errors
/// If nobody listens.
///
/// # Panics
/// If the files are none.
pub fn connect(address: &str, ca: &Path, own: Option<(&Path, &Path)>) -> std::io::Result<TlsStream> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("a file") {
        roots.add(certificate.expect("a certificate")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).expect("a file").collect::<Result<Vec<_>, _>>().expect("certificates");
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).expect("a key")).expect("a pair")
        }
    };
    let stream = TcpStream::connect(address.strip_prefix("https://").expect("TLS"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream))
}

/// Sends a request, such as `GET /livez`, and returns all that is answered; an error if TLS fails.
///
/// # Errors
/// If the connection or its handshake fails before anything is answered.
pub fn ask(mut stream: TlsStream, line: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<String> {
    send(&mut stream, line, headers, body)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // An end without a farewell is one behind a whole answer.
        Err(e) if answer.is_empty() => Err(e),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Sends a request. Its answer is still to be read.
///
/// # Errors
/// If the connection or its handshake fails.
pub fn send(stream: &mut TlsStream, line: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())?;
    stream.flush()
}
