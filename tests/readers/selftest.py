"""Shows that the readers see what is there, and see when something is not: on Parquet files that PyArrow writes and raw files written here.

selftest.py    prints `readers: ok` and exits 0
"""

import gzip
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import pyarrow
import pyarrow.parquet
import zstandard
from canonical import record_hash

HERE = os.path.dirname(os.path.abspath(__file__))
END_OF_9999 = 253402300799999

SCHEMA = pyarrow.schema(
    [
        ("value", pyarrow.binary()),
        ("kafka_key", pyarrow.binary()),
        (
            "kafka_headers",
            pyarrow.list_(
                pyarrow.struct([pyarrow.field("key", pyarrow.string(), nullable=False), pyarrow.field("value", pyarrow.binary())])
            ),
        ),
        pyarrow.field("kafka_partition", pyarrow.int32(), nullable=False),
        pyarrow.field("kafka_offset", pyarrow.int64(), nullable=False),
        ("kafka_timestamp", pyarrow.timestamp("ms", "UTC")),
        ("kafka_timestamp_raw", pyarrow.int64()),
        pyarrow.field("kafka_timestamp_type", pyarrow.int8(), nullable=False),
        ("kafka_headers_raw", pyarrow.binary()),
    ]
)


def canonical_headers(headers) -> bytes:
    form = b""
    for name, value in headers:
        form += struct.pack("<I", len(name)) + name + struct.pack("<i", -1 if value is None else len(value)) + (value or b"")
    return form


def records():
    """(value, key, headers, partition, offset, timestamp, type): the odd ones first, then some thousands at random."""
    yield None, None, [], 0, 0, 0, 0
    yield b"", b"", [(b"", b""), (b"", None)], 0, 1, END_OF_9999, 1
    yield b"\x00\xff", b"\xfe'\\\"", [(b"a", b"1"), (b"a", None), (b"a", b"")], 0, 2, END_OF_9999 + 1, 0
    yield b"null", b"null", [(b"null", b"null"), ("键".encode(), b"\x80")], 0, 3, -1, 0
    yield b"x", None, [(b"\xff\xfe", b"raw"), (b"h", None)], 0, 5, 1013600000000000, 0
    yield b"y" * (3 << 20), b"k", [], 0, 1 << 40, None, -1
    rng = random.Random(1)
    for n in range(5000):
        size = rng.choice([0, 1, 10, 100, 1000])
        headers = [(b"h%d" % rng.randrange(3), rng.choice([None, b"", rng.randbytes(5)])) for _ in range(rng.randrange(3))]
        yield rng.choice([None, rng.randbytes(size)]), rng.choice([None, rng.randbytes(4)]), headers, 1, n * 2, 1_700_000_000_000 + n, 0


def row(value, key, headers, partition, offset, timestamp, kind) -> dict:
    try:
        listed, raw = [{"key": name.decode(), "value": content} for name, content in headers], None
    except UnicodeDecodeError:
        listed, raw = None, canonical_headers(headers)
    typed = timestamp if timestamp is not None and 0 <= timestamp <= END_OF_9999 else None
    return {
        "value": value,
        "kafka_key": key,
        "kafka_headers": listed or None,
        "kafka_partition": partition,
        "kafka_offset": offset,
        "kafka_timestamp": typed,
        "kafka_timestamp_raw": timestamp if typed is None else None,
        "kafka_timestamp_type": kind,
        "kafka_headers_raw": raw,
    }


def run(script: str, *args: str, code: int = 0) -> dict:
    done = subprocess.run([sys.executable, os.path.join(HERE, script), *args], stdout=subprocess.PIPE, check=False)
    assert done.returncode == code, f"{script} exited with {done.returncode}"
    return json.loads(done.stdout)


def lines(path: str) -> list:
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


def parquet(root: str) -> None:
    everything = list(records())
    for partition in (0, 1):
        path = os.path.join(root, "p", "t", "dt=2026-11-22", "hour=5", f"t+{partition}+{0:020d}.parquet")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        table = pyarrow.Table.from_pylist([row(*r) for r in everything if r[3] == partition], SCHEMA)
        pyarrow.parquet.write_table(table, path, compression="zstd", store_schema=False, row_group_size=1000)
    expected = [f"{r[3]} {r[4]} {record_hash(r[3], r[4], r[6], r[5] if r[5] is not None else -1, r[1], r[0], r[2])}" for r in everything]
    out = os.path.join(root, "out")
    seen = run("check_parquet.py", "--directory", root, "--prefix", "p/", "--out", out)
    assert seen["objects"] == 2, seen
    for name, reader in seen["readers"].items():
        assert lines(reader["file"]) == expected, f"{name} saw something else"
        assert reader["rows"] == reader["distinct"] == len(expected), reader
    # One record twice and one value changed: every reader must tell.
    changed = [row(*r) for r in everything if r[3] == 1]
    changed[7]["value"] = b"changed"
    changed.append(changed[0])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed, SCHEMA), path, compression="zstd", store_schema=False)
    again = run("check_parquet.py", "--directory", root, "--prefix", "p/", "--out", out)
    for name, reader in again["readers"].items():
        assert reader["rows"] == reader["distinct"] + 1 and reader["digest"] != seen["readers"][name]["digest"], name


def raw(root: str) -> None:
    values = [b"a", None, b"", b"two\nlines", b"z" * 70000]
    framed = b"".join(struct.pack(">i", -1) if v is None else struct.pack(">i", len(v)) + v for v in values)
    frames = [framed[at : at + 30000] for at in range(0, len(framed), 30000)]
    zstd = zstandard.ZstdCompressor()
    contents = {
        ".bin": framed,
        ".bin.zst": b"".join(zstd.compress(frame) for frame in frames),
        ".bin.gz": b"".join(gzip.compress(frame) for frame in frames),
    }
    for partition, (suffix, content) in enumerate(contents.items()):
        with open(os.path.join(root, f"t+{partition}+{0:020d}{suffix}"), "wb") as file:
            file.write(content)
    out = os.path.join(root, "raw")
    seen = run("raw_decode.py", "--framing", "len32", "--directory", root, "--prefix", "t", "--out", out)
    assert (seen["objects"], seen["values"], seen["nulls"]) == (3, 15, 3), seen
    expected = ["null" if v is None else hashlib.sha256(v).hexdigest() for v in values]
    assert lines(out) == [f"{p} {n} {h}" for p in range(3) for n, h in enumerate(expected)]
    seen = run("raw_decode.py", "--framing", "none", "--directory", root, "--prefix", "t", "--out", out)
    assert lines(out) == [f"{p} -1 {hashlib.sha256(framed).hexdigest()}" for p in range(3)], seen
    os.truncate(os.path.join(root, f"t+0+{0:020d}.bin"), len(framed) - 1)
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "raw_decode.py"), "--framing", "len32", "--directory", root, "--prefix", "t", "--out", out],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode != 0 and b"a length of 70000" in done.stderr, "a cut object was taken for a whole one"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        parquet(scratch)
    with tempfile.TemporaryDirectory() as scratch:
        raw(scratch)
    print("readers: ok")
