//! The token that every call must show: `Authorization: Bearer TOKEN`.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Service;
use super::problem::Problem;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::service::web;

/// The token cannot be read or made.
pub(super) const TOKEN_FAILED: Code = Code(605);
/// A call without the token.
pub(super) const TOKEN_WANTED: Code = Code(606);

/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;

/// Text that nobody can guess.
pub(in crate::service) fn secret() -> std::io::Result<String> {
    let mut chance = [0; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A token. Its `Debug` does not show it.
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token of a file, which is made if it is not there; only its owner may read it.
    ///
    /// # Errors
    /// `C0605`.
    pub fn of_file(file: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::new(TOKEN_FAILED, ErrorKind::Invalid, "the token cannot be read or made")
                .with("file", file.display())
                .because(e)
                .help("check the permissions of the directory given by --state")
        };
        match std::fs::read_to_string(file) {
            Ok(text) if !text.trim().is_empty() => return Ok(Self(text.trim().to_owned())),
            Ok(_) => return Err(failed(std::io::Error::other("it is empty"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let token = secret().map_err(failed)?;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        made.and_then(|mut file| writeln!(file, "{token}").and_then(|()| file.sync_all())).map_err(failed)?;
        Ok(Self(token))
    }

    /// Whether this is it, also around spaces. Takes as long for any text of its length.
    pub(in crate::service) fn is(&self, text: &str) -> bool {
        let text = text.trim();
        let difference = self.0.bytes().zip(text.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        text.len() == self.0.len() && difference == 0
    }
}

/// Lets a call through that shows the token.
pub(super) async fn check(State(service): State<Service>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| service.token.is(shown)) {
        return next.run(request).await;
    }
    // The right token is always heard: nobody can lock out who has it.
    let address = web::address_of(&request);
    if service.attempts.are_spent(address) {
        return ([(RETRY_AFTER, "60")], Problem::from(web::too_many())).into_response();
    }
    if shown.is_some() {
        service.attempts.failed_again(address);
    }
    let error = Error::new(TOKEN_WANTED, ErrorKind::Denied, "this call needs the token")
        .help("send the text of the file `token` in the service's --state directory as Authorization: Bearer");
    let problem = Problem::from(error).with_status(StatusCode::UNAUTHORIZED);
    ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let made = Token::of_file(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(made.0.len(), 2 * TOKEN_BYTES);
        assert!(Token::of_file(&file).unwrap().is(&made.0));
        assert!(!made.is("") && !made.is(&made.0[1..]) && !made.is(&"0".repeat(made.0.len())));
        assert!(!format!("{made:?}").contains(&made.0));
    }

    #[test]
    fn an_empty_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(Token::of_file(&file).unwrap_err().code, TOKEN_FAILED);
    }
}
