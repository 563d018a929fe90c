//! The physical floor: the least work that any implementation must do on the same records, in one thread.
//!
//! Receive the bytes from a loopback socket, CRC32C them, copy each value once into a page, zstd at level 1, CRC and send the
//! compressed page (or, for raw, the page itself) to a loopback socket. The threads at the other ends of the sockets do not count.
#![expect(unsafe_code, reason = "the CPU time of one thread has no safe call")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use catchment_loadtest::Records;
use crc_fast::{CrcAlgorithm, checksum};

/// Bytes of values in a page, and about in a batch.
const PAGE_BYTES: usize = 1 << 20;

/// Batches that are sent round and round. More than the caches hold.
const BATCHES: usize = 32;

/// CPU time of the calling thread so far.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// `u32 length of the rest | u32 crc | (u32 length | value)*`
fn batch(records: &mut Records) -> (Vec<u8>, u64) {
    let (mut body, mut count) = (Vec::new(), 0);
    while body.len() < PAGE_BYTES {
        let value = records.value().as_bytes();
        body.extend_from_slice(&u32::try_from(value.len()).expect("small").to_le_bytes());
        body.extend_from_slice(value);
        count += 1;
    }
    let crc = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, &body)).expect("32 bits");
    let mut out = u32::try_from(body.len() + 4).expect("small").to_le_bytes().to_vec();
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body);
    (out, count)
}

/// A thread's work, and the sockets at its ends.
#[expect(missing_debug_implementations, reason = "a compressor has none")]
pub struct Floor {
    input: TcpStream,
    output: TcpStream,
    received: Vec<u8>,
    batch_records: u64,
    value_bytes: u64,
    page: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    compressed: Vec<u8>,
}

impl Floor {
    /// With records of about `bytes`, compressed or raw.
    ///
    /// # Panics
    /// If there is no loopback network.
    pub fn new(bytes: usize, compress: bool) -> Self {
        let mut records = Records::new(1, bytes);
        let (batches, counts): (Vec<_>, Vec<u64>) = (0..BATCHES).map(|_| batch(&mut records)).unzip();
        Self { batch_records: counts.iter().sum::<u64>() / BATCHES as u64, ..Self::of(batches, compress) }
    }

    fn of(batches: Vec<Vec<u8>>, compress: bool) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (source, sink) = (listen(), listen());
        let input = TcpStream::connect(source.local_addr().expect("bound")).expect("connects");
        let output = TcpStream::connect(sink.local_addr().expect("bound")).expect("connects");
        std::thread::spawn(move || {
            let (mut peer, _) = source.accept().expect("a peer");
            while batches.iter().all(|batch| peer.write_all(batch).is_ok()) {}
        });
        std::thread::spawn(move || {
            let (mut peer, _) = sink.accept().expect("a peer");
            let mut buffer = vec![0; PAGE_BYTES];
            while peer.read(&mut buffer).is_ok_and(|n| n > 0) {}
        });
        Self {
            input,
            output,
            received: Vec::new(),
            batch_records: 0,
            value_bytes: 0,
            page: Vec::with_capacity(2 * PAGE_BYTES),
            compressor: compress.then(|| zstd::bulk::Compressor::new(1).expect("level 1 exists")),
            compressed: vec![0; zstd::zstd_safe::compress_bound(2 * PAGE_BYTES)],
        }
    }

    /// Records of a batch, on average.
    pub fn batch_records(&self) -> u64 {
        self.batch_records
    }

    /// CPU seconds of this thread for a GiB of values.
    ///
    /// # Panics
    /// As [`batch`](Self::batch).
    pub fn cpu_s_per_gib(&mut self) -> f64 {
        self.batch();
        let (began, before) = (cpu_time(), self.value_bytes);
        while self.value_bytes - before < 1 << 30 {
            self.batch();
        }
        cpu_time().saturating_sub(began).as_secs_f64() * (1_u64 << 30) as f64 / (self.value_bytes - before) as f64
    }

    /// One batch, from socket to socket.
    ///
    /// # Panics
    /// If a socket fails or a checksum is wrong.
    pub fn batch(&mut self) {
        let mut len = [0; 4];
        self.input.read_exact(&mut len).expect("the source goes on");
        self.received.resize(u32::from_le_bytes(len) as usize, 0);
        self.input.read_exact(&mut self.received).expect("the source goes on");
        let (crc, mut body) = self.received.split_at(4);
        assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, body), u64::from(u32::from_le_bytes(crc.try_into().expect("four bytes"))));
        while let Some((len, rest)) = body.split_first_chunk::<4>() {
            let (value, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
            self.page.extend_from_slice(len);
            self.page.extend_from_slice(value);
            self.value_bytes += value.len() as u64;
            body = rest;
        }
        let out = match &mut self.compressor {
            Some(compressor) => {
                let written = compressor.compress_to_buffer(&self.page, &mut self.compressed[..]).expect("large enough");
                &self.compressed[..written]
            }
            None => &self.page[..],
        };
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, out);
        self.output.write_all(&crc.to_le_bytes()).expect("the sink goes on");
        self.output.write_all(out).expect("the sink goes on");
        self.page.clear();
    }
}
