//! What every [`ObjectStore`] does, as one suite: memory, files, and each kind of S3 service pass the same functions.
//!
//! A [`Subject`] is a store with the guard classes that are expected of it; classes change what a guarded write of a taken key
//! answers, and nothing else. Each check uses keys of its own, so that all of them can share one store.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use catchment::store::{Guard, GuardClass, Metadata, ObjectStore, Part, Payload, StoreErrorKind, StoreResult};

/// Writers of a race.
const RACERS: usize = 8;

/// A store and what is expected of it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The same destination, opened anew, as another process would have it.
    pub reopened: Arc<dyn ObjectStore>,
    /// Class of PutObject's guard.
    pub put: GuardClass,
    /// Class of CompleteMultipartUpload's guard.
    pub complete: GuardClass,
    /// Entries of the largest page of a listing, so that the listing check crosses a page.
    pub page_entries_max: usize,
}

impl Subject {
    /// Runs every check.
    pub async fn conforms(&self) {
        self.objects_round_trip().await;
        self.ranges_are_cut().await;
        self.bodies_of_many_chunks_arrive_whole().await;
        self.overwriting_replaces().await;
        self.guarded_puts_spare_what_exists().await;
        self.racing_puts_follow_the_class().await;
        self.listings_are_ordered_and_paged().await;
        self.listings_show_directories().await;
        self.uploads_complete().await;
        self.uploads_are_finished_by_another_process().await;
        self.parts_can_be_replaced_and_listed().await;
        self.missing_uploads_are_named_so().await;
        self.wrong_parts_complete_nothing().await;
        self.completing_twice_changes_nothing().await;
        self.guarded_completes_spare_what_exists().await;
        self.racing_completes_follow_the_class().await;
        self.uploads_can_be_aborted().await;
        self.uploads_are_listed_by_exact_key().await;
        self.keys_of_every_layout_work().await;
        self.invalid_requests_are_refused().await;
    }

    async fn objects_round_trip(&self) {
        let s = &self.store;
        let metadata = self.metadata(&[("lane", "r/c/t/0/3"), ("range", "[0,7)"), ("proof-v", "{\"a\":1, \"b\":\"x y\"}")]);
        assert_eq!(s.head("rt/a").await.unwrap(), None);
        assert_eq!(s.get("rt/a", None).await.unwrap(), None);
        let etag = s.put("rt/a", text("hello"), &metadata, Guard::IfAbsent).await.unwrap();
        let head = s.head("rt/a").await.unwrap().unwrap();
        let mut expected = metadata.clone();
        expected.sort();
        assert_eq!((head.key.as_str(), head.size, &head.etag, &head.metadata), ("rt/a", 5, &etag, &expected));
        assert!(head.crc64.is_none_or(|crc| crc == text("hello").crc64()), "a sum that a service tells is that of the bytes");
        assert_eq!(self.read("rt/a").await, "hello");
        s.put("rt/empty", Payload::default(), &Metadata::new(), Guard::IfAbsent).await.unwrap();
        assert_eq!(s.head("rt/empty").await.unwrap().unwrap().size, 0);
        assert_eq!(s.get("rt/empty", None).await.unwrap(), Some(Bytes::new()));
    }

    async fn ranges_are_cut(&self) {
        self.put("range/a", "0123456789").await.unwrap();
        let cases = [(0..4, "0123"), (8..10, "89"), (8..100, "89"), (10..20, ""), (50..60, ""), (3..3, "")];
        for (range, expected) in cases {
            let got = self.store.get("range/a", Some(range.clone())).await.unwrap();
            assert_eq!(got, Some(Bytes::from(expected)), "{range:?}");
        }
        assert_eq!(self.store.get("range/none", Some(0..4)).await.unwrap(), None);
        assert_eq!(self.store.get("range/none", Some(4..4)).await.unwrap(), None);
    }

