//! Settings that take one of a few words: one list each, for the file, the flags, the schema and the messages.

use catchment_protocol::words;
pub use catchment_protocol::words::Words;

pub use crate::window::WindowBy;

words! {
    /// The file format.
    FormatKind {
        /// One row a record.
        Parquet = "parquet",
        /// Values only.
        Raw = "raw",
    }
}

words! {
    /// How values are told apart in a raw object.
    FramingKind {
        /// Not at all.
        None = "none",
        /// Each ends with a newline.
        Newline = "newline",
        /// Each has its length before it.
        Len32 = "len32",
    }
}

words! {
    /// The codec of pages or frames.
    CodecKind {
        /// zstd, levels 1 to 22.
        Zstd = "zstd",
        /// gzip, levels 1 to 9.
        Gzip = "gzip",
        /// As is.
        None = "none",
    }
}

words! {
    /// How a window's directory is named.
    LayoutKind {
        /// `<topic>/dt=2026-11-22/hour=5/`.
        Hive = "hive",
        /// `<instance>/<topic id>/<yyyyMMddHHmmss>/`.
        Tencent = "tencent",
        /// `topics/<topic>/partition=N/`.
        Confluent = "confluent",
    }
}

words! {
    /// What a lane does when records are missing in Kafka.
    OnGap {
        /// Goes on; the missing range is listed in the next object.
        Continue = "continue",
        /// Stops and asks.
        Halt = "halt",
    }
}

words! {
    /// What becomes of open windows at shutdown.
    OnStop {
        /// Dropped; the next run reads them again.
        Drop = "drop",
        /// Closed and written where they stand.
        Close = "close",
    }
}

words! {
    /// How the lanes of a process share its memory.
    ScheduleKind {
        /// Every lane reads all the time.
        Stream = "stream",
        /// Lanes read in turns, each when its window is due.
        Sweep = "sweep",
    }
}

words! {
    /// An operator's answer to the question of a stopped lane.
    Accept {
        /// The group's offset was committed by somebody else: resume from the anchor.
        ForeignCommit = "foreign-commit",
        /// The topic was deleted and created again: start its new incarnation.
        TopicRecreated = "topic-recreated",
        /// The rule now writes elsewhere: go on there.
        Destination = "destination",
        /// The log was truncated: list what was lost and go on.
        Truncation = "truncation",
    }
}

words! {
    /// Settings that a kind of cluster needs.
    Preset {
        /// Tencent Cloud CKafka: serves Kafka 2.4 to 3.2; user names are `instance#user`.
        CKafka = "ckafka",
        /// Redpanda.
        Redpanda = "redpanda",
        /// Amazon MSK: TLS unless set otherwise.
        Msk = "msk",
        /// Confluent Cloud: TLS, and SASL PLAIN with an API key.
        Confluent = "confluent",
    }
}

words! {
    /// SASL mechanisms.
    Mechanism {
        /// User name and password.
        Plain = "PLAIN",
        /// Salted challenge, SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// Salted challenge, SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
        /// A token.
        OAuthBearer = "OAUTHBEARER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_parse_and_print() {
        for word in Accept::WORDS {
            assert_eq!(word.parse::<Accept>().unwrap().to_string(), *word);
        }
        assert_eq!("arival".parse::<WindowBy>().unwrap_err(), "\"arival\" is not one of record-time, arrival; did you mean \"arrival\"?");
    }
}
