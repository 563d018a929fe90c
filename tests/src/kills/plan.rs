//! What a run of kills is like: what the store's guard is worth, and what the windows become.

use crate::generate::Profile;
use crate::phases::Phase;
use crate::s3::Op;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its name, and the beginning of its topic's.
    pub name: &'static str,
    /// For `s3server`: personality and class of both operations.
    pub personality: &'static str,
    /// The same.
    pub class: &'static str,
    /// What the windows become.
    pub objects: Objects,
    /// How partitions share the memory of an instance.
    pub schedule: &'static str,
}

/// What the windows become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// Parquet of one second of the whole mixture.
    Small,
    /// Raw of 24 MiB: one PUT, but more than sockets hold, so that it can be interrupted half-way.
    Large,
    /// Raw of 68 MiB: a multipart upload.
    Multipart,
}

impl Plan {
    /// Single PUTs behind an atomic guard.
    pub const SMALL: Self = Self { name: "put", personality: "minio", class: "A", objects: Objects::Small, schedule: "stream" };

    /// Multipart uploads behind one.
    pub const MULTIPART: Self = Self { name: "parts", objects: Objects::Multipart, ..Self::SMALL };

    pub(super) fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Open, Phase::Pinned, Phase::Published, Phase::Untidied];
        if self.objects == Objects::Multipart {
            phases.insert(1, Phase::PartsUploaded);
        }
        phases
    }

    pub(super) fn partitions(&self) -> i32 {
        if self.is_raw() { 2 } else { 6 }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.objects != Objects::Small
    }

    /// Large records of a partition that wait to be stored, at most: surely more than a window, or it would never close.
    pub(super) fn ahead_max(&self) -> i64 {
        match self.objects {
            Objects::Small => i64::MAX,
            Objects::Large => 90,
            Objects::Multipart => 220,
        }
    }

    /// The request that makes a window visible.
    pub(super) fn publish(&self) -> Op {
        if self.objects == Objects::Multipart { Op::CompleteMultipartUpload } else { Op::PutObject }
    }

    pub(super) fn bucket(&self) -> &'static str {
        if self.personality == "cos" { "bucket-1250000000" } else { "bucket" }
    }

    /// The whole mixture, or incompressible records of 64 KiB to 2 MiB.
    pub(super) fn profile(&self) -> Profile {
        if self.is_raw() {
            Profile { huge_values_per_million: 1_000_000, binary_values: 1000, null_values: 10, ..Profile::mixed() }
        } else {
            Profile::mixed()
        }
    }

    pub(super) fn arguments(&self) -> Vec<&'static str> {
        let raw = ["--format", "raw", "--framing", "len32", "--codec", "none", "--window", "1h", "--max-bytes"];
        let windows = match self.objects {
            Objects::Small => vec!["--window", "1s"],
            Objects::Large => [&raw[..], &["24MiB"]].concat(),
            Objects::Multipart => [&raw[..], &["68MiB"]].concat(),
        };
        [&windows[..], &["--schedule", self.schedule]].concat()
    }
}
