//! The physical floor: the least work that any implementation must do on the same records, in one thread.
//!
//! Receive the bytes from a loopback socket, CRC32C them, copy each value once into a page, zstd at level 1, CRC and send the
//! compressed page (or, for raw, the page itself) to a loopback socket. The threads at the other ends of the sockets do not count.
//!
//! Its place: the denominator of every ratio. So that it hides nothing, its parts are measured alone, too ([`Floor::parts`]): each on buffers that are
//! as full and as warm as in the middle of a batch, and together they must come near the whole ([`Floored::to_parts`]).
//!
//! What it does not do: it knows no Kafka, no offsets and no columns, and promises nothing.
#![expect(unsafe_code, reason = "the CPU time of one thread has no safe call")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use catchment_loadtest::Records;
use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Serialize};

use crate::GIB;

/// Bytes of values in a page, and about in a batch.
const PAGE_BYTES: usize = 1 << 20;

/// Batches that are sent round and round. More than the caches hold.
const BATCHES: u64 = 32;

/// Bytes of values that are measured.
const MEASURED_BYTES: u64 = 1 << 30;

/// CPU time of the calling thread so far.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU seconds per GiB of values of the floor's parts, each alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Parts {
    /// zstd at level 1 of a page; nothing for raw.
    pub compression: f64,
    /// Receiving a batch and sending a page as large as what comes out of it.
    pub loopback: f64,
    /// The checksum of a batch, one copy of each value, the checksum of what comes out.
    pub copies: f64,
}

impl Parts {
    /// What the parts take together.
    pub fn sum(&self) -> f64 {
        self.compression + self.loopback + self.copies
    }
}

/// What the floor takes, and its parts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Floored {
    /// CPU seconds per GiB of values.
    pub cpu_s_per_gib: f64,
    /// The same of its parts.
    pub parts: Parts,
}

impl Floored {
    /// The whole by the sum of its parts. Far above 1 it does more than they say, far below one of them takes too long.
    pub fn to_parts(&self) -> f64 {
        self.cpu_s_per_gib / self.parts.sum()
    }
}

/// A batch as it comes from the socket, and what it holds.
struct Batch {
    /// `u32 length of the rest | u32 crc | (u32 length | value)*`
    bytes: Vec<u8>,
    records: u64,
    value_bytes: u64,
}

impl Batch {
    fn of(records: &mut Records) -> Self {
        let (mut body, mut count, mut value_bytes) = (Vec::new(), 0, 0);
        while body.len() < PAGE_BYTES {
            let value = records.value().as_bytes();
            body.extend_from_slice(&u32::try_from(value.len()).expect("small").to_le_bytes());
            body.extend_from_slice(value);
            count += 1;
            value_bytes += value.len() as u64;
        }
        let crc = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, &body)).expect("32 bits");
        let mut bytes = u32::try_from(body.len() + 4).expect("small").to_le_bytes().to_vec();
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        Self { bytes, records: count, value_bytes }
    }
}

/// A thread's work, and the sockets at its ends.
#[expect(missing_debug_implementations, reason = "a compressor has none")]
pub struct Floor {
    input: TcpStream,
    output: TcpStream,
    received: Vec<u8>,
    batch_records: u64,
    batch_value_bytes: f64,
    page: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    compressed: Vec<u8>,
    compressed_bytes: usize,
    crc: u64,
}

impl Floor {
    /// With records of about `bytes`, compressed or raw.
    ///
    /// # Panics
    /// If there is no loopback network.
    pub fn new(bytes: usize, compress: bool) -> Self {
        let mut records = Records::new(1, bytes);
        let batches: Vec<_> = (0..BATCHES).map(|_| Batch::of(&mut records)).collect();
        let mean = |of: fn(&Batch) -> u64| batches.iter().map(of).sum::<u64>() as f64 / BATCHES as f64;
        let (batch_records, batch_value_bytes) = (mean(|batch| batch.records) as u64, mean(|batch| batch.value_bytes));
        Self {
            input: source(batches),
            output: sink(),
            received: Vec::new(),
            batch_records,
            batch_value_bytes,
            page: Vec::with_capacity(2 * PAGE_BYTES),
            compressor: compress.then(|| zstd::bulk::Compressor::new(1).expect("level 1 exists")),
            compressed: vec![0; zstd::zstd_safe::compress_bound(2 * PAGE_BYTES)],
            compressed_bytes: 0,
            crc: 0,
        }
    }

    /// Records of a batch, on average.
    pub fn batch_records(&self) -> u64 {
        self.batch_records
    }

    /// The whole, and then its parts.
    ///
    /// # Panics
    /// As [`batch`](Self::batch).
    pub fn measure(&mut self) -> Floored {
        self.batch(); // memory is touched for the first time here
        Floored { cpu_s_per_gib: self.cost_of(Self::batch), parts: self.parts() }
    }

