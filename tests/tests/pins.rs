//! A pin that the group refuses, by each error of step 3 of the commit protocol: nothing of the window becomes visible, and the lane does
//! what the protocol says of that error.
//!
//! The real binary, and the S3 server in this process. The broker is librdkafka's mock cluster, which refuses on demand, as no real
//! coordinator does; each case has one of its own. The mock does not limit metadata, and keeps too little for a multipart window,
//! so the cases that need both run on a real Kafka: there also a pin that is too large to be sent at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use catchment::limits::INTENT_BYTES_MAX;
use catchment_formats::parquet::ParquetDecoder;
use catchment_tests::bed::{Bed, Place, unique};
use catchment_tests::process::Process;
use catchment_tests::s3::{Config, Op, Personality};
use catchment_tests::services::{Kafka, KafkaOptions};
use rdkafka::error::RDKafkaErrorCode as K;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;

/// How long a process may take to come to something: a member that the group disowns waits for its own session, more than once.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

/// Requests that are refused, unless the coordinator is told to take them before: more than any case sends.
const REFUSALS: usize = 500;

const RECORDS: u64 = 100;

/// `offset.metadata.max.bytes` of a broker that nobody has configured.
const BROKER_NOTE_BYTES_MAX: usize = 4_096;

/// Windows close by the clock a second after their first record.
const SETTINGS: [&str; 6] = ["--window", "1s", "--window-by", "arrival", "-X", "heartbeat.interval.ms=500"];

/// As short as the mock takes it: for who is to join again once it is over.
const SHORT_SESSION: &str = "session.timeout.ms=6000";

/// For whose session is not to end, however long the mock, which shares a process with the test, may stand still.
const LONG_SESSION: &str = "session.timeout.ms=20000";

/// A running backup whose lane has made its start commit, and the coordinator that it commits to.
struct Backup {
    process: Process,
    bed: Bed,
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Backup {
    /// Starts one of an empty topic as the member `member`, with this session.
    fn start(member: &str, session: &str) -> Self {
        let cluster = MockCluster::new(1).expect("a loopback port can be had");
        let topic = unique("pins");
        cluster.create_topic(&topic, 1, 1).expect("the mock makes topics");
        let bed = Bed::of_topic(&cluster.bootstrap_servers(), &topic, 1, Place::in_process());
        let more = [&SETTINGS[..], &["-X", session, "--instance-id", member, "--metrics", "127.0.0.1:0"]].concat();
        let mut this = Self { process: bed.backup(&more).spawn(), bed, cluster };
        this.await_that("the start commit", |this| this.starts() >= 1);
        this
    }

    /// From now on the coordinator answers every commit with `error`; and there are records to be backed up.
    fn refuse(&mut self, error: K) {
        let code = RDKafkaRespErr::try_from(error as i32).expect("a code of the protocol");
        self.cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[code; REFUSALS]);
        self.bed.fill(RECORDS);
    }

    /// How often the lane has begun: each time it writes its anchor.
    fn starts(&self) -> usize {
        let versions = self.bed.place.server().state().versions();
        versions.iter().filter(|(key, _)| key.contains("_catchment/anchors/")).map(|(_, versions)| versions.len()).sum()
    }

