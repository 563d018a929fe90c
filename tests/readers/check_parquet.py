"""Reads every Parquet object of a topic with DuckDB, PyArrow, Polars and ClickHouse (chDB), and digests what each of them saw.

check_parquet.py [--reader NAME]... [--endpoint URL --bucket NAME | --directory DIR] --prefix PREFIX --out DIR

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Objects below `_catchment/` and any that do not end in `.parquet` are left out.
Each reader opens the files itself; objects of a bucket are first copied to a temporary directory, byte for byte.

Writes DIR/NAME.digest for each reader (see canonical.py) and prints one JSON object:
{"objects": N, "bytes": N, "readers": {"duckdb": {"version", "rows", "distinct", "digest", "file", "seconds"}, ...}}
Exits 1 when the readers differ from each other.
"""

import argparse
import json
import os
import pathlib
import struct
import sys
import tempfile
import time

from canonical import record_hash, write_digest

COLUMNS = [
    "value",
    "kafka_key",
    "kafka_headers",
    "kafka_partition",
    "kafka_offset",
    "kafka_timestamp",
    "kafka_timestamp_raw",
    "kafka_timestamp_type",
    "kafka_headers_raw",
]


def raw_headers(form: bytes) -> list:
    """Headers in the bytes of kafka_headers_raw: for each `u32le length | name | i32le length or -1 | value`."""
    at, headers = 0, []
    while at < len(form):
        (n,) = struct.unpack_from("<I", form, at)
        name = form[at + 4 : at + 4 + n]
        at += 4 + n
        (n,) = struct.unpack_from("<i", form, at)
        at += 4
        if n < 0:
            headers.append((name, None))
        else:
            headers.append((name, form[at : at + n]))
            at += n
    return headers


def as_bytes(value):
    return value.encode() if isinstance(value, str) else None if value is None else bytes(value)


def row_hash(value, key, headers, partition, offset, millis, raw_millis, kind, headers_raw):
    """One row as a reader gave it; timestamps as milliseconds, headers as (name, value) pairs or None."""
    if headers_raw is not None:
        assert not headers, f"headers in two columns in {partition}/{offset}"
        pairs = raw_headers(bytes(headers_raw))
    else:
        pairs = [(as_bytes(name), as_bytes(content)) for name, content in headers or ()]
    assert millis is None or raw_millis is None, f"both timestamps in {partition}/{offset}"
    timestamp = millis if millis is not None else raw_millis
    if timestamp is None:
        assert kind == -1, f"no timestamp in {partition}/{offset}, but type {kind}"
    return partition, offset, record_hash(partition, offset, kind, timestamp, as_bytes(key), as_bytes(value), pairs)


def pairs(structs):
    return None if structs is None else [(h["key"], h["value"]) for h in structs]


def duckdb_rows(paths):
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    query = (
        "SELECT value, kafka_key, kafka_headers, kafka_partition, kafka_offset, epoch_ms(kafka_timestamp), kafka_timestamp_raw, "
        "kafka_timestamp_type, kafka_headers_raw FROM read_parquet(?, hive_partitioning = false)"
    )
    for path in paths:
        found = db.execute(query, [path])
        while batch := found.fetchmany(10_000):
            for row in batch:
                yield row_hash(row[0], row[1], pairs(row[2]), *row[3:])


def pyarrow_rows(paths):
    import pyarrow
    import pyarrow.parquet

    for path in paths:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(10_000, columns=COLUMNS):
            columns = [batch.column(name) for name in COLUMNS]
            columns[5] = columns[5].cast(pyarrow.int64())
            for row in zip(*(column.to_pylist() for column in columns)):
                yield row_hash(row[0], row[1], pairs(row[2]), *row[3:])


def polars_rows(paths):
    import polars

    for path in paths:
        frame = polars.read_parquet(path, hive_partitioning=False, columns=COLUMNS).select(COLUMNS)
        frame = frame.with_columns(polars.col("kafka_timestamp").dt.epoch("ms"))
        for row in frame.iter_rows():
            yield row_hash(row[0], row[1], pairs(row[2]), *row[3:])


def chdb_rows(paths):
    """ClickHouse has no null arrays: a null header list comes as an empty one. It gives bytes only as text, so they travel as hex."""
    import chdb.session

    session = chdb.session.Session()
    query = """
        SELECT hex(value) AS v, value IS NULL, hex(kafka_key) AS k, kafka_key IS NULL,
               arrayMap(h -> (hex(h.1), if(h.2 IS NULL, 'null', hex(h.2))), kafka_headers), kafka_partition, kafka_offset,
               toUnixTimestamp64Milli(kafka_timestamp), kafka_timestamp_raw, kafka_timestamp_type, hex(kafka_headers_raw),
               kafka_headers_raw IS NULL
        FROM file('{path}', Parquet) ORDER BY kafka_offset
        SETTINGS output_format_json_quote_64bit_integers = 0
    """
    unhex = bytes.fromhex
    for path in paths:
        assert "'" not in path and "\\" not in path
        for line in session.query(query.format(path=path), "JSONCompactEachRow").bytes().splitlines():
            value, no_value, key, no_key, headers, partition, offset, millis, raw, kind, headers_raw, no_headers_raw = json.loads(line)
            yield row_hash(
                None if no_value else unhex(value),
                None if no_key else unhex(key),
                [(unhex(name), None if content == "null" else unhex(content)) for name, content in headers],
                partition,
                offset,
                millis,
                raw,
                kind,
                None if no_headers_raw else unhex(headers_raw),
            )


READERS = {"duckdb": duckdb_rows, "pyarrow": pyarrow_rows, "polars": polars_rows, "chdb": chdb_rows}


def version(name: str) -> str:
    from importlib.metadata import version as installed

    return installed(name)


def is_data(key: str, suffix: str) -> bool:
    return key.endswith(suffix) and "_catchment" not in key.split("/")


def fetch(endpoint: str, bucket: str, prefix: str, into: str, suffix: str = ".parquet") -> list:
    """Copies a bucket's objects below a prefix to a directory; returns (key, path), ordered by key."""
    import boto3
    from botocore.config import Config

    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            if is_data(item["Key"], suffix):
                path = os.path.join(into, f"{len(found):06d}{suffix}")
                s3.download_file(bucket, item["Key"], path)
                found.append((item["Key"], path))
    return found


def local(directory: str, prefix: str, suffix: str = ".parquet") -> list:
    root = pathlib.Path(directory)
    keys = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return [(key, str(root / key)) for key in keys if key.startswith(prefix) and is_data(key, suffix)]


def main() -> int:
    args = argparse.ArgumentParser()
    args.add_argument("--reader", action="append", choices=sorted(READERS))
    args.add_argument("--endpoint")
    args.add_argument("--bucket")
    args.add_argument("--directory")
    args.add_argument("--prefix", default="")
    args.add_argument("--out", required=True)
    args = args.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = local(args.directory, args.prefix) if args.directory else fetch(args.endpoint, args.bucket, args.prefix, scratch)
        paths = [path for _, path in found]
        seen = {}
        for name in args.reader or READERS:
            began = time.monotonic()
            summary = write_digest(os.path.join(args.out, name + ".digest"), list(READERS[name](paths)))
            seen[name] = {"version": version(name), **summary, "seconds": round(time.monotonic() - began, 2)}
        print(json.dumps({"objects": len(paths), "bytes": sum(map(os.path.getsize, paths)), "readers": seen}))
    return 0 if len({reader["digest"] for reader in seen.values()}) <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
