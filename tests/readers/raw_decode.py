"""Decodes raw objects, sharing no code with Catchment: the codec by zstandard or gzip, the framing by hand.

raw_decode.py --framing len32|newline|none [--endpoint URL --bucket NAME | --directory DIR] --prefix PREFIX --out FILE

len32: `i32be length | bytes`, -1 for null. newline: a terminator after each value. none: values one after another. Codec by the file's
extension: .bin, .bin.zst, .bin.gz. zstd and gzip objects are many frames or members, one after another.

A raw object holds values only. Objects are taken in the order of (partition, start offset), which their names tell:
`<topic>+<partition>+<start, 20 digits>.<ext>`. FILE gets a line for each value: `partition index sha256` with the index counted
per partition from 0 and `null` instead of the hash for null. With framing `none` values cannot be told apart: a line for each partition, with
index -1 and the hash of all bytes. Prints {"objects", "values", "nulls", "value_bytes", "partitions": {"0": {"values", "bytes"}}}.
"""

import argparse
import collections
import gzip
import hashlib
import json
import re
import struct
import sys
import tempfile

import zstandard
from check_parquet import fetch, local

NAME = re.compile(r"\+(\d+)\+(\d{20})\.bin(\.zst|\.gz)?$")


def content(path: str, extension: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read()
    if extension == ".gz":
        return gzip.decompress(data)
    if extension == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def len32(data: bytes):
    at = 0
    while at < len(data):
        (n,) = struct.unpack_from(">i", data, at)
        at += 4
        if n < -1 or at + max(n, 0) > len(data):
            raise SystemExit(f"a length of {n} at byte {at - 4} of {len(data)}")
        yield None if n == -1 else data[at : at + n]
        at += max(n, 0)


def newline(data: bytes):
    if data and not data.endswith(b"\n"):
        raise SystemExit("the last value has no terminator")
    yield from data.split(b"\n")[:-1]


def main() -> int:
    args = argparse.ArgumentParser()
    args.add_argument("--framing", required=True, choices=["len32", "newline", "none"])
    args.add_argument("--endpoint")
    args.add_argument("--bucket")
    args.add_argument("--directory")
    args.add_argument("--prefix", default="")
    args.add_argument("--out", required=True)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for suffix in (".bin", ".bin.zst", ".bin.gz"):
            in_bucket = args.directory is None
            found += fetch(args.endpoint, args.bucket, args.prefix, scratch, suffix) if in_bucket else local(args.directory, args.prefix, suffix)
        objects = []
        for key, path in found:
            match = NAME.search(key)
            if match is None:
                raise SystemExit(f"not an object's name: {key}")
            objects.append((int(match[1]), int(match[2]), match[3] or "", path))
        counts, sizes, nulls = collections.Counter(), collections.Counter(), 0
        whole = collections.defaultdict(hashlib.sha256)
        with open(args.out, "w", encoding="ascii") as out:
            for partition, _, extension, path in sorted(objects):
                data = content(path, extension)
                if args.framing == "none":
                    whole[partition].update(data)
                    sizes[partition] += len(data)
                    continue
                for value in len32(data) if args.framing == "len32" else newline(data):
                    digest = "null" if value is None else hashlib.sha256(value).hexdigest()
                    out.write(f"{partition} {counts[partition]} {digest}\n")
                    counts[partition] += 1
                    nulls += value is None
                    sizes[partition] += len(value or b"")
            for partition, digest in sorted(whole.items()):
                out.write(f"{partition} -1 {digest.hexdigest()}\n")
    partitions = {str(p): {"values": counts[p], "bytes": sizes[p]} for p in sorted(sizes)}
    totals = {"objects": len(objects), "values": counts.total(), "nulls": nulls, "value_bytes": sizes.total()}
    print(json.dumps({**totals, "partitions": partitions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
