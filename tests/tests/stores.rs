//! Every store does what the trait says: memory, files, and S3 services of each personality and guard class. And what the S3
//! store makes of a service that misbehaves, and with whose credentials it comes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catchment::clock::SystemClock;
use catchment::commit::control::{self, Owner};
use catchment::store::file::FileStore;
use catchment::store::key::{ControlKeys, Layout, TopicName};
use catchment::store::memory::MemoryStore;
use catchment::store::open::{Env, GivenCredentials, OpenOptions, open};
use catchment::store::probe::{self, GuardClasses};
use catchment::store::{Guard, GuardClass, Metadata, ObjectStore, Payload, StoreErrorKind};
use catchment_tests::bed::{Place, RUN_LIMIT};
use catchment_tests::bucket::Bucket;
use catchment_tests::process::Program;
use catchment_tests::s3::{Answer, Config, Fault, Op, Personality, Request, S3Server};
use catchment_tests::services::Minio;
use catchment_tests::store_conformance::Subject;

use GuardClass::{A, B, C};

const PERSONALITIES: [Personality; 3] = [Personality::Aws, Personality::Cos, Personality::Minio];

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
    Subject { reopened: Arc::clone(&store), store, put: A, complete: A, page_entries_max: 1000 }.conforms().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_conform() {
    let directory = tempfile::tempdir().unwrap();
    let opened = || Arc::new(FileStore::open(directory.path()).unwrap());
    Subject { store: opened(), reopened: opened(), put: A, complete: A, page_entries_max: 1000 }.conforms().await;
    let measured = probe::measure(&(opened() as Arc<dyn ObjectStore>)).await.unwrap();
    assert_eq!(measured, GuardClasses { put: A, complete: A, forgets_completed: true });
}

/// The harness's MinIO, or the one that its variables name.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_minio_conforms() {
    let (endpoint, options, bucket) = tokio::task::spawn_blocking(|| {
        let minio = Minio::shared();
        let (access_key, secret_key) = minio.keys();
        let credentials = GivenCredentials { access_key: access_key.into(), secret_key: secret_key.into(), session_token: None };
        let bucket = Bucket::create(minio, &format!("conformance-{:08x}", fastrand::u32(..)));
        let options = OpenOptions { credentials: Some(credentials), ..OpenOptions::default() };
        (minio.endpoint().to_owned(), options, bucket.name().to_owned())
    })
    .await
    .unwrap();
    for more in ["", "&payload=unsigned", "&checksum=md5", "&checksum=none"] {
        let url = format!("s3://{bucket}/conformance-{:08x}/?endpoint={endpoint}{more}", fastrand::u32(..));
        let (store, reopened) = (open(&url, &options).await.unwrap(), open(&url, &options).await.unwrap());
        let measured = probe::measure(&store).await.unwrap();
        println!("MinIO {more:?}: {measured:?}");
        assert_eq!(measured, GuardClasses { put: A, complete: A, forgets_completed: true });
        Subject { store, reopened, put: A, complete: A, page_entries_max: 1000 }.conforms().await;
    }
}