    /// How often a commit was sent again, by the process's own metrics.
    fn retries(&mut self) -> u64 {
        const NAME: &str = "catchment_commit_retries_total ";
        let line = self.process.wait_for_stderr("metrics at http://", PATIENCE);
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("the line names the address");
        let mut stream = TcpStream::connect(address).expect("metrics are served");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("a request can be sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer comes");
        let value = text.lines().find_map(|line| line.strip_prefix(NAME)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {NAME:?} in {text}"))
    }

    /// Waits until `reached`, and fails if the process ends first.
    fn await_that(&mut self, what: &str, reached: impl Fn(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            let ended = self.process.poll();
            assert!(ended.is_none() && Instant::now() < deadline, "{what} did not come ({ended:?}): {}", self.process.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Once the coordinator takes commits again, the same process goes on by itself.
    fn goes_on(&mut self) {
        self.cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
        self.bed.await_committed(&mut [&mut self.process], PATIENCE);
    }

    /// Ends the process and leaves the rest, if there is any, to the next run.
    fn assert_complete(self, error: K) {
        let Self { process, bed, cluster: _cluster } = self;
        process.terminate(STOP).assert_code(0);
        assert_all_stored(&bed, error);
    }
}

#[track_caller]
fn assert_nothing_visible(bed: &Bed, error: K) {
    assert_eq!(bed.place.data_keys(""), Vec::<String>::new(), "{error:?}: nothing is visible before its pin");
}

/// Runs to the end, and fails unless then every record is there once, unaltered, in objects that never changed.
#[track_caller]
fn assert_all_stored(bed: &Bed, error: K) {
    bed.backup_all(&[&SETTINGS[..], &["-X", SHORT_SESSION]].concat());
    bed.assert_complete(&format!("{error:?}"));
    assert_eq!(bed.verify("", true)["compared"], RECORDS, "{error:?}");
    assert_eq!(bed.place.server().state().changed_keys(), Vec::<String>::new(), "{error:?}");
}

/// All cases at once: each waits for its own coordinator most of the time.
fn each(errors: &[K], case: impl Fn(K) + Sync) {
    std::thread::scope(|scope| {
        for error in errors {
            scope.spawn(|| case(*error));
        }
    });
}

/// The lane repeats its pin until the coordinator takes it, and is never dropped.
fn is_sent_again(error: K) {
    let mut backup = Backup::start("none", LONG_SESSION);
    backup.refuse(error);
    backup.await_that("a second retry", |backup| backup.retries() >= 2);
    assert_nothing_visible(&backup.bed, error);
    backup.goes_on();
    assert_eq!(backup.starts(), 1, "{error:?}: the lane kept what it had read");
    backup.assert_complete(error);
}

/// The process ends with this exit code and one of these errors; another one that the coordinator does not refuse stores everything.
fn ends_the_process(error: K, member: &str, code: i32, says: &[&str]) {
    let mut backup = Backup::start(member, LONG_SESSION);
    backup.refuse(error);
    let Backup { process, bed, cluster } = backup;
    let exit = process.wait(PATIENCE);
    exit.assert_code(code);
    assert!(says.iter().any(|code| exit.stderr.contains(code)), "{error:?}: none of {says:?} in: {}", exit.stderr);
    assert_nothing_visible(&bed, error);
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    assert_all_stored(&bed, error);
}

#[test]
fn a_member_that_the_group_disowns_drops_its_lane_and_starts_it_again() {
    each(&[K::IllegalGeneration, K::UnknownMemberId, K::StaleMemberEpoch], |error| {
        let mut backup = Backup::start("none", SHORT_SESSION);
        backup.refuse(error);
        backup.await_that("a second new start of the lane", |backup| backup.starts() >= 3);
        assert_nothing_visible(&backup.bed, error);
        backup.goes_on();
        backup.assert_complete(error);
    });
}

#[test]
fn a_pin_refused_while_the_group_rebalances_is_sent_again() {
    is_sent_again(K::RebalanceInProgress);
}

#[test]
fn a_pin_of_unknown_fate_is_sent_again() {
    each(&[K::RequestTimedOut, K::NotCoordinator, K::CoordinatorNotAvailable, K::CoordinatorLoadInProgress], is_sent_again);
}

#[test]
fn a_member_that_is_fenced_ends_the_process() {
    // The client as a whole says so, or the lane, whoever learns of it first.
    ends_the_process(K::FencedInstanceId, "member-1", 6, &["C0205", "C0404"]);
}

#[test]
fn a_pin_refused_for_good_stops_the_lane() {
    let for_the_pin = [K::OffsetMetadataTooLarge, K::InvalidCommitOffsetSize];
    let for_the_principal = [K::GroupAuthorizationFailed, K::TopicAuthorizationFailed];
    let unforeseen = [K::InvalidRequest];
    each(&[&for_the_pin[..], &for_the_principal, &unforeseen].concat(), |error| ends_the_process(error, "none", 1, &["C0403"]));
}

/// Windows that become multipart uploads, by a member whose name the next run takes over at once.
const LARGE: [&str; 6] = ["--window", "1h", "--max-bytes", "80MiB", "--instance-id", "member-1"];

/// The window is pinned without its upload, and nothing is visible before that.
#[track_caller]
fn assert_pinned_without_upload(bed: &Bed, intent: &Value) {
    assert!(intent.get("upload").is_none(), "{intent}");
    let uploads: Vec<_> = bed.place.open_uploads().into_iter().map(|(key, _)| key).collect();
    assert_eq!(uploads, [intent["key"].as_str().expect("a key")]);
    assert_eq!(bed.place.data_keys(""), Vec::<String>::new());
}

/// Whoever has pinned a window without its upload completes that upload all the same.
fn completes_what_it_pinned_without_its_upload(bed: &Bed) {
    bed.place.refuse_data();
    let mut process = bed.backup(&LARGE).spawn();
    let intent = bed.await_intent(&mut process);
    assert_pinned_without_upload(bed, &intent);
    bed.place.accept_data();
    process.wait_for_stdout(&bed.topic, PATIENCE);
    process.terminate(STOP).assert_code(0);
    assert!(bed.place.open_uploads().is_empty(), "the upload became the object");
    bed.backup_all(&LARGE);
    bed.assert_complete("pinned without an upload");
}

#[test]
fn a_multipart_pin_that_the_broker_finds_too_large_is_sent_without_its_upload() {
    // An intent of this test has some 230 bytes, and 90 more with its upload.
    let limit = ("offset.metadata.max.bytes".to_owned(), "285".to_owned());
    let kafka = Kafka::start(KafkaOptions { properties: vec![limit], ..KafkaOptions::default() });
    let mut bed = Bed::new(kafka.bootstrap(), 1, Place::in_process());
    bed.fill_large(300);
    completes_what_it_pinned_without_its_upload(&bed);
}

/// A store whose upload ids make an intent larger than any that is sent, and a broker that would take it.
fn long_upload_ids() -> Bed {
    let config = Config { upload_id_bytes: INTENT_BYTES_MAX, ..Config::new(Personality::Minio) };
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process_like(config));
    bed.fill_large(300);
    bed
}

#[test]
fn a_multipart_pin_larger_than_any_that_is_sent_goes_without_its_upload() {
    completes_what_it_pinned_without_its_upload(&long_upload_ids());
}

#[test]
fn a_window_pinned_without_its_upload_is_read_again_when_its_owner_is_dead() {
    let bed = long_upload_ids();
    let intent = bed.leave_intent(&LARGE);
    assert_pinned_without_upload(&bed, &intent);
    let orphans = bed.place.open_uploads();
    let note_bytes = intent.to_string().len() + orphans[0].1.len();
    assert!((INTENT_BYTES_MAX..BROKER_NOTE_BYTES_MAX - 200).contains(&note_bytes), "the broker would have taken it: {note_bytes}");
    let before = bed.place.server().state().log().len();
    bed.backup_all(&LARGE);
    let completed = bed.place.server().state().log().split_off(before).into_iter();
    let completed: Vec<_> = completed.filter(|r| r.op == Op::CompleteMultipartUpload && intent["key"] == r.key).collect();
    assert!(completed.len() == 1 && completed[0].upload != Some(orphans[0].1.clone()), "an upload of its own: {completed:?}");
    let decoder = ParquetDecoder::new(bed.place.get(&completed[0].key)).expect("the pinned format");
    let range = decoder.proof().range;
    assert_eq!((Some(range.start), Some(range.end)), (intent["S"].as_i64(), intent["E"].as_i64()), "exactly what was pinned");
    assert_eq!(bed.place.open_uploads(), orphans, "young ones may be alive");
    bed.assert_complete("read again");
}
