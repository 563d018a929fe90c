//! The errors of stores as the operator reads them.

use super::file::OF_FILES;
use super::{StoreError, StoreErrorKind};
use crate::error::{Code, Error, ErrorKind};

/// What an answer says that refuses an upload because its parts are not of one size.
pub(super) const PARTS_DIFFER: &str = "must have the same length";

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        let (code, kind, message) = match e.kind {
            StoreErrorKind::Denied => (Code(301), ErrorKind::Denied, "the store refuses access"),
            StoreErrorKind::NotFound => (Code(302), ErrorKind::NotFound, "the store has no such bucket or object"),
            StoreErrorKind::Unknown => (Code(303), ErrorKind::Unreachable, "the store does not answer"),
            StoreErrorKind::Invalid => (Code(304), ErrorKind::Invalid, "the store refuses the request"),
            StoreErrorKind::Exists | StoreErrorKind::Conflict => (Code(305), ErrorKind::Fenced, "the key is taken"),
            StoreErrorKind::NoSuchUpload => (Code(306), ErrorKind::Retryable, "the multipart upload is gone"),
        };
        let error = Self::new(code, kind, message).with("operation", e.op).with("key", &e.key).with("attempts", e.attempts);
        error.because(&e.detail).help(help(&e))
    }
}

fn help(e: &StoreError) -> String {
    match (e.kind, e.detail.strip_prefix(OF_FILES)) {
        (StoreErrorKind::Exists | StoreErrorKind::Conflict, _) => "look at the object: `catchment show` tells whose it is".into(),
        (StoreErrorKind::NoSuchUpload, _) => "nothing to do: the range is published again by a new upload".into(),
        (kind, Some(cause)) => help_with_files(kind, cause).into(),
        (_, None) => help_with_a_service(e),
    }
}

fn help_with_files(kind: StoreErrorKind, cause: &str) -> &'static str {
    let is = |error: nix::errno::Errno| cause.contains(&format!("(os error {})", error as i32));
    use nix::errno::Errno::{EDQUOT, ENOSPC, EROFS};
    match kind {
        _ if is(ENOSPC) || is(EDQUOT) => "free some space in that file system, or raise the quota; it is tried again",
        _ if is(EROFS) => "mount the file system for writing, or choose another directory",
        StoreErrorKind::Denied => "let this user read and write the directory and what is below it, or choose another one",
        StoreErrorKind::Invalid if cause.contains("hard link") => {
            "choose a directory in a file system that has hard links (ext4, xfs, btrfs): they keep files from being overwritten"
        }
        StoreErrorKind::Unknown => "check the disk and its mount; the system's log may say more",
        _ => "correct what the cause names",
    }
}

fn help_with_a_service(e: &StoreError) -> String {
    let says = |word: &str| e.detail.contains(word);
    match e.kind {
        StoreErrorKind::Denied if e.detail.starts_with("HTTP") && says("PathStyle") => {
            "the service wants virtual-hosted addresses: add style=virtual".into()
        }
        StoreErrorKind::Denied if says("Skewed") => "set this machine's clock".into(),
        StoreErrorKind::Denied if says("AuthorizationHeaderMalformed") => {
            "the region is not the bucket's: correct region= in the address".into()
        }
        StoreErrorKind::Denied if says("KMS.") => {
            "enable the key that the bucket is encrypted with, and grant kms:GenerateDataKey and kms:Decrypt on it".into()
        }
        StoreErrorKind::Denied if says("QuotaExceeded") => "raise the quota of the bucket or account, or make room in it".into(),
        StoreErrorKind::Denied if e.detail.starts_with("HTTP") => {
            format!("grant {} on this prefix to the credentials in use, or renew them", e.op)
        }
        StoreErrorKind::Denied if says("C0109") => "make the secret of the config readable again; it is asked for with each attempt".into(),
        StoreErrorKind::Denied => "no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or \
                                   TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"
            .into(),
        StoreErrorKind::NotFound => "create the bucket, or correct its name and region in the address".into(),
        StoreErrorKind::Unknown if says("HTTP 307") => {
            "a new bucket is known everywhere after some hours; else correct the endpoint or region= in the address".into()
        }
        StoreErrorKind::Unknown => "check that the endpoint is right and answers from this machine".into(),
        StoreErrorKind::Invalid if says("HTTP 301") => "the region is not the bucket's: correct region= in the address".into(),
        StoreErrorKind::Invalid if says(PARTS_DIFFER) => {
            "the service wants parts of one size: add parts=equal to the address; what is pinned is then written again".into()
        }
        StoreErrorKind::Invalid if says("Object Lock") => {
            "the bucket has object lock: add checksum=md5 to the address, not checksum=none".into()
        }
        StoreErrorKind::Invalid if says("NotImplemented") => "the service lacks this: try guard=none or checksum=md5 in the address".into(),
        _ => "correct what the cause names".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: StoreErrorKind, detail: &str) -> String {
        Error::from(StoreError::new(kind, "PutObject", "k", detail)).help.unwrap()
    }

    #[test]
    fn files_are_helped_with_files_and_services_with_services() {
        use StoreErrorKind::{Denied, Invalid, NotFound, Unknown};
        for (kind, detail, part) in [
            (Denied, "file system: Permission denied (os error 13)", "let this user"),
            (Unknown, "file system: No space left on device (os error 28)", "free some space"),
            (Unknown, "file system: Disk quota exceeded (os error 122)", "free some space"),
            (Denied, "file system: Read-only file system (os error 30)", "mount the file system for writing"),
            (Invalid, "file system: it has no hard links: Operation not permitted (os error 1)", "hard links"),
            (Unknown, "file system: Input/output error (os error 5)", "check the disk"),
            (Denied, "HTTP 403 AccessDenied", "grant PutObject"),
            (Denied, "HTTP 403 PathStyleDomainForbidden", "style=virtual"),
            (Denied, "HTTP 403 RequestTimeTooSkewed", "clock"),
            (Denied, "HTTP 400 KMS.DisabledException", "kms:GenerateDataKey"),
            (Denied, "HTTP 400 XMinioAdminBucketQuotaExceeded", "quota"),
            (Unknown, "HTTP 307 TemporaryRedirect", "endpoint or region="),
            (Denied, "no providers in chain provided credentials", "AWS_ACCESS_KEY_ID"),
            (Denied, "C0109: cannot take secret_access_key from a file", "secret of the config"),
            (Invalid, "HTTP 301 PermanentRedirect", "region="),
            (Invalid, "HTTP 501 NotImplemented", "guard=none"),
            (Invalid, "HTTP 400 InvalidPart All non-trailing parts must have the same length.", "parts=equal"),
            (
                Invalid,
                "HTTP 400 InvalidRequest Content-MD5 is required for Put Object requests with Object Lock parameters",
                "checksum=md5",
            ),
            (Unknown, "tcp connect error: Connection refused (os error 111)", "endpoint"),
            (NotFound, "HTTP 404 NoSuchBucket", "create the bucket"),
        ] {
            let help = shown(kind, detail);
            assert!(help.contains(part), "{detail}: {help}");
            assert!(!(detail.starts_with("file") && help.contains("credentials")), "{detail}: {help}");
        }
    }
}
