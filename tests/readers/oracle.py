"""What a topic holds, by confluent-kafka: the records that a read_committed consumer sees, digested.

oracle.py --bootstrap HOST:PORT --topic TOPIC --out FILE

Writes FILE (see canonical.py) and prints {"rows", "distinct", "digest", "file"}. Only for topics whose header names are all UTF-8: on any other
name the client (2.16.1) raises an error or crashes. The oracle in Rust reads those too.
"""

import argparse
import json
import sys

from canonical import record_hash, write_digest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

# librdkafka's numbers for the timestamp types, and ours.
KINDS = {0: -1, 1: 0, 2: 1}
SILENCE_SECONDS = 60


def main() -> int:
    args = argparse.ArgumentParser()
    args.add_argument("--bootstrap", required=True)
    args.add_argument("--topic", required=True)
    args.add_argument("--out", required=True)
    args = args.parse_args()
    consumer = Consumer(
        {
            "bootstrap.servers": args.bootstrap,
            "group.id": "catchment-test-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": 16 << 20,
        }
    )
    partitions = sorted(consumer.list_topics(args.topic, timeout=30).topics[args.topic].partitions)
    consumer.assign([TopicPartition(args.topic, number, OFFSET_BEGINNING) for number in partitions])
    still_open, rows = set(partitions), []
    while still_open:
        message = consumer.poll(SILENCE_SECONDS)
        if message is None:
            raise SystemExit(f"the broker has been silent for {SILENCE_SECONDS} s")
        if error := message.error():
            if error.code() != KafkaError._PARTITION_EOF:
                raise SystemExit(str(error))
            still_open.discard(message.partition())
            continue
        headers = [(name.encode(), value) for name, value in message.headers() or ()]
        kind, timestamp = message.timestamp()
        place = (message.partition(), message.offset())
        rows.append((*place, record_hash(*place, KINDS[kind], timestamp, message.key(), message.value(), headers)))
    consumer.close()
    print(json.dumps(write_digest(args.out, rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
