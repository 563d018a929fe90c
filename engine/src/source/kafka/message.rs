//! What librdkafka's messages say: bytes, headers, and errors as faults of a queue.
//!
//! Audited unsafe, with [`queue`](super::queue), which owns the messages and keeps them alive while something here looks at them.
#![expect(unsafe_code, reason = "reads messages through the C API; each block says why it holds")]

use std::ffi::{CStr, c_void};
use std::ptr;
use std::slice;

use catchment_formats::{HeadersBuf, RecordView};
use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode as K;

use crate::source::{LastRead, QueueEvent, QueueFault};

use super::native;

/// The version whose layout of a header [`header_name`] knows.
const HEADER_LAYOUT_VERSION: i32 = 0x020c_01ff;

/// Whether a record looks like a message of format 0 or 1 that was read by the rules of a flexible Fetch response (version 12 and later).
///
/// librdkafka 2.5 to 2.15 does that: it takes the first zero byte of the key's length for a null key, the next one for a null value, and goes on
/// at a wrong byte, so that the rest of the response is lost. Only these formats have no leader epoch. A record that truly has neither key
/// nor value in an old format, of a broker before 2.7, looks the same.
pub(super) fn is_misread(record: &RecordView<'_>, leader_epoch: i32) -> bool {
    leader_epoch < 0 && record.key.is_none() && record.value.is_none() && record.headers.as_bytes().is_empty()
}

/// Bytes that may be null.
///
/// # Safety
/// `data` is null or points to `len` bytes that live for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by this function's contract.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// Appends a message's headers; false if they cannot be parsed.
pub(super) fn push_headers(message: *const sys::rd_kafka_message_t, into: &mut HeadersBuf) -> bool {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is live; the list stays owned by it.
    match K::from(unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) }) {
        K::NoError => {}
        K::NoEnt => return true,
        _ => return false,
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is live; past its end the call fails.
        let found = unsafe { sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if K::from(found) != K::NoError {
            break;
        }
        // SAFETY: name and value were just given for a live header; the value is null or has `size` bytes.
        unsafe { into.push(header_name(name, value, size), bytes(value, size)) };
    }
    true
}

/// A header's name, which may hold any bytes.
///
/// The API gives a C string, and a name with a zero byte would come out cut short. The header's struct holds the length:
/// `{size_t ser_size, value_size, name_size; char *value; char name[]}` in the version that is bundled. With any other version, or
/// where the neighbouring fields are not what they must be, the name ends at its first zero.
///
/// # Safety
/// `name`, `value` and `size` came from one `rd_kafka_header_get_all` call on a live list.
unsafe fn header_name<'a>(name: *const std::ffi::c_char, value: *const c_void, size: usize) -> &'a [u8] {
    // SAFETY: in this version four words precede the name within its allocation; the strings are NUL-terminated.
    unsafe {
        if sys::rd_kafka_version() == HEADER_LAYOUT_VERSION {
            let fields = name.cast::<usize>();
            let (value_size, name_size, value_at) =
                (fields.sub(3).read_unaligned(), fields.sub(2).read_unaligned(), fields.sub(1).read_unaligned());
            if value_size == size && value_at == value as usize {
                return slice::from_raw_parts(name.cast(), name_size);
            }
        }
        CStr::from_ptr(name).to_bytes()
    }
}

