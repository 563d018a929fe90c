//! From an HTTP answer, or the lack of one, to what became of the request (commit.md, step 5).

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::StoreErrorKind;
use crate::store::errors::PARTS_DIFFER;

/// What became of a request that was answered with this status and error code.
///
/// A status of 200 with an error code is an error in the body of a Complete that had been answered early.
pub(super) fn classify(status: u16, code: &str) -> StoreErrorKind {
    use StoreErrorKind::{Conflict, Denied, Exists, Invalid, NoSuchUpload, NotFound, Unknown};
    match (status, code) {
        // In the body of a 200 only a code that is final by itself may say more than "unknown".
        (_, "PreconditionFailed" | "FileAlreadyExists" | "ObjectAlreadyExists") => Exists,
        (_, "NoSuchUpload" | "InvalidPart") => NoSuchUpload,
        (_, "NoSuchBucket" | "NoSuchKey") => NotFound,
        (_, "ConditionalRequestConflict" | "OperationAborted") => Conflict,
        // Sent with 400 or 403, and always about credentials, not about the request.
        (
            _,
            "AccessDenied"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "AuthorizationHeaderMalformed",
        ) => Denied,
        // Somebody can mend these without another request: a key of the bucket's encryption that is disabled, and a bucket or account that is full.
        (_, code) if code.starts_with("KMS.") || code.contains("QuotaExceeded") => Denied,
        // Not stored because bytes were lost or changed on their way: the same request may succeed, so it is asked and repeated
        // like any other whose fate is open.
        (
            _,
            "RequestTimeout" | "SlowDown" | "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch",
        ) => Unknown,
        // The same, where a service tells it in the body of a 200: repeating it would never end.
        (_, "EntityTooSmall" | "EntityTooLarge" | "InvalidPartOrder" | "MalformedXML" | "InvalidArgument" | "InvalidRequest") => Invalid,
        (412, _) => Exists,
        (401 | 403, _) => Denied,
        (404, _) => NotFound,
        // A service that sends its clients elsewhere for the moment, as AWS does while a new bucket becomes known.
        (307 | 408 | 429, _) => Unknown,
        // The service knows that it cannot do this; asking again would never end.
        (501 | 505, _) => Invalid,
        (300..=499, _) => Invalid,
        _ => Unknown,
    }
}

/// A failed exchange: what became of it, the HTTP status (0: none), and a line for the operator.
pub(super) fn describe<E>(error: &SdkError<E, HttpResponse>) -> (StoreErrorKind, u16, String)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    match error {
        SdkError::ServiceError(service) => {
            let meta = service.err();
            let code = meta.code().unwrap_or_default();
            let message = meta.message().unwrap_or_default();
            let detail = format!("HTTP {status} {code} {message}");
            let kind = match classify(status, code) {
                _ if code.is_empty() && status < 300 => StoreErrorKind::Unknown,
                // R2 on parts of several sizes. None is missing, and an upload of the same parts would be refused again, without end.
                StoreErrorKind::NoSuchUpload if message.contains(PARTS_DIFFER) => StoreErrorKind::Invalid,
                kind => kind,
            };
            (kind, status, detail.trim_end().to_owned())
        }
        SdkError::ConstructionFailure(_) => (not_sent(error), 0, cause(error)),
        SdkError::DispatchFailure(_) if lacks_credentials(error) => (StoreErrorKind::Denied, 0, cause(error)),
        _ if status >= 300 => (classify(status, ""), status, format!("HTTP {status}: {}", cause(error))),
        _ => (StoreErrorKind::Unknown, status, cause(error)),
    }
}

fn not_sent(error: &(dyn std::error::Error + 'static)) -> StoreErrorKind {
    if lacks_credentials(error) { StoreErrorKind::Denied } else { StoreErrorKind::Invalid }
}

fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.is::<CredentialsError>())
}

/// The chain of causes in one line, from the credentials' own error on if it is about them, and without the debug dumps that
/// the SDK puts into some of them.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = |from| std::iter::successors(Some(from), |e: &&(dyn std::error::Error + 'static)| e.source());
    let about_credentials = chain(error).find(|e| e.is::<CredentialsError>());
    let text = chain(about_credentials.unwrap_or(error)).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let end = text.find(" (CredentialsNotLoaded").unwrap_or(text.len());
    text[..end].lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind::{Conflict, Denied, Exists, Invalid, NoSuchUpload, NotFound, Unknown};

    #[test]
    fn outcomes_are_as_the_protocol_says() {
        let cases = [
            (412, "PreconditionFailed", Exists),
            (412, "", Exists),
            (409, "FileAlreadyExists", Exists),
            (409, "ObjectAlreadyExists", Exists),
            (200, "FileAlreadyExists", Exists),
            (409, "ConditionalRequestConflict", Conflict),
            (409, "OperationAborted", Conflict),
            (409, "BucketNotEmpty", Invalid),
            (404, "NoSuchUpload", NoSuchUpload),
            (400, "InvalidPart", NoSuchUpload),
            (200, "InvalidPart", NoSuchUpload),
            (400, "InvalidPartOrder", Invalid),
            (400, "EntityTooSmall", Invalid),
            (200, "EntityTooSmall", Invalid),
            (404, "NoSuchBucket", NotFound),
            (404, "NoSuchKey", NotFound),
            (401, "", Denied),
            (403, "", Denied),
            (403, "AccessDenied", Denied),
            (403, "PathStyleDomainForbidden", Denied),
            (400, "ExpiredToken", Denied),
            (403, "RequestTimeTooSkewed", Denied),
            (403, "SignatureDoesNotMatch", Denied),
            (403, "InvalidAccessKeyId", Denied),
            (400, "RequestTimeout", Unknown),
            (408, "", Unknown),
            (429, "", Unknown),
            (500, "InternalError", Unknown),
            (502, "", Unknown),
            (503, "SlowDown", Unknown),
            (504, "", Unknown),
            (520, "", Unknown),
            (200, "InternalError", Unknown),
            (200, "SomethingNew", Unknown),
            (400, "BadDigest", Unknown),
            (501, "NotImplemented", Invalid),
            (400, "InvalidArgument", Invalid),
            (301, "PermanentRedirect", Invalid),
            (307, "TemporaryRedirect", Unknown),
            (400, "KMS.DisabledException", Denied),
            (400, "KMS.NotFoundException", Denied),
            (400, "XMinioAdminBucketQuotaExceeded", Denied),
            (403, "QuotaExceeded", Denied),
            (416, "InvalidRange", Invalid),
        ];
        for (status, code, kind) in cases {
            assert_eq!(classify(status, code), kind, "{status} {code}");
        }
    }
}
