//! Where each lane of a running rule stands, as an outsider sees it: from what the group has committed and from the log of an
//! S3 service that outlives the program under test. For tests that kill or freeze an instance in a chosen phase of a window.
//!
//! The service is the binary `s3server` as a child process. Nothing here asks the program under test anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;

use crate::admin::{GroupOffset, log_range};
use crate::s3::{FaultRule, Op};

/// How long a service may take for one answer before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing to do: all records are stored.
    Idle,
    /// Records are being buffered; nothing of them is in the store.
    Open,
    /// A multipart upload of the window has parts; no intent names it.
    PartsUploaded,
    /// The group has the intent; the object is not visible.
    Pinned,
    /// The object is visible; the store has not answered yet.
    Published,
    /// The store has answered; the group does not know yet that the window is done.
    Untidied,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Open => "open",
            Self::PartsUploaded => "parts uploaded",
            Self::Pinned => "pinned",
            Self::Published => "published",
            Self::Untidied => "untidied",
        })
    }
}

/// The S3 service as a process of its own. Killed when dropped, and what it holds with it.
#[derive(Debug)]
pub struct S3Process {
    child: Child,
    address: String,
    /// The `Host` that its bucket answers to.
    host: String,
}

impl S3Process {
    /// Starts the `s3server` at `path` for `bucket` with these arguments.
    pub fn start(path: &Path, bucket: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).args(["--bucket", bucket]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line);
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("s3server said {line:?} ({said:?})"));
        Self { child, address, host: format!("{bucket}.localhost") }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the rules by which requests are delayed.
    pub fn set_rules(&self, rules: &[FaultRule]) {
        let body = serde_json::json!({ "rules": rules }).to_string();
        self.ask("POST", "/_faults", body.as_bytes());
    }

    /// Everything that it remembers.
    pub fn dump(&self) -> Dump {
        serde_json::from_slice(&self.ask("GET", "/_log", b"")).expect("the log is JSON")
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.ask("GET", &format!("/{key}"), b"")
    }

    /// One request on a connection of its own. The service wants to see a signature, not to check it.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(&self.address).expect("the S3 service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let authorization = "AWS4-HMAC-SHA256 Credential=test, SignedHeaders=host, Signature=0";
        let (host, size) = (&self.host, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Length: {size}\r\n\r\n");
        (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body)).expect("the S3 service reads");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("the S3 service answers");
        assert!(line.contains(" 200"), "{method} {path}: {line}");
        let mut size = 0;
        while !line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line).expect("the S3 service answers");
            if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
                size = value.trim().parse().expect("a length is a number");
            }
        }
        // The service resets instead of closing, so the end of the connection says nothing.
        let mut answer = vec![0; size];
        reader.read_exact(&mut answer).expect("the S3 service answers");
        answer
    }
}

impl Drop for S3Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the service remembers: answered requests, every version of every key, open uploads.
#[derive(Debug, Deserialize)]
pub struct Dump {
    /// In the order of the answers.
    pub requests: Vec<Answered>,
    /// By key, in order.
    pub versions: BTreeMap<String, Vec<SeenVersion>>,
    /// Key and id.
    pub open_uploads: Vec<(String, String)>,
}

/// A request that was answered.
#[derive(Debug, Deserialize)]
pub struct Answered {
    /// What was asked.
    pub op: Op,
    /// The key.
    pub key: String,
    /// The upload's id.
    pub upload: Option<String>,
    /// The HTTP status.
    pub status: u16,
}

/// A version of a key.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct SeenVersion {
    /// In bytes.
    pub size: u64,
    /// CRC-64/XZ of the bytes.
    pub crc64: u64,
    /// Whether it is a deletion.
    pub deleted: bool,
}

impl Dump {
    /// The keys of data objects that became visible, in order, with their versions.
    pub fn data(&self) -> impl Iterator<Item = (&String, &Vec<SeenVersion>)> {
        self.versions.iter().filter(|(key, _)| !key.contains("_catchment/"))
    }

