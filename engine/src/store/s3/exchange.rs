//! One request's additions and what its answer says beside the body: the hooks into the SDK's pipeline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat, SdkBody};

use super::body::TrimStart;
use crate::store::Metadata;

/// How COS names user metadata when it does not translate the name back.
const COS_METADATA: &str = "x-cos-meta-";

/// What an answer's headers said.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The HTTP status; 0 if no answer came.
    pub status: u16,
    /// The service's clock, since 1970.
    pub date: Option<Duration>,
    /// `x-cos-hash-crc64ecma`: CRC-64/XZ of the object or part.
    pub cos_crc64: Option<u64>,
    /// User metadata under COS's own names.
    pub cos_metadata: Metadata,
}

/// The hooks of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    headers: Vec<(&'static str, &'static str)>,
    payload: Option<PayloadSigningOverride>,
    trim_body: bool,
    seen: Arc<Mutex<Seen>>,
}

impl Exchange {
    /// Adds a header, which the signature covers.
    pub(super) fn header(mut self, header: Option<(&'static str, &'static str)>) -> Self {
        self.headers.extend(header);
        self
    }

    /// Signs this body hash instead of leaving the body out of the signature.
    pub(super) fn signed_payload(mut self, sha256: Option<String>) -> Self {
        self.payload = sha256.map(PayloadSigningOverride::Precomputed);
        self
    }

    /// Drops white space before the answer's body.
    pub(super) fn trimmed(mut self) -> Self {
        self.trim_body = true;
        self
    }

    /// What the answer's headers said.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "Exchange"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        for (name, value) in &self.headers {
            context.request_mut().headers_mut().insert(*name, *value);
        }
        if let Some(payload) = &self.payload {
            cfg.interceptor_state().store_put(payload.clone());
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.trim_body {
            let body = std::mem::replace(context.response_mut().body_mut(), SdkBody::taken());
            *context.response_mut().body_mut() = TrimStart::wrap(body);
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let headers = response.headers();
        let date = headers.get("date").and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        let cos_metadata = headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(COS_METADATA)?.to_owned(), value.to_owned())));
        let seen = Seen {
            status: response.status().as_u16(),
            date: date.and_then(|d| u64::try_from(d.secs()).ok()).map(Duration::from_secs),
            cos_crc64: headers.get("x-cos-hash-crc64ecma").and_then(|text| text.parse().ok()),
            cos_metadata: cos_metadata.collect(),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(())
    }
}