/// What an error on the queue means for the lane.
pub(super) fn event_of_error<'a>(message: *const sys::rd_kafka_message_t, code: K, offset: i64) -> QueueEvent<'a> {
    if code == K::PartitionEOF {
        return QueueEvent::End(offset);
    }
    // SAFETY: the message is live; its text is null or NUL-terminated.
    let text = unsafe {
        let text = sys::rd_kafka_message_errstr(message);
        if text.is_null() { code.to_string() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    QueueEvent::Fault(fault_of(code, text))
}

/// The broker's answer to a question about the position's epoch stands in the text alone: `broker end offset is N (offset leader epoch E)`.
fn truncated(cause: String) -> QueueFault {
    let number = |text: &str| -> Option<i64> { text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok() };
    let cut = cause.split_once("broker end offset is ").and_then(|(_, rest)| {
        let epoch = rest.split_once("leader epoch ").and_then(|(_, rest)| i32::try_from(number(rest)?).ok());
        Some(LastRead { end: number(rest)?, epoch: epoch.unwrap_or(-1) })
    });
    QueueFault::Truncated { cause, cut }
}

fn fault_of(code: K, text: String) -> QueueFault {
    match code {
        // With the policy `error`, librdkafka wraps the reason of a reset in this one; its text names it.
        K::AutoOffsetReset if text.contains(&native::text_of(K::LogTruncation)) => truncated(text),
        K::AutoOffsetReset if text.contains(&native::text_of(K::OffsetOutOfRange)) => QueueFault::OutOfRange(text),
        K::OffsetOutOfRange => QueueFault::OutOfRange(text),
        K::LogTruncation => truncated(text),
        // NotImplemented: a message format, or a codec, that does not exist.
        K::BadMessage | K::BadCompression | K::InvalidMessage | K::Underflow | K::NotImplemented | K::UnsupportedCompressionType => {
            QueueFault::Corrupt(text)
        }
        K::TopicAuthorizationFailed | K::ClusterAuthorizationFailed => QueueFault::Denied(text),
        K::UnknownTopic | K::UnknownPartition | K::UnknownTopicOrPartition | K::UnknownTopicId => QueueFault::Gone(text),
        _ => QueueFault::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use catchment_formats::TimestampType;

    use super::*;

    #[test]
    fn the_header_layout_is_that_of_the_bundled_version() {
        // SAFETY: takes nothing.
        assert_eq!(unsafe { sys::rd_kafka_version() }, HEADER_LAYOUT_VERSION, "check rd_kafka_header_t before raising the version");
    }

    #[test]
    fn header_names_keep_zero_bytes() {
        // SAFETY: the list is ours, names and values are as long as said, and it is destroyed once.
        unsafe {
            let list = sys::rd_kafka_headers_new(2);
            for (name, value) in [(&b"a\0b"[..], Some(&b"v"[..])), (b"\xff", None), (b"", Some(b"")), (b"n", None)] {
                let (data, size) = value.map_or((ptr::null(), -1), |v| (v.as_ptr().cast(), v.len() as isize));
                let _ = sys::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, data, size);
            }
            let mut seen = Vec::new();
            for index in 0..4 {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size);
                seen.push((header_name(name, value, size).to_vec(), bytes(value, size).map(<[u8]>::to_vec)));
            }
            sys::rd_kafka_headers_destroy(list);
            assert_eq!(seen[0], (b"a\0b".to_vec(), Some(b"v".to_vec())));
            assert_eq!(seen[1], (b"\xff".to_vec(), None));
            assert_eq!(seen[3], (b"n".to_vec(), None));
        }
    }

    #[test]
    fn a_record_without_anything_is_a_misread_message_of_an_old_format() {
        let record = |key, value| RecordView {
            offset: 1,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key,
            value,
            headers: catchment_formats::HeadersView::default(),
        };
        assert!(is_misread(&record(None, None), -1));
        assert!(!is_misread(&record(None, None), 0), "a tombstone without a key, in the format of today");
        assert!(!is_misread(&record(Some(&b""[..]), None), -1) && !is_misread(&record(None, Some(&b""[..])), -1));
    }

    #[test]
    fn errors_become_faults() {
        let reset = |text: &str| fault_of(K::AutoOffsetReset, text.to_owned());
        let out_of_range = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range (broker 1)";
        assert!(matches!(reset(out_of_range), QueueFault::OutOfRange(_)));
        let truncated = "Partition log truncation detected at offset 500 (leader epoch 0): broker end offset is 10 \
                         (offset leader epoch 0). Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
        assert!(matches!(reset(truncated), QueueFault::Truncated { cut: Some(LastRead { end: 10, epoch: 0 }), .. }));
        assert!(matches!(reset("no previously committed offset available: Local: No offset stored"), QueueFault::Other(_)));
        assert!(matches!(fault_of(K::BadMessage, String::new()), QueueFault::Corrupt(_)));
        assert!(matches!(fault_of(K::TopicAuthorizationFailed, String::new()), QueueFault::Denied(_)));
        assert!(matches!(fault_of(K::UnknownPartition, String::new()), QueueFault::Gone(_)));
        assert!(matches!(fault_of(K::KafkaStorageError, String::new()), QueueFault::Other(_)));
    }
}