    /// The parts alone, on what the last batch has left in the buffers.
    fn parts(&mut self) -> Parts {
        Parts {
            compression: if self.compressor.is_some() { self.cost_of(Self::compress) } else { 0.0 },
            loopback: self.cost_of(|floor| {
                floor.receive();
                floor.send();
            }),
            copies: self.cost_of(|floor| {
                floor.unpack();
                floor.seal();
            }),
        }
    }

    /// CPU seconds of this thread for a GiB of values, if this is what a batch takes.
    fn cost_of(&mut self, mut work: impl FnMut(&mut Self)) -> f64 {
        let batches = (MEASURED_BYTES as f64 / self.batch_value_bytes).ceil();
        let began = cpu_time();
        (0..batches as u64).for_each(|_| work(self));
        cpu_time().saturating_sub(began).as_secs_f64() * GIB / (batches * self.batch_value_bytes)
    }

    /// One batch, from socket to socket.
    ///
    /// # Panics
    /// If a socket fails or a checksum is wrong.
    pub fn batch(&mut self) {
        self.receive();
        self.unpack();
        self.compress();
        self.seal();
        self.send();
    }

    fn receive(&mut self) {
        let mut len = [0; 4];
        self.input.read_exact(&mut len).expect("the source goes on");
        self.received.resize(u32::from_le_bytes(len) as usize, 0);
        self.input.read_exact(&mut self.received).expect("the source goes on");
    }

    /// Checks the batch and copies its values into the page.
    fn unpack(&mut self) {
        let (crc, mut body) = self.received.split_at(4);
        assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, body), u64::from(u32::from_le_bytes(crc.try_into().expect("four bytes"))));
        self.page.clear();
        while let Some((len, rest)) = body.split_first_chunk::<4>() {
            let (value, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
            self.page.extend_from_slice(len);
            self.page.extend_from_slice(value);
            body = rest;
        }
    }

    fn compress(&mut self) {
        if let Some(compressor) = &mut self.compressor {
            self.compressed_bytes = compressor.compress_to_buffer(&self.page, &mut self.compressed[..]).expect("large enough");
        }
    }

    /// What is sent.
    fn out(&self) -> &[u8] {
        if self.compressor.is_some() { &self.compressed[..self.compressed_bytes] } else { &self.page }
    }

    fn seal(&mut self) {
        self.crc = black_box(checksum(CrcAlgorithm::Crc32Iscsi, self.out()));
    }

    fn send(&self) {
        let mut output = &self.output;
        output.write_all(&self.crc.to_le_bytes()).expect("the sink goes on");
        output.write_all(self.out()).expect("the sink goes on");
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn connection(to: &TcpListener) -> TcpStream {
    TcpStream::connect(to.local_addr().expect("bound")).expect("connects")
}

/// A connection on which these batches come for ever.
fn source(batches: Vec<Batch>) -> TcpStream {
    let listener = listener();
    let input = connection(&listener);
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a peer");
        while batches.iter().all(|batch| peer.write_all(&batch.bytes).is_ok()) {}
    });
    input
}

/// A connection that takes everything.
fn sink() -> TcpStream {
    let listener = listener();
    let output = connection(&listener);
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a peer");
        let mut buffer = vec![0; PAGE_BYTES];
        while peer.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_from_socket_to_socket() {
        for compress in [true, false] {
            let mut floor = Floor::new(1024, compress);
            floor.batch();
            assert!(floor.page.len() >= PAGE_BYTES && floor.page.len() as f64 > floor.batch_value_bytes);
            let out = floor.out().to_vec();
            assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, &out), floor.crc);
            let sent = if compress { zstd::bulk::decompress(&out, 2 * PAGE_BYTES).unwrap() } else { out };
            assert_eq!(sent, floor.page);
        }
    }

    #[test]
    fn the_parts_work_on_what_the_batch_has_left() {
        let mut floor = Floor::new(1024, true);
        floor.batch();
        let (page, crc) = (floor.page.clone(), floor.crc);
        floor.unpack();
        floor.compress();
        floor.seal();
        assert_eq!((&floor.page, floor.crc), (&page, crc));
        floor.receive();
        floor.send();
        floor.batch();
        assert_ne!(floor.page, page, "the next batch has other records");
    }

    #[test]
    fn the_whole_is_held_against_the_sum_of_its_parts() {
        let floored = Floored { cpu_s_per_gib: 2.2, parts: Parts { compression: 1.7, loopback: 0.2, copies: 0.1 } };
        assert!((floored.to_parts() - 1.1).abs() < 1e-9);
        let text = serde_json::to_string(&floored).unwrap();
        assert_eq!(serde_json::from_str::<Floored>(&text).unwrap(), floored);
    }
}
