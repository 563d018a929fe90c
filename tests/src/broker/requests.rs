//! The requests that the broker answers, in the versions of librdkafka 2.12 that the kafka-protocol crate has too.
//!
//! Place in the flow: a [`connection`](super::connection) decodes with it, the parts of the [`cluster`](super::cluster) answer.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FetchRequest,
    FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, decode_request_header_from_buffer};

macro_rules! messages {
    ($($name:ident($request:ty, $response:ty)),* $(,)?) => {
        /// What a client asks.
        #[derive(Clone, Debug)]
        #[allow(clippy::large_enum_variant, reason = "lives for one request")]
        pub enum Asked {
            $(#[doc = concat!("A ", stringify!($name), " request.")] $name($request),)*
        }

        /// What the broker answers.
        #[derive(Clone, Debug)]
        #[allow(clippy::large_enum_variant, reason = "lives for one request")]
        pub enum Reply {
            $(#[doc = concat!("A ", stringify!($name), " response.")] $name($response),)*
        }

        impl Asked {
            /// Which request it is.
            pub fn key(&self) -> ApiKey {
                match self { $(Self::$name(_) => ApiKey::$name,)* }
            }

            fn decode(key: ApiKey, body: &mut Bytes, version: i16) -> Result<Self, String> {
                match key {
                    $(ApiKey::$name => <$request>::decode(body, version).map(Self::$name).map_err(|e| format!("{key:?} v{version}: {e}")),)*
                    _ => Err(format!("{key:?} is not served")),
                }
            }
        }

        impl Reply {
            fn encode_body(&self, to: &mut BytesMut, version: i16) -> Result<(), String> {
                match self { $(Self::$name(reply) => reply.encode(to, version).map_err(|e| format!("{} v{version}: {e}", stringify!($name))),)* }
            }
        }

        $(impl From<$response> for Reply {
            fn from(reply: $response) -> Self {
                Self::$name(reply)
            }
        })*
    };
}

messages! {
    ApiVersions(ApiVersionsRequest, ApiVersionsResponse),
    Metadata(MetadataRequest, MetadataResponse),
    FindCoordinator(FindCoordinatorRequest, FindCoordinatorResponse),
    JoinGroup(JoinGroupRequest, JoinGroupResponse),
    SyncGroup(SyncGroupRequest, SyncGroupResponse),
    Heartbeat(HeartbeatRequest, HeartbeatResponse),
    LeaveGroup(LeaveGroupRequest, LeaveGroupResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse),
    OffsetFetch(OffsetFetchRequest, OffsetFetchResponse),
    OffsetCommit(OffsetCommitRequest, OffsetCommitResponse),
    ListOffsets(ListOffsetsRequest, ListOffsetsResponse),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse),
    Fetch(FetchRequest, FetchResponse),
    SaslHandshake(SaslHandshakeRequest, SaslHandshakeResponse),
    SaslAuthenticate(SaslAuthenticateRequest, SaslAuthenticateResponse),
}

/// The versions that are offered. Produce is not served; librdkafka derives from its versions which batch formats a broker has.
pub const OFFERED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 16),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 2),
    (ApiKey::JoinGroup, 0, 5),
    (ApiKey::Heartbeat, 0, 3),
    (ApiKey::LeaveGroup, 0, 1),
    (ApiKey::SyncGroup, 0, 3),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::OffsetForLeaderEpoch, 2, 3),
    (ApiKey::SaslAuthenticate, 0, 1),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
];

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// What it asks.
    pub asked: Asked,
    /// In which version.
    pub version: i16,
    correlation: i32,
}

impl Received {
    /// Decodes a frame.
    ///
    /// # Errors
    /// If the request is not served, or not what its version says.
    pub fn decode(mut frame: Bytes) -> Result<Self, String> {
        let header = decode_request_header_from_buffer(&mut frame).map_err(|e| format!("request header: {e}"))?;
        let key = ApiKey::try_from(header.request_api_key).map_err(|()| format!("API {}", header.request_api_key))?;
        let version = header.request_api_version;
        let asked = Asked::decode(key, &mut frame, version)?;
        Ok(Self { asked, version, correlation: header.correlation_id })
    }

    /// Encodes the answer, with its length in front.
    ///
    /// # Errors
    /// If a field is set that this version does not have.
    pub fn encode(&self, reply: &Reply) -> Result<Bytes, String> {
        let mut body = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut body, self.asked.key().response_header_version(self.version)).map_err(|e| format!("response header: {e}"))?;
        reply.encode_body(&mut body, self.version)?;
        let mut frame = BytesMut::with_capacity(body.len() + 4);
        frame.extend_from_slice(&u32::try_from(body.len()).map_err(|e| e.to_string())?.to_be_bytes());
        frame.extend_from_slice(&body);
        Ok(frame.freeze())
    }
}