    async fn bodies_of_many_chunks_arrive_whole(&self) {
        // Sizes around those that clients treat apart: none, one byte, a page, more than a socket's buffer.
        let chunks = [0, 1, 4096, 65_537, 0, 3 << 20].map(|n| pattern(n, 7)).to_vec();
        let whole = chunks.concat();
        let payload = Payload::new(chunks, crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &whole));
        self.store.put("chunks/a", payload, &Metadata::new(), Guard::IfAbsent).await.unwrap();
        assert!(self.read("chunks/a").await == whole, "the body changed");
    }

    async fn overwriting_replaces(&self) {
        let one = self.store.put("over/a", text("one"), &Metadata::new(), Guard::Overwrite).await.unwrap();
        let two = self.store.put("over/a", text("two!"), &Metadata::new(), Guard::Overwrite).await.unwrap();
        assert_ne!(one, two);
        assert_eq!(self.read("over/a").await, "two!");
        assert_eq!(self.store.head("over/a").await.unwrap().unwrap().etag, two);
    }

    async fn guarded_puts_spare_what_exists(&self) {
        self.put("guard/a", "first").await.unwrap();
        let second = self.put("guard/a", "second").await;
        self.expect_guarded(self.put, second, "guard/a", "first", "second").await;
    }

    async fn racing_puts_follow_the_class(&self) {
        for round in 0..3 {
            let key = format!("race-put/{round}");
            let racers = (0..RACERS).map(|n| {
                let (subject, key) = (self.clone(), key.clone());
                tokio::spawn(async move { subject.put(&key, &racer(n)).await })
            });
            self.expect_race(self.put, &key, join(racers).await).await;
        }
    }

    async fn listings_are_ordered_and_paged(&self) {
        let count = self.page_entries_max + 5;
        let expected: BTreeSet<String> = (0..count).map(|n| format!("list/{}/{n:05}", n % 3)).collect();
        let mut keys = expected.iter().cloned().collect::<Vec<_>>();
        fastrand::Rng::with_seed(1).shuffle(&mut keys);
        for some in keys.chunks(16) {
            let writes = some.iter().cloned().map(|key| {
                let subject = self.clone();
                tokio::spawn(async move { subject.put(&key, "x").await })
            });
            join(writes).await.into_iter().for_each(|result| drop(result.unwrap()));
        }
        let listed = self.list_all("list/", false).await.0;
        assert_eq!(listed, expected.iter().cloned().collect::<Vec<_>>());
        let after = "list/1/00001";
        let rest = self.store.list("list/1/", false, Some(after)).await.unwrap();
        assert!(rest.objects.iter().all(|o| o.key.as_str() > after && o.key.starts_with("list/1/") && o.size == 1));
        assert_eq!(rest.objects[0].key, "list/1/00004");
        assert_eq!(self.store.list("list/nothing", false, None).await.unwrap().objects, []);
        assert_eq!(self.list_all("list/", true).await.1, ["list/0/", "list/1/", "list/2/"]);
    }

    async fn listings_show_directories(&self) {
        for key in ["dir/a", "dir/a.b/1", "dir/a/1", "dir/b/1/2", "dir/b/3", "dir/c", "dir0/x"] {
            // "dir/a" is no file where "dir/a/1" makes it a directory: such keys are not ours, and files cannot hold both.
            if key != "dir/a" {
                self.put(key, "x").await.unwrap();
            }
        }
        let (objects, directories) = self.list_all("dir/", true).await;
        assert_eq!((objects, directories), (vec!["dir/c".to_owned()], vec!["dir/a.b/".into(), "dir/a/".into(), "dir/b/".into()]));
        let (objects, directories) = self.list_all("dir/b", false).await;
        assert_eq!((objects, directories), (vec!["dir/b/1/2".to_owned(), "dir/b/3".into()], vec![]));
        let after = self.store.list("dir/", true, Some("dir/a/")).await.unwrap();
        assert_eq!(after.directories, ["dir/b/"]);
        let top = self.list_all("di", true).await.1;
        assert_eq!(top, ["dir/", "dir0/"]);
    }

    async fn uploads_complete(&self) {
        let s = &self.store;
        let metadata = self.metadata(&[("lane", "x")]);
        let id = s.create_upload("mp/a", &metadata, Guard::IfAbsent).await.unwrap();
        // Not in order: an upload's parts go in parallel.
        let two = s.upload_part("mp/a", &id, 2, Payload::from_bytes(pattern(1000, 2))).await.unwrap();
        let one = s.upload_part("mp/a", &id, 1, Payload::from_bytes(pattern(self.part_size(), 1))).await.unwrap();
        assert_eq!((one.number, one.size, two.number, two.size), (1, self.part_size() as u64, 2, 1000));
        assert_eq!(s.head("mp/a").await.unwrap(), None, "visible before Complete");
        assert_eq!(s.list_parts("mp/a", &id).await.unwrap(), [one.clone(), two.clone()]);
        let etag = s.complete_upload("mp/a", &id, &[one, two], Guard::IfAbsent).await.unwrap();
        let head = s.head("mp/a").await.unwrap().unwrap();
        assert_eq!((head.size, head.etag, head.metadata), (self.part_size() as u64 + 1000, etag, metadata));
        assert!(self.read("mp/a").await == [pattern(self.part_size(), 1), pattern(1000, 2)].concat(), "the body changed");
        assert_eq!(s.list_uploads("mp/a").await.unwrap(), []);
    }

    async fn uploads_are_finished_by_another_process(&self) {
        for lists_first in [true, false] {
            let key = format!("other/{lists_first}");
            let (id, part) = self.upload(&key, "x").await;
            if lists_first {
                assert_eq!(self.reopened.list_parts(&key, &id).await.unwrap(), std::slice::from_ref(&part));
            }
            self.reopened.complete_upload(&key, &id, &[part], Guard::IfAbsent).await.unwrap();
            assert_eq!(self.read(&key).await, "x");
        }
    }

    async fn parts_can_be_replaced_and_listed(&self) {
        let s = &self.store;
        let id = s.create_upload("replace/a", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let mut parts = Vec::new();
        for number in 1..=3 {
            s.upload_part("replace/a", &id, number, Payload::from_bytes(pattern(self.part_size(), 9))).await.unwrap();
            parts
                .push(s.upload_part("replace/a", &id, number, Payload::from_bytes(pattern(self.part_size(), number as u8))).await.unwrap());
        }
        assert_eq!(s.list_parts("replace/a", &id).await.unwrap(), parts);
        s.complete_upload("replace/a", &id, &parts, Guard::IfAbsent).await.unwrap();
        let expected = [1, 2, 3].map(|seed| pattern(self.part_size(), seed)).concat();
        assert!(self.read("replace/a").await == expected, "not the latest parts");
    }

    async fn missing_uploads_are_named_so(&self) {
        let s = &self.store;
        let id = s.create_upload("gone/a", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let part = s.upload_part("gone/a", &id, 1, text("x")).await.unwrap();
        s.abort_upload("gone/a", &id).await.unwrap();
        let kinds = [
            s.upload_part("gone/a", &id, 1, text("x")).await.unwrap_err().kind,
            s.list_parts("gone/a", &id).await.unwrap_err().kind,
            s.complete_upload("gone/a", &id, &[part], Guard::IfAbsent).await.unwrap_err().kind,
        ];
        assert_eq!(kinds, [StoreErrorKind::NoSuchUpload; 3]);
        assert_eq!(s.head("gone/a").await.unwrap(), None);
    }

    async fn wrong_parts_complete_nothing(&self) {
        let s = &self.store;
        let id = s.create_upload("wrong/a", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let one = s.upload_part("wrong/a", &id, 1, text("x")).await.unwrap();
        let changed = Part { etag: "0123456789abcdef0123456789abcdef".into(), ..one.clone() };
        let kind = s.complete_upload("wrong/a", &id, &[changed], Guard::IfAbsent).await.unwrap_err().kind;
        assert_eq!(kind, StoreErrorKind::NoSuchUpload, "another part than the stored one");
        let absent = Part { number: 2, ..one.clone() };
        let kind = s.complete_upload("wrong/a", &id, &[one.clone(), absent], Guard::IfAbsent).await.unwrap_err().kind;
        assert!(matches!(kind, StoreErrorKind::NoSuchUpload | StoreErrorKind::Invalid), "an absent part: {kind:?}");
        assert_eq!(s.head("wrong/a").await.unwrap(), None);
        s.complete_upload("wrong/a", &id, &[one], Guard::IfAbsent).await.unwrap();
    }

    async fn completing_twice_changes_nothing(&self) {
        let s = &self.store;
        let (id, part) = self.upload("twice/a", "x").await;
        let etag = s.complete_upload("twice/a", &id, std::slice::from_ref(&part), Guard::IfAbsent).await.unwrap();
        // 200 on AWS, 404 on COS and MinIO, 412 elsewhere: all of them say that the object is there, or to look.
        match s.complete_upload("twice/a", &id, &[part], Guard::IfAbsent).await {
            Ok(again) => assert_eq!(again, etag),
            Err(e) => assert!(matches!(e.kind, StoreErrorKind::NoSuchUpload | StoreErrorKind::Exists), "{e}"),
        }
        assert_eq!(self.read("twice/a").await, "x");
    }

    async fn guarded_completes_spare_what_exists(&self) {
        self.put("guard-mp/a", "first").await.unwrap();
        let s = &self.store;
        let id = match s.create_upload("guard-mp/a", &Metadata::new(), Guard::IfAbsent).await {
            Ok(id) => id,
            // COS may look at the guard here already.
            refused => return self.expect_guarded(self.complete, refused, "guard-mp/a", "first", "second").await,
        };
        let part = s.upload_part("guard-mp/a", &id, 1, text("second")).await.unwrap();
        let second = s.complete_upload("guard-mp/a", &id, &[part], Guard::IfAbsent).await;
        self.expect_guarded(self.complete, second, "guard-mp/a", "first", "second").await;
        s.abort_upload("guard-mp/a", &id).await.unwrap();
    }

    async fn racing_completes_follow_the_class(&self) {
        for round in 0..3 {
            let key = format!("race-mp/{round}");
            let mut uploads = Vec::new();
            for n in 0..RACERS {
                uploads.push(self.upload(&key, &racer(n)).await);
            }
            let racers = uploads.into_iter().map(|(id, part)| {
                let (store, key) = (Arc::clone(&self.store), key.clone());
                tokio::spawn(async move {
                    let result = store.complete_upload(&key, &id, &[part], Guard::IfAbsent).await;
                    store.abort_upload(&key, &id).await.unwrap();
                    result
                })
            });
            self.expect_race(self.complete, &key, join(racers).await).await;
        }
    }

    async fn uploads_can_be_aborted(&self) {
        let s = &self.store;
        let (id, _) = self.upload("abort/a", "x").await;
        for _ in 0..2 {
            s.abort_upload("abort/a", &id).await.unwrap();
        }
        assert_eq!(s.list_uploads("abort/a").await.unwrap(), []);
        assert_eq!(s.head("abort/a").await.unwrap(), None);
    }

    async fn uploads_are_listed_by_exact_key(&self) {
        let s = &self.store;
        let mut ids = BTreeSet::new();
        for _ in 0..3 {
            ids.insert(s.create_upload("uploads/a", &Metadata::new(), Guard::IfAbsent).await.unwrap());
        }
        let other = s.create_upload("uploads/ab", &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let listed = s.list_uploads("uploads/a").await.unwrap();
        assert_eq!(listed.iter().map(|u| u.id.clone()).collect::<BTreeSet<_>>(), ids);
        assert!(listed.iter().all(|u| u.key == "uploads/a" && u.age_ms < 600_000), "{listed:?}");
        let below = s.list_uploads_below("uploads/a").await.unwrap();
        assert!(listed.iter().all(|u| below.iter().any(|b| (&b.key, &b.id) == (&u.key, &u.id))), "{below:?}");
        for id in ids {
            s.abort_upload("uploads/a", &id).await.unwrap();
        }
        assert_eq!(s.list_uploads("uploads/a").await.unwrap(), []);
        assert_eq!(s.list_uploads("uploads/ab").await.unwrap().len(), 1);
        s.abort_upload("uploads/ab", &other).await.unwrap();
    }

    async fn keys_of_every_layout_work(&self) {
        let keys = [
            "keys/orders/dt=2026-11-22/hour=5/orders+0+00000000000000000000.parquet",
            "keys/%5Forders/dt=unknown/%5Forders+12+00000000000000000012.bin.zst",
            "keys/orders~0a1b2c3d/partition=3/orders+3+00000000000000000000.bin",
            "keys/ckafka-x/topic-y/20261122050000/t.u-v_w+0+00000000000000000000.bin.gz",
        ];
        for key in keys {
            self.put(key, key).await.unwrap();
            assert_eq!(self.read(key).await, key);
            let (id, part) = self.upload(&format!("{key}.mp"), "x").await;
            self.store.complete_upload(&format!("{key}.mp"), &id, &[part], Guard::IfAbsent).await.unwrap();
        }
        let mut expected: Vec<String> = keys.iter().flat_map(|k| [(*k).to_owned(), format!("{k}.mp")]).collect();
        expected.sort();
        assert_eq!(self.list_all("keys/", false).await.0, expected);
    }

    async fn invalid_requests_are_refused(&self) {
        let s = &self.store;
        for key in ["", "/a", "a//b", "a/../b", "..", "a/"] {
            let error = s.put(key, text("x"), &Metadata::new(), Guard::IfAbsent).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Invalid, "{key:?}");
        }
        let bad = [("Name", "v"), ("a_b", "v"), ("", "v"), ("a", "é"), ("a", "\n"), ("a", " x")];
        for (name, value) in bad {
            let metadata = vec![(name.to_owned(), value.to_owned())];
            let error = s.put("invalid/a", text("x"), &metadata, Guard::IfAbsent).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Invalid, "{name:?}: {value:?}");
        }
        let long = "k".repeat(s.limits().key_bytes_max + 1);
        let error = s.put(&long, text("x"), &Metadata::new(), Guard::IfAbsent).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid);
        assert_eq!(s.head("invalid/a").await.unwrap(), None);
    }

    async fn expect_guarded(&self, class: GuardClass, result: StoreResult<String>, key: &str, first: &str, second: &str) {
        if class == GuardClass::C {
            result.unwrap();
            assert_eq!(self.read(key).await, second);
        } else {
            assert_eq!(result.unwrap_err().kind, StoreErrorKind::Exists);
            assert_eq!(self.read(key).await, first);
        }
    }

    /// Of a race exactly one wins where the guard is atomic; whatever it is, the object is one racer's, whole.
    async fn expect_race(&self, class: GuardClass, key: &str, results: Vec<StoreResult<String>>) {
        let winners: Vec<usize> = (0..RACERS).filter(|n| results[*n].is_ok()).collect();
        for error in results.iter().filter_map(|r| r.as_ref().err()) {
            assert!(matches!(error.kind, StoreErrorKind::Exists | StoreErrorKind::Conflict), "{error}");
        }
        let body = self.read(key).await;
        assert!(winners.iter().any(|n| body == racer(*n)), "the object is no winner's");
        match class {
            GuardClass::A => assert_eq!(winners.len(), 1, "{results:?}"),
            GuardClass::B => {}
            GuardClass::C => assert_eq!(winners.len(), RACERS, "{results:?}"),
        }
    }

    fn metadata(&self, pairs: &[(&str, &str)]) -> Metadata {
        let keeps = self.store.limits().metadata;
        pairs.iter().filter(|_| keeps).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn part_size(&self) -> usize {
        usize::try_from(self.store.limits().part_bytes_min).unwrap().max(1000)
    }

    async fn put(&self, key: &str, body: &str) -> StoreResult<String> {
        self.store.put(key, text(body), &Metadata::new(), Guard::IfAbsent).await
    }

    async fn read(&self, key: &str) -> Bytes {
        self.store.get(key, None).await.unwrap().unwrap()
    }

    async fn upload(&self, key: &str, body: &str) -> (String, Part) {
        let id = self.store.create_upload(key, &Metadata::new(), Guard::IfAbsent).await.unwrap();
        let part = self.store.upload_part(key, &id, 1, text(body)).await.unwrap();
        (id, part)
    }

    async fn list_all(&self, prefix: &str, delimiter: bool) -> (Vec<String>, Vec<String>) {
        let (mut objects, mut directories, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = self.store.list(prefix, delimiter, after.as_deref()).await.unwrap();
            assert!(page.objects.len() + page.directories.len() <= self.page_entries_max);
            objects.extend(page.objects.into_iter().map(|o| o.key));
            directories.extend(page.directories);
            after = page.next;
            if after.is_none() {
                return (objects, directories);
            }
        }
    }
}

fn text(text: &str) -> Payload {
    Payload::from_bytes(text.to_owned())
}

/// The body of a racer: long enough that two of them torn together would show.
fn racer(n: usize) -> String {
    format!("{n}").repeat(4096)
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(n: usize, seed: u8) -> Bytes {
    (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect::<Vec<u8>>().into()
}

async fn join<T>(tasks: impl Iterator<Item = tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        results.push(task.await.unwrap());
    }
    results
}