    /// Whether the request that made `key` visible was answered with success.
    pub fn is_answered(&self, key: &str) -> bool {
        let publishes = |op| matches!(op, Op::PutObject | Op::CompleteMultipartUpload);
        self.requests.iter().any(|r| r.key == key && publishes(r.op) && r.status == 200)
    }

    /// Uploads that have at least one part, of keys that contain `part`.
    pub fn uploads_with_parts(&self, part: &str) -> BTreeSet<String> {
        let has_part =
            |id: &str| self.requests.iter().any(|r| r.op == Op::UploadPart && r.status == 200 && r.upload.as_deref() == Some(id));
        self.open_uploads.iter().filter(|(key, id)| key.contains(part) && has_part(id)).map(|(_, id)| id.clone()).collect()
    }
}

/// What a group has committed for a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The committed offset.
    pub position: i64,
    /// Start of the next or of the pinned object.
    pub start: i64,
    /// The pinned key below the store's prefix; none: nothing is pinned.
    pub pinned: Option<String>,
}

impl Note {
    fn of(committed: &GroupOffset) -> Self {
        let note: serde_json::Value = serde_json::from_str(&committed.metadata)
            .unwrap_or_else(|e| panic!("the group's metadata is not JSON ({e}): {:?}", committed.metadata));
        let pinned = note.get("E").map(|_| note["key"].as_str().expect("an intent has a key").to_owned());
        Self { position: committed.offset, start: note["S"].as_i64().expect("a note has a start"), pinned }
    }
}

/// Looks at the lanes of one topic and one group.
#[expect(missing_debug_implementations, reason = "the client has none")]
pub struct Watch {
    consumer: BaseConsumer,
    group: String,
    topic: String,
    partitions: i32,
    /// The store's prefix, empty or with a slash at its end.
    prefix: String,
}

impl Watch {
    /// Watches the group `group` from outside; it never joins.
    pub fn new(bootstrap: &str, group: &str, topic: &str, partitions: i32, prefix: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", group).set("enable.auto.commit", "false");
        let consumer = config.create().expect("a consumer can be made");
        Self { consumer, group: group.to_owned(), topic: topic.to_owned(), partitions, prefix: prefix.to_owned() }
    }

    /// What every data key of a lane contains.
    pub fn file_name(&self, partition: i32) -> String {
        format!("/{}+{partition}+", self.topic)
    }

    /// What the group has committed, by partition.
    pub fn notes(&self) -> BTreeMap<i32, Note> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&self.topic, 0, self.partitions - 1);
            match self.consumer.committed_offsets(list, PATIENCE) {
                Ok(found) => {
                    let noted = found.elements().into_iter().filter_map(|e| match e.offset() {
                        Offset::Offset(offset) => {
                            Some((e.partition(), Note::of(&GroupOffset { offset, metadata: e.metadata().to_owned() })))
                        }
                        _ => None,
                    });
                    return noted.collect();
                }
                Err(e) => assert!(Instant::now() < deadline, "the coordinator does not answer: {e}"),
            }
        }
    }

    /// What the group has committed for one partition.
    pub fn note(&self, partition: i32) -> Option<Note> {
        self.notes().remove(&partition)
    }

    /// The next offset of a partition's log.
    pub fn log_end(&self, partition: i32) -> i64 {
        log_range(self.consumer.client(), &self.topic, partition).1
    }

    /// Which member has each partition, by the member's id; none while the group changes or its coordinator is not ready.
    pub fn owners(&self) -> BTreeMap<i32, String> {
        let Ok(groups) = self.consumer.fetch_group_list(Some(&self.group), PATIENCE) else { return BTreeMap::new() };
        let stable = groups.groups().iter().filter(|group| group.name() == self.group && group.state() == "Stable");
        let members = stable.flat_map(|group| group.members());
        members.flat_map(|m| assigned(m.assignment().unwrap_or_default()).into_iter().map(|p| (p, m.id().to_owned()))).collect()
    }

    /// How far a lane has come. Uploads of `orphans` belong to instances that are gone.
    pub fn phase(&self, partition: i32, note: Option<&Note>, dump: &Dump, orphans: &BTreeSet<String>) -> Phase {
        if let Some(object_key) = note.and_then(|n| n.pinned.as_ref()) {
            let object_key = self.whole_key(object_key);
            return match (dump.versions.contains_key(&object_key), dump.is_answered(&object_key)) {
                (false, _) => Phase::Pinned,
                (true, false) => Phase::Published,
                (true, true) => Phase::Untidied,
            };
        }
        let start = note.map_or(0, |n| n.start);
        if !dump.uploads_with_parts(&format!("{}{start:020}", self.file_name(partition))).is_subset(orphans) {
            return Phase::PartsUploaded;
        }
        if self.log_end(partition) > note.map_or(0, |n| n.position) { Phase::Open } else { Phase::Idle }
    }

    /// A key as the store knows it.
    pub fn whole_key(&self, below_prefix: &str) -> String {
        format!("{}{below_prefix}", self.prefix)
    }
}