/// Runs the suite and the probe against a server; the probe must find `expected`.
async fn conforms(config: Config, options: &str, expected: (GuardClass, GuardClass)) {
    // Small pages: every listing, of parts and uploads too, crosses one.
    let config = Config { page_entries_max: 2, ..config };
    let guards = config.guards;
    let server = S3Server::start(config.clone()).await.unwrap();
    let url = server.url("kafka/prod/", options);
    let (store, reopened) = (open(&url, &server.options()).await.unwrap(), open(&url, &server.options()).await.unwrap());
    let measured = probe::measure(&store).await.unwrap();
    println!("{:?} {guards:?} {options:?}: {measured:?}", config.personality);
    assert_eq!((measured.put, measured.complete), expected, "{config:?} {options:?}");
    Subject { store, reopened, put: guards.put, complete: guards.complete, page_entries_max: 2 }.conforms().await;
    assert!(server.state().versions().keys().all(|key| key.starts_with("kafka/prod/")), "a key outside the prefix");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_conform_in_every_class_and_the_probe_finds_it() {
    for personality in PERSONALITIES {
        for (put, complete) in [(A, A), (B, B), (C, C), (A, C), (C, A), (B, A)] {
            // COS has a guard that nobody documents as atomic: it is B at best, whatever a race shows.
            let cap = |class: GuardClass| if personality == Personality::Cos { class.max(B) } else { class };
            conforms(Config::new(personality).guards(put, complete), "", (cap(put), cap(complete))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_conform_with_every_option() {
    for options in ["payload=unsigned", "checksum=md5", "checksum=none", "style=virtual"] {
        conforms(Config::new(Personality::Aws), options, (A, A)).await;
    }
    conforms(Config::new(Personality::Cos), "payload=unsigned", (B, B)).await;
    conforms(Config { cos_crc: false, cos_metadata: true, ..Config::new(Personality::Cos) }, "", (B, B)).await;
    // No guard is sent, so a service of class A behaves like one of class C.
    let unguarded = Config::new(Personality::Minio).guards(C, C);
    conforms(unguarded, "guard=none", (C, C)).await;
}

/// A server with a store on it that repeats quickly.
async fn service(config: Config) -> (S3Server, Arc<dyn ObjectStore>) {
    let server = S3Server::start(config).await.unwrap();
    let store = store_of(&server, Duration::from_secs(20)).await;
    (server, store)
}

/// A store that repeats quickly, and gives a request up after this time.
async fn store_of(server: &S3Server, patience: Duration) -> Arc<dyn ObjectStore> {
    let mut options = server.options();
    options.retry.pause_first = Duration::from_millis(1);
    options.retry.pause_max = Duration::from_millis(5);
    (options.request_timeout, options.complete_timeout) = (patience, patience);
    open(&server.url("", ""), &options).await.unwrap()
}

fn requests(server: &S3Server, op: Op) -> usize {
    server.state().log().iter().filter(|logged| logged.op == op).count()
}

async fn put(store: &Arc<dyn ObjectStore>, key: &str) -> Result<String, StoreErrorKind> {
    store.put(key, Payload::from_bytes("x"), &Metadata::new(), Guard::IfAbsent).await.map_err(|e| e.kind)
}

/// Opens an upload with one part and sends its Complete.
async fn complete(store: &Arc<dyn ObjectStore>, key: &str) -> Result<String, StoreErrorKind> {
    let id = store.create_upload(key, &Metadata::new(), Guard::IfAbsent).await.unwrap();
    let part = store.upload_part(key, &id, 1, Payload::from_bytes("x")).await.unwrap();
    store.complete_upload(key, &id, &[part], Guard::IfAbsent).await.map_err(|e| e.kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_sent_once_and_say_what_became_of_them() {
    use StoreErrorKind::{Conflict, Denied, Exists, Invalid, NotFound, Unknown};
    let cases = [
        (Fault::refused(500, "InternalError"), Unknown),
        (Fault::done_but(500, "InternalError"), Unknown),
        (Fault::refused(503, "SlowDown"), Unknown),
        (Fault::refused(520, ""), Unknown),
        (Fault::refused(408, ""), Unknown),
        (Fault::refused(429, "TooManyRequests"), Unknown),
        (Fault::refused(400, "RequestTimeout"), Unknown),
        (Fault::reset(false), Unknown),
        (Fault::reset(true), Unknown),
        (Fault { after: Duration::from_secs(2), ..Fault::default() }, Unknown),
        (Fault::refused(412, "PreconditionFailed"), Exists),
        (Fault::refused(409, "FileAlreadyExists"), Exists),
        (Fault::refused(409, "ConditionalRequestConflict"), Conflict),
        (Fault::refused(403, "AccessDenied"), Denied),
        (Fault::refused(400, "ExpiredToken"), Denied),
        (Fault::refused(403, "RequestTimeTooSkewed"), Denied),
        (Fault::refused(404, "NoSuchBucket"), NotFound),
        (Fault::refused(400, "InvalidArgument"), Invalid),
    ];
    for personality in PERSONALITIES {
        let (server, patient) = service(Config::new(personality)).await;
        let impatient = store_of(&server, Duration::from_millis(700)).await;
        for (n, (fault, expected)) in cases.iter().enumerate() {
            let store = if fault.after.is_zero() { &patient } else { &impatient };
            for op in [Op::PutObject, Op::CompleteMultipartUpload] {
                let (key, fault) = (format!("{op:?}/{n}"), fault.clone());
                server.state().set_faults(move |request| if request.op == op { fault.clone() } else { Fault::default() });
                let before = requests(&server, op);
                let result = if op == Op::PutObject { put(store, &key).await } else { complete(store, &key).await };
                assert_eq!(result, Err(*expected), "{personality:?} {op:?} {:?}", cases[n].0);
                // A request that timed out is logged when its answer is due.
                server.state().set_faults(|_| Fault::default());
                let deadline = Instant::now() + Duration::from_secs(60);
                while requests(&server, op) == before && Instant::now() < deadline {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(requests(&server, op), before + 1, "{personality:?} {op:?} {:?}", cases[n].0);
                let visible = store.head(&key).await.unwrap().is_some();
                // COS answers first and works then, so a Complete may take effect a little later than its log line.
                let late = personality == Personality::Cos && op == Op::CompleteMultipartUpload;
                assert!(late || visible == cases[n].0.effect, "{personality:?} {op:?} {:?}", cases[n].0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_is_done_only_if_its_body_says_so() {
    use StoreErrorKind::{Exists, NoSuchUpload, Unknown};
    for personality in PERSONALITIES {
        let (server, store) = service(Config::new(personality)).await;
        let answers = [
            (Answer::Garbage, Unknown),
            (Answer::LateError("InternalError".into()), Unknown),
            (Answer::LateError("SlowDown".into()), Unknown),
            (Answer::LateError("InvalidPart".into()), NoSuchUpload),
            (Answer::LateError("FileAlreadyExists".into()), Exists),
        ];
        for (n, (answer, expected)) in answers.into_iter().enumerate() {
            let shown = answer.clone();
            server.state().set_faults(move |request| match request.op {
                Op::CompleteMultipartUpload => Fault { answer: answer.clone(), ..Fault::default() },
                _ => Fault::default(),
            });
            assert_eq!(complete(&store, &format!("late/{n}")).await, Err(expected), "{personality:?} {shown:?}");
        }
    }
}

/// Something between here and the service answers 200 with a page of its own. No request has become of it what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_200_without_an_etag_is_no_success() {
    for personality in PERSONALITIES {
        let (server, store) = service(Config::new(personality)).await;
        put(&store, "there").await.unwrap();
        let id = store.create_upload("upload", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        server.state().set_faults(|_| Fault::answered(false, Answer::Garbage));
        let part = store.upload_part("upload", &id, 1, Payload::from_bytes("x")).await;
        let answers = [
            put(&store, "new").await.map(drop),
            part.map(drop).map_err(|e| e.kind),
            complete_of(&store, &id).await,
            store.head("there").await.map(drop).map_err(|e| e.kind),
            store.get("there", None).await.map(drop).map_err(|e| e.kind),
        ];
        assert_eq!(answers, [Err(StoreErrorKind::Unknown); 5], "{personality:?}");
        server.state().set_faults(|_| Fault::default());
        assert_eq!(store.head("new").await.unwrap(), None, "nothing was stored");
    }
}

/// As something between here and the service may answer it. An object of no length would be one that was cut off.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_an_object_whose_head_has_no_length_is_read() {
    for personality in PERSONALITIES {
        let (server, store) = service(Config::new(personality)).await;
        put(&store, "there").await.unwrap();
        store.put("empty", Payload::from_bytes(""), &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let no_length = |request: &Request| (request.op == Op::HeadObject).then(|| Fault::answered(true, Answer::NoLength));
        server.state().set_faults(move |request| no_length(request).unwrap_or_default());
        let sizes = [store.head("there").await, store.head("empty").await].map(|found| found.unwrap().map(|info| info.size));
        assert_eq!(sizes, [Some(1), Some(0)], "{personality:?}");
        assert_eq!(store.head("absent").await.unwrap(), None);
        server.state().set_faults(move |request| no_length(request).unwrap_or_else(|| Fault::refused(404, "NoSuchKey")));
        assert_eq!(store.head("there").await.unwrap_err().kind, StoreErrorKind::Unknown, "{personality:?}: two answers that contradict");
    }
}

async fn complete_of(store: &Arc<dyn ObjectStore>, id: &str) -> Result<(), StoreErrorKind> {
    let part = catchment::store::Part { number: 1, size: 1, etag: "0".repeat(32) };
    store.complete_upload("upload", id, &[part], Guard::IfAbsent).await.map(drop).map_err(|e| e.kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn harmless_requests_are_repeated() {
    let ops = [
        Op::HeadObject,
        Op::GetObject,
        Op::ListObjects,
        Op::CreateMultipartUpload,
        Op::UploadPart,
        Op::ListParts,
        Op::ListMultipartUploads,
    ];
    for fault in [Fault::refused(503, "SlowDown"), Fault::reset(true), Fault::refused(500, "InternalError")] {
        let (server, store) = service(Config::new(Personality::Aws)).await;
        put(&store, "a").await.unwrap();
        // Each operation fails three times before it succeeds.
        let seen: Vec<AtomicU64> = ops.iter().map(|_| AtomicU64::new(0)).collect();
        server.state().set_faults(move |request| match ops.iter().position(|op| *op == request.op) {
            Some(n) if seen[n].fetch_add(1, Ordering::SeqCst) < 3 => fault.clone(),
            _ => Fault::default(),
        });
        assert_eq!(store.head("a").await.unwrap().unwrap().size, 1);
        assert_eq!(store.get("a", None).await.unwrap(), Some(Bytes::from("x")));
        assert_eq!(store.list("", false, None).await.unwrap().objects.len(), 1);
        let id = store.create_upload("b", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let part = store.upload_part("b", &id, 1, Payload::from_bytes("y")).await.unwrap();
        assert_eq!(store.list_parts("b", &id).await.unwrap(), std::slice::from_ref(&part));
        assert!(store.list_uploads("b").await.unwrap().iter().any(|upload| upload.id == id));
        store.complete_upload("b", &id, &[part], Guard::IfAbsent).await.unwrap();
        for op in ops {
            assert_eq!(requests(&server, op), 4, "{op:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repetition_ends_and_says_how_often_it_tried() {
    let (server, store) = service(Config::new(Personality::Aws)).await;
    server.state().set_faults(|_| Fault::refused(503, "SlowDown"));
    let error = store.head("a").await.unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unknown, 8));
    server.state().set_denied(true);
    let error = store.head("a").await.unwrap_err();
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Denied, 1), "403 is never an absent object");
    server.state().set_denied(false);
    server.state().set_faults(|_| Fault::refused(400, ""));
    assert_eq!(store.head("a").await.unwrap_err().kind, StoreErrorKind::Denied, "how AWS answers a HEAD with an expired token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_for_a_moment_is_waited_for() {
    let (server, store) = service(Config::new(Personality::Minio)).await;
    put(&store, "a").await.unwrap();
    let stopped = server.stop().await;
    assert_eq!(put(&store, "b").await, Err(StoreErrorKind::Unknown));
    let options = OpenOptions { credentials: Some(test_credentials()), ..OpenOptions::default() };
    let restarted = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stopped.start().await.unwrap()
    });
    // The usual policy waits for up to a minute, not for the few milliseconds of these tests.
    let url = format!("s3://bucket/?endpoint=http://{}", address_of(&store));
    let patient = open(&url, &options).await.unwrap();
    assert_eq!(patient.get("a", None).await.unwrap(), Some(Bytes::from("x")));
    drop(restarted.await.unwrap());
}

fn test_credentials() -> GivenCredentials {
    GivenCredentials { access_key: "test".into(), secret_key: "test".into(), session_token: None }
}

fn address_of(store: &Arc<dyn ObjectStore>) -> String {
    let identity = store.identity();
    identity.trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn cos_checksums_take_the_place_of_md5_and_are_compared() {
    let (server, store) = service(Config::new(Personality::Cos)).await;
    put(&store, "first").await.unwrap();
    put(&store, "second").await.unwrap();
    let with_md5 = |server: &S3Server| server.state().log().iter().map(|logged| logged.md5).collect::<Vec<_>>();
    assert_eq!(with_md5(&server), [true, false], "MD5 until a reply has shown COS's own sum");

    // One reply names another sum: the object is written again, without the guard and with an MD5.
    let faults = AtomicU64::new(0);
    server.state().set_faults(move |request| match request.op {
        Op::PutObject | Op::UploadPart if faults.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
            Fault { answer: Answer::WrongCrc, ..Fault::default() }
        }
        _ => Fault::default(),
    });
    put(&store, "third").await.unwrap();
    let log = server.state().log();
    let last: Vec<_> = log[log.len() - 2..].iter().map(|l| (l.op, l.guarded, l.md5)).collect();
    assert_eq!(last, [(Op::PutObject, true, false), (Op::PutObject, false, true)]);
    complete(&store, "fourth").await.unwrap();
    assert_eq!(requests(&server, Op::UploadPart), 2);

    server.state().set_faults(|_| Fault { answer: Answer::WrongCrc, ..Fault::default() });
    assert_eq!(put(&store, "fifth").await, Err(StoreErrorKind::Invalid), "a sum that stays wrong stops the lane");

    let is_first = AtomicBool::new(true);
    server.state().set_faults(move |_| {
        if is_first.swap(false, Ordering::SeqCst) { Fault { answer: Answer::WrongCrc, ..Fault::default() } } else { Fault::reset(false) }
    });
    assert_eq!(put(&store, "sixth").await, Err(StoreErrorKind::Unknown), "whether it was mended is not known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cos_reply_without_a_checksum_is_not_believed() {
    let (server, store) = service(Config::new(Personality::Cos)).await;
    put(&store, "first").await.unwrap();
    let sent = |server: &S3Server, from: usize| server.state().log()[from..].iter().map(|l| (l.op, l.guarded, l.md5)).collect::<Vec<_>>();
    let without_sum = |request: &Request| match request.op {
        Op::PutObject | Op::UploadPart => Fault { answer: Answer::NoCrc, ..Fault::default() },
        _ => Fault::default(),
    };
    // From the first reply on no MD5 is sent; then a reply comes without the sum.
    server.state().set_faults(without_sum);
    let before = server.state().log().len();
    put(&store, "second").await.unwrap();
    assert_eq!(sent(&server, before), [(Op::PutObject, true, false), (Op::PutObject, false, true)]);
    let before = server.state().log().len();
    put(&store, "third").await.unwrap();
    assert_eq!(sent(&server, before), [(Op::PutObject, true, true)], "MD5 from the start, until the sum is seen again");

    server.state().set_faults(|_| Fault::default());
    put(&store, "fourth").await.unwrap();
    server.state().set_faults(without_sum);
    let before = server.state().log().len();
    complete(&store, "fifth").await.unwrap();
    let parts: Vec<_> = sent(&server, before).into_iter().filter(|(op, ..)| *op == Op::UploadPart).map(|(.., md5)| md5).collect();
    assert_eq!(parts, [false, true], "a part is sent again at once");

    let unchecked = open(&server.url("", "checksum=none"), &server.options()).await.unwrap();
    let before = server.state().log().len();
    put(&unchecked, "sixth").await.unwrap();
    assert_eq!(sent(&server, before), [(Op::PutObject, true, false)], "as the address asks for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_tells_the_sum_that_cos_has_of_an_object() {
    for personality in PERSONALITIES {
        let (_server, store) = service(Config::new(personality)).await;
        put(&store, "a").await.unwrap();
        complete(&store, "b").await.unwrap();
        let expected = (personality == Personality::Cos).then(|| Payload::from_bytes("x").crc64());
        for key in ["a", "b"] {
            assert_eq!(store.head(key).await.unwrap().unwrap().crc64, expected, "{personality:?} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_breaks_off_is_not_the_end_of_a_listing() {
    let (server, store) = service(Config::new(Personality::Aws)).await;
    put(&store, "a").await.unwrap();
    let id = store.create_upload("b", &Metadata::new(), Guard::IfAbsent).await.unwrap();
    let kinds = async || {
        [
            store.list("", false, None).await.map(drop).map_err(|e| e.kind),
            store.list_parts("b", &id).await.map(drop).map_err(|e| e.kind),
            store.list_uploads("b").await.map(drop).map_err(|e| e.kind),
        ]
    };
    assert_eq!(kinds().await, [Ok(()); 3]);
    server.state().set_faults(|_| Fault { answer: Answer::BrokenPage, ..Fault::default() });
    assert_eq!(kinds().await, [Err(StoreErrorKind::Unknown); 3]);
}

/// The guarded write of a claim: what is an answer is returned, what is none is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_what_the_store_says_it_is() {
    let owner = |rule: &str| Owner {
        v: 1,
        rule: rule.to_owned(),
        group: "g".to_owned(),
        cluster: "c".to_owned(),
        topic: "orders".to_owned(),
        topic_id: "0".to_owned(),
        start: [(0, 7)].into(),
        released: false,
    };
    let keys = ControlKeys::new(&Layout::Hive, &TopicName::new("orders"));
    let clock = SystemClock::new();
    for (status, code, expected) in [(403, "AccessDenied", 301), (404, "NoSuchBucket", 302), (400, "InvalidArgument", 304)] {
        let (server, store) = service(Config::new(Personality::Aws)).await;
        server.state().set_faults(move |request| match request.op {
            Op::PutObject => Fault::refused(status, code),
            _ => Fault::default(),
        });
        let error = control::claim(&*store, &clock, &keys, &owner("r"), Guard::IfAbsent, true).await.unwrap_err();
        assert_eq!((error.code.0, requests(&server, Op::PutObject)), (expected, 1), "{error}");
    }
    for fault in [Fault::refused(503, "SlowDown"), Fault::done_but(500, "InternalError"), Fault::reset(true)] {
        let (server, store) = service(Config::new(Personality::Aws)).await;
        let seen = AtomicU64::new(0);
        server.state().set_faults(move |request| match request.op {
            Op::PutObject if seen.fetch_add(1, Ordering::SeqCst) == 0 => fault.clone(),
            _ => Fault::default(),
        });
        assert_eq!(control::claim(&*store, &clock, &keys, &owner("r"), Guard::IfAbsent, true).await.unwrap(), owner("r"));
        assert_eq!(requests(&server, Op::PutObject), 2, "asked again");
        let second = control::claim(&*store, &clock, &keys, &owner("other"), Guard::IfAbsent, true).await.unwrap();
        assert_eq!(second, owner("r"), "the first one stands");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_are_sent_where_the_dialect_wants_them() {
    for personality in PERSONALITIES {
        let (server, store) = service(Config::new(personality)).await;
        put(&store, "a").await.unwrap();
        complete(&store, "b").await.unwrap();
        store.put("c", Payload::from_bytes("x"), &Metadata::new(), Guard::Overwrite).await.unwrap();
        let guarded: Vec<Op> = server.state().log().iter().filter(|l| l.guarded).map(|l| l.op).collect();
        let expected = match personality {
            Personality::Cos => vec![Op::PutObject, Op::CreateMultipartUpload, Op::CompleteMultipartUpload],
            Personality::Aws | Personality::Minio => vec![Op::PutObject, Op::CompleteMultipartUpload],
        };
        assert_eq!(guarded, expected, "{personality:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_an_age_by_the_services_clock() {
    let (server, store) = service(Config::new(Personality::Aws)).await;
    store.create_upload("a", &Metadata::new(), Guard::IfAbsent).await.unwrap();
    server.state().backdate_uploads(Duration::from_secs(7200));
    let age_ms = store.list_uploads("a").await.unwrap()[0].age_ms;
    assert!((7_199_000..7_260_000).contains(&age_ms), "{age_ms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_denied_before_anything_is_sent() {
    let server = S3Server::start(Config::new(Personality::Cos)).await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let metadata = format!("http://{closed}");
    let env = Env::of(&[("CATCHMENT_CVM_METADATA", &metadata)]);
    let store = open(&server.url("", ""), &OpenOptions { env, ..OpenOptions::default() }).await.unwrap();
    assert_eq!(put(&store, "a").await, Err(StoreErrorKind::Denied));
    assert_eq!(server.state().log(), []);

    let env = Env::of(&[("TENCENTCLOUD_SECRET_ID", "id"), ("TENCENTCLOUD_SECRET_KEY", "key")]);
    let store = open(&server.url("", ""), &OpenOptions { env, ..OpenOptions::default() }).await.unwrap();
    put(&store, "a").await.unwrap();
}

/// Access keys and session tokens of what the program asks a server of this kind if these variables are all that it has.
fn carried(personality: Personality, variables: &[(&str, &str)]) -> BTreeSet<(String, Option<String>)> {
    let place = Place::in_process_like(Config::new(personality));
    let exit = Program::new(["ls", &place.server().url("", "")]).envs(variables.iter().copied()).run(RUN_LIMIT);
    exit.assert_code(3); // The bucket is empty, and the program was let in to see it.
    place.server().state().log().into_iter().map(|logged| (logged.access_key, logged.session_token)).collect()
}

/// The metadata service of a CVM instance with one role. Serves until the tests end.
fn cvm_metadata() -> String {
    const ROLE: &str = r#"{"TmpSecretId":"role-id","TmpSecretKey":"key","ExpiredTime":4102444800,"Token":"role-token","Code":"Success"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port can be had");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let of_role = request.first().is_some_and(|line| line.contains("/security-credentials/writer "));
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}", if of_role { ROLE } else { "writer" });
        }
    });
    format!("http://{address}")
}

#[test]
fn requests_carry_the_credentials_that_the_environment_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let profile = |name: &str| format!("[{name}]\naws_access_key_id = {name}-id\naws_secret_access_key = key\n");
    let (none, profiles) = (file("none", ""), file("profiles", &(profile("default") + &profile("backup"))));
    let metadata = cvm_metadata();
    let aws = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_SESSION_TOKEN", "token")];
    let tencent = [("TENCENTCLOUD_SECRET_ID", "id"), ("TENCENTCLOUD_SECRET_KEY", "key")];
    for (personality, variables, access_key, token) in [
        (Personality::Aws, &[("AWS_SHARED_CREDENTIALS_FILE", &*profiles)][..], "default-id", None),
        (Personality::Aws, &[("AWS_SHARED_CREDENTIALS_FILE", &profiles), ("AWS_PROFILE", "backup")], "backup-id", None),
        (Personality::Aws, &aws, "id", Some("token")),
        (Personality::Cos, &tencent, "id", None),
        (Personality::Cos, &[tencent[0], tencent[1], ("TENCENTCLOUD_TOKEN", "token")], "id", Some("token")),
        (Personality::Cos, &[tencent[0], tencent[1], ("TENCENTCLOUD_SESSION_TOKEN", "token")], "id", Some("token")),
        (Personality::Cos, &aws, "id", Some("token")),
        (Personality::Cos, &[("CATCHMENT_CVM_METADATA", &metadata)], "role-id", Some("role-token")),
    ] {
        // Whoever runs the tests may have files of his own.
        let files = [("AWS_SHARED_CREDENTIALS_FILE", &*none), ("AWS_CONFIG_FILE", &none)];
        let found = carried(personality, &[&files, variables].concat());
        assert_eq!(found, [(access_key.to_owned(), token.map(str::to_owned))].into(), "{personality:?} {variables:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bucket_is_a_clear_error() {
    let (server, _) = service(Config::new(Personality::Aws)).await;
    let url = format!("s3://other/?endpoint=http://{}", server.address());
    let store = open(&url, &server.options()).await.unwrap();
    let error = store.list("", false, None).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NotFound);
    let shown = catchment::Error::from(error).to_string();
    assert!(shown.contains("NoSuchBucket") && shown.contains("C0302"), "{shown}");
    assert_eq!(put(&store, "a").await, Err(StoreErrorKind::NotFound));
    assert_eq!(store.get("a", None).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

/// A body moves at the service's pace, and its time-out grows with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_is_not_given_up() {
    let (server, store) = service(Config::new(Personality::Aws)).await;
    server.state().set_rate(256 << 10);
    let begun = Instant::now();
    let body = Payload::from_bytes(vec![7; 512 << 10]);
    store.put("slow", body, &Metadata::new(), Guard::IfAbsent).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
}

/// An operator reads these: one line that says what happened, without the dump of a program's innards.
#[tokio::test(flavor = "multi_thread")]
async fn errors_read_well() {
    let (server, _) = service(Config::new(Personality::Aws)).await;
    let options = OpenOptions { retry: catchment::store::retry::RetryPolicy::ONCE, ..server.options() };
    let at = |endpoint: &str| format!("s3://bucket/?endpoint=http://{endpoint}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let detail = |url: String, options: OpenOptions| async move { open(&url, &options).await.unwrap().head("a").await.unwrap_err().detail };
    let refused = detail(at(&closed), options.clone()).await;
    let unresolved = detail("s3://bucket/?style=path&endpoint=http://nowhere.invalid".into(), options.clone()).await;
    server.state().set_denied(true);
    let denied = open(&at(&server.address().to_string()), &options).await.unwrap().get("a", None).await.unwrap_err().detail;
    let keyless = OpenOptions { credentials: None, ..options };
    let metadata = Env::of(&[("CATCHMENT_CVM_METADATA", &format!("http://{closed}"))]);
    let no_keys = detail("cos://bucket-1250000000/?region=ap-guangzhou".into(), OpenOptions { env: metadata, ..keyless }).await;
    for (text, expected) in
        [(&refused, "Connection refused"), (&unresolved, "dns"), (&denied, "HTTP 403 AccessDenied"), (&no_keys, "credentials")]
    {
        println!("{text}");
        assert!(text.to_lowercase().contains(&expected.to_lowercase()), "{text}");
        assert!(text.len() < 500 && !text.contains('\n') && !text.contains(" {"), "{text}");
    }
}
