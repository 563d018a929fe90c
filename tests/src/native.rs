//! What rdkafka's safe interface cannot say: header names that are not UTF-8, and a timestamp of -1.
//!
//! Kafka's protocol carries header names as bytes in practice and any `i64` as a timestamp; the crate panics on such a name and
//! reports -1 as "no timestamp". The harness must produce and read both, so this file calls librdkafka itself. It is the
//! only file of the harness with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::{ptr, slice};

use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::generate::Record;

/// Why librdkafka did not take a record.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Its queue is full; poll and try again.
    QueueFull,
    /// Anything else.
    Other(String),
}

/// Queues one record, copied. Its delivery report carries `ticket`.
pub(crate) fn produce<C: ProducerContext<DeliveryOpaque = usize>>(
    producer: &BaseProducer<C>,
    topic: &str,
    partition: i32,
    record: &Record,
    ticket: usize,
) -> Result<(), Refusal> {
    let topic = CString::new(topic).expect("a topic's name has no NUL");
    let memory = |bytes: Option<&Vec<u8>>| sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        // An empty vector's pointer is not null, which is what tells empty from null.
        ptr: bytes.map_or(ptr::null_mut(), |b| b.as_ptr().cast_mut().cast::<c_void>()),
        size: bytes.map_or(0, Vec::len),
    };
    let headers = native_headers(&record.headers);
    use sys::rd_kafka_vtype_t as kind;
    let unit = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
    let copy = sys::RD_KAFKA_MSG_F_COPY;
    let units = [
        unit(kind::RD_KAFKA_VTYPE_TOPIC, sys::rd_kafka_vu_s__bindgen_ty_1 { cstr: topic.as_ptr() }),
        unit(kind::RD_KAFKA_VTYPE_PARTITION, sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: partition }),
        unit(kind::RD_KAFKA_VTYPE_MSGFLAGS, sys::rd_kafka_vu_s__bindgen_ty_1 { i: copy }),
        unit(kind::RD_KAFKA_VTYPE_VALUE, sys::rd_kafka_vu_s__bindgen_ty_1 { mem: memory(record.value.as_ref()) }),
        unit(kind::RD_KAFKA_VTYPE_KEY, sys::rd_kafka_vu_s__bindgen_ty_1 { mem: memory(record.key.as_ref()) }),
        unit(kind::RD_KAFKA_VTYPE_TIMESTAMP, sys::rd_kafka_vu_s__bindgen_ty_1 { i64_: record.timestamp }),
        unit(kind::RD_KAFKA_VTYPE_HEADERS, sys::rd_kafka_vu_s__bindgen_ty_1 { headers }),
        // A number in the place of a pointer: nobody follows it.
        unit(kind::RD_KAFKA_VTYPE_OPAQUE, sys::rd_kafka_vu_s__bindgen_ty_1 { ptr: ptr::without_provenance_mut(ticket) }),
    ];
    // SAFETY: the client lives as long as `producer`; every unit holds what its type says, and the bytes they point to live until
    // the call returns, by when librdkafka has copied them (MSG_F_COPY). It takes the headers only when it succeeds.
    unsafe {
        let error = sys::rd_kafka_produceva(producer.client().native_ptr(), units.as_ptr(), units.len());
        if error.is_null() {
            return Ok(());
        }
        sys::rd_kafka_headers_destroy(headers);
        let code = sys::rd_kafka_error_code(error);
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        sys::rd_kafka_error_destroy(error);
        Err(if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL { Refusal::QueueFull } else { Refusal::Other(text) })
    }
}

fn native_headers(list: &[(Vec<u8>, Option<Vec<u8>>)]) -> *mut sys::rd_kafka_headers_t {
    let len = |n: usize| isize::try_from(n).expect("a length fits");
    // SAFETY: `add` copies name and value, both of the lengths given; a null value stands for a null header value.
    unsafe {
        let headers = sys::rd_kafka_headers_new(list.len());
        for (name, value) in list {
            let at = value.as_ref().map_or(ptr::null(), |v| v.as_ptr().cast::<c_void>());
            let err = sys::rd_kafka_header_add(
                headers,
                name.as_ptr().cast::<c_char>(),
                len(name.len()),
                at,
                value.as_ref().map_or(0, |v| len(v.len())),
            );
            assert!(err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "librdkafka refused a header");
        }
        headers
    }
}

/// A message's headers as bytes, in order, duplicates included.
pub(crate) fn headers(message: &BorrowedMessage<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut list = Vec::new();
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives as long as the borrow; header pointers are the message's own and are copied before it ends.
    unsafe {
        if sys::rd_kafka_message_headers(message.ptr(), &mut headers) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return list;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        while sys::rd_kafka_header_get_all(headers, list.len(), &mut name, &mut value, &mut size)
            == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let bytes = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            list.push((CStr::from_ptr(name).to_bytes().to_vec(), bytes));
        }
    }
    list
}

/// A message's timestamp in milliseconds and its type: 0 create, 1 append, -1 none.
pub(crate) fn timestamp(message: &BorrowedMessage<'_>) -> (i64, i8) {
    use sys::rd_kafka_timestamp_type_t as kind;
    let mut of = kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message lives as long as the borrow.
    let at = unsafe { sys::rd_kafka_message_timestamp(message.ptr(), &mut of) };
    match of {
        kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => (at, 0),
        kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => (at, 1),
        kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (-1, -1),
    }
}