/// The partitions in a member's assignment, of Kafka's `ConsumerProtocolAssignment`: version, topics, user data.
fn assigned(mut bytes: &[u8]) -> Vec<i32> {
    let mut take = |n: usize| {
        let (head, rest) = bytes.split_at_checked(n)?;
        bytes = rest;
        Some(head)
    };
    let mut partitions = Vec::new();
    let mut parse = || {
        take(2)?;
        for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
            let name_len = i16::from_be_bytes(take(2)?.try_into().ok()?);
            take(usize::try_from(name_len).ok()?)?;
            for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
                partitions.push(i32::from_be_bytes(take(4)?.try_into().ok()?));
            }
        }
        Some(())
    };
    parse();
    partitions
}

/// How often each phase was aimed at, and what was hit.
#[derive(Clone, Debug, Default)]
pub struct Hits(BTreeMap<(Phase, Phase), u32>);

impl Hits {
    /// Notes a strike.
    pub fn add(&mut self, aimed: Phase, hit: Phase) {
        *self.0.entry((aimed, hit)).or_default() += 1;
    }

    /// How often a phase was hit.
    pub fn of(&self, hit: Phase) -> u32 {
        self.0.iter().filter(|((_, h), _)| *h == hit).map(|(_, n)| n).sum()
    }

    /// All strikes.
    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }
}

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [Phase::Open, Phase::PartsUploaded, Phase::Pinned, Phase::Published, Phase::Untidied, Phase::Idle];
        write!(f, "{:<16}", "aimed \\ hit")?;
        phases.iter().try_for_each(|p| write!(f, "{:>16}", p.to_string()))?;
        for aimed in phases.iter().filter(|p| self.0.keys().any(|(a, _)| a == *p)) {
            write!(f, "\n{:<16}", aimed.to_string())?;
            phases.iter().try_for_each(|hit| write!(f, "{:>16}", self.0.get(&(*aimed, *hit)).copied().unwrap_or(0)))?;
        }
        write!(f, "\n{:<16}", "all")?;
        phases.iter().try_for_each(|hit| write!(f, "{:>16}", self.of(*hit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_parsed_and_a_torn_one_is_no_panic() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2];
        bytes.extend([0, 0, 0, 3, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(assigned(&bytes), [3, 5]);
        for len in 0..bytes.len() {
            assigned(&bytes[..len]);
        }
    }

    #[test]
    fn hits_are_counted_by_what_was_hit() {
        let mut hits = Hits::default();
        hits.add(Phase::Pinned, Phase::Pinned);
        hits.add(Phase::Open, Phase::Pinned);
        hits.add(Phase::Open, Phase::Open);
        assert_eq!((hits.of(Phase::Pinned), hits.of(Phase::Open), hits.total()), (2, 1, 3));
    }
}
