"""The canonical form of a record, shared by the readers and by `tests/src/oracle.rs`, which defines it.

i32be partition | i64be offset | i8 timestamp type | i64be timestamp (-1 if the type is -1) | bytes key | bytes value
| i32be number of headers | for each: bytes name | bytes value      where bytes = i32be length | the bytes; null is -1

A digest file has a line `partition offset sha256` for each row that a reader saw, ordered by partition and offset; a row seen
twice stands there twice. A digest of a whole set is the SHA-256 of that file.

Run as a program it checks itself.
"""

import hashlib
import struct

_HEAD = struct.Struct(">iqbq")
_LEN = struct.Struct(">i")
_NULL = _LEN.pack(-1)


def _bytes(value) -> bytes:
    return _NULL if value is None else _LEN.pack(len(value)) + value


def record_hash(partition, offset, kind, timestamp, key, value, headers) -> str:
    """headers: a sequence of (name bytes, value bytes or None), in order."""
    form = [_HEAD.pack(partition, offset, kind, -1 if kind == -1 else timestamp), _bytes(key), _bytes(value), _LEN.pack(len(headers))]
    for name, content in headers:
        form += (_bytes(name), _bytes(content))
    return hashlib.sha256(b"".join(form)).hexdigest()


def write_digest(path: str, rows: list) -> dict:
    """rows: (partition, offset, hash). Writes the digest file and returns what it sums up to."""
    rows.sort()
    whole = hashlib.sha256()
    with open(path, "wb") as out:
        for partition, offset, digest in rows:
            line = b"%d %d %s\n" % (partition, offset, digest.encode())
            whole.update(line)
            out.write(line)
    distinct = len({(partition, offset) for partition, offset, _ in rows})
    return {"rows": len(rows), "distinct": distinct, "digest": whole.hexdigest(), "file": path}


# The same record stands in oracle.rs.
EXAMPLE = (3, 1 << 40, 0, -1, b"", b"value", [(b"h", None), (b"\xff", b"")])
EXAMPLE_HASH = "2e691007467b0904f377280698a4313fac67b905526e84c9a9ea6238d2cc276a"

if __name__ == "__main__":
    got = record_hash(*EXAMPLE)
    assert got == EXAMPLE_HASH, got
    print("canonical form: ok")
