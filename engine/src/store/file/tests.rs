use super::disk::Step;
use super::*;

fn store() -> (tempfile::TempDir, FileStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    (directory, store)
}

#[tokio::test]
async fn nothing_temporary_is_left_or_listed() {
    let (directory, store) = store();
    store.put("t/a", Payload::from_bytes("x"), &vec![], Guard::IfAbsent).await.unwrap();
    store.put("t/a", Payload::from_bytes("y"), &vec![], Guard::IfAbsent).await.unwrap_err();
    store.create_upload("t/b", &vec![], Guard::IfAbsent).await.unwrap();
    assert_eq!(std::fs::read_dir(directory.path().join("_catchment/tmp")).unwrap().count(), 0);
    let page = store.list("", false, None).await.unwrap();
    assert_eq!(page.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["t/a"]);
    assert_eq!(store.list("", true, None).await.unwrap().directories, ["t/"]);
}

#[tokio::test]
async fn keys_and_upload_ids_do_not_lead_out() {
    let (_directory, store) = store();
    for key in ["../x", "/etc/passwd", "a//b", "a/../../b", ".", "_catchment/tmp/x", "_catchment/uploads/1/key", ""] {
        let error = store.put(key, Payload::default(), &vec![], Guard::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{key}");
        assert_eq!(store.get(key, None).await.unwrap_err().kind, StoreErrorKind::Invalid, "{key}");
    }
    for id in ["../../t", "", "zz", "00"] {
        assert_eq!(store.list_parts("t/a", id).await.unwrap_err().kind, StoreErrorKind::NoSuchUpload, "{id}");
    }
    assert_eq!(store.list("../", false, None).await.unwrap_err().kind, StoreErrorKind::Invalid);
}

#[tokio::test]
async fn metadata_is_refused_not_dropped() {
    let (_directory, store) = store();
    let metadata = vec![("a".to_owned(), "b".to_owned())];
    assert_eq!(store.put("k", Payload::default(), &metadata, Guard::Overwrite).await.unwrap_err().kind, StoreErrorKind::Invalid);
}

#[tokio::test]
async fn a_file_in_place_of_a_directory_is_invalid() {
    let (directory, store) = store();
    // A file where a directory must be: the request cannot be right, whoever runs this.
    std::fs::write(directory.path().join("f"), "x").unwrap();
    assert_eq!(store.put("f/a", Payload::default(), &vec![], Guard::IfAbsent).await.unwrap_err().kind, StoreErrorKind::Invalid);
    assert_eq!(store.head("f/a").await.unwrap(), None);
}

#[test]
fn old_temporary_files_are_removed_at_open() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("_catchment/tmp")).unwrap();
    let (old, new) = (directory.path().join("_catchment/tmp/old"), directory.path().join("_catchment/tmp/new"));
    std::fs::write(&new, "x").unwrap();
    let two_days_ago = std::fs::metadata(&new).unwrap().modified().unwrap() - std::time::Duration::from_secs(48 * 3600);
    std::fs::File::create(&old).unwrap().set_modified(two_days_ago).unwrap();
    FileStore::open(directory.path()).unwrap();
    assert!(!old.exists() && new.exists());
}

#[tokio::test]
async fn what_is_said_to_be_there_is_durable_first() {
    let (directory, store) = store();
    let root = directory.path().canonicalize().unwrap();
    let up = [root.join("a/b"), root.join("a"), root.clone()];
    let synced = |store: &FileStore| std::mem::take(&mut *store.disk.synced.lock().unwrap());
    // As a process leaves it that dies between link(2) and its syncs.
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/c"), "x").unwrap();
    assert!(store.head("a/b/c").await.unwrap().is_some());
    assert_eq!(synced(&store), up, "head");
    assert_eq!(store.head("a/b/none").await.unwrap(), None);
    assert!(synced(&store).is_empty(), "nothing was found");
    let refused = store.put("a/b/c", Payload::from_bytes("y"), &vec![], Guard::IfAbsent).await.unwrap_err();
    assert_eq!((refused.kind, synced(&store).ends_with(&up)), (StoreErrorKind::Exists, true), "the Exists answer");
    store.put("a/b/d", Payload::from_bytes("y"), &vec![], Guard::IfAbsent).await.unwrap();
    assert!(synced(&store).ends_with(&up), "a write");
    let reader = FileStore::existing(&root).unwrap();
    assert!(reader.head("a/b/c").await.unwrap().is_some());
    assert!(synced(&reader).is_empty(), "nobody relies on what a reader finds");
}

#[tokio::test]
async fn uploads_nobody_can_name_are_removed_at_open() {
    let (directory, store) = store();
    store.create_upload("t/a", &vec![], Guard::IfAbsent).await.unwrap();
    let uploads = directory.path().join("_catchment/uploads");
    let two_days_ago = std::fs::metadata(&uploads).unwrap().modified().unwrap() - std::time::Duration::from_secs(48 * 3600);
    let make = |path: PathBuf, old: bool| {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("part-00001"), "x").unwrap();
        if old {
            std::fs::File::open(&path).unwrap().set_modified(two_days_ago).unwrap();
        }
        path
    };
    let (old, young) = (make(uploads.join("aa"), true), make(uploads.join("bb"), false));
    // What a process left that died while it removed a completed upload.
    let half_removed = make(directory.path().join("_catchment/tmp/1-2-3"), true);
    let again = FileStore::open(directory.path()).unwrap();
    assert!(!old.exists() && !half_removed.exists() && young.exists());
    assert_eq!(again.list_uploads("t/a").await.unwrap().len(), 1, "one with a key stays, whatever its age");
}

#[tokio::test]
async fn a_completed_or_aborted_upload_leaves_nothing() {
    let (directory, store) = store();
    for key in ["t/a", "t/b"] {
        let id = store.create_upload(key, &vec![], Guard::IfAbsent).await.unwrap();
        let part = store.upload_part(key, &id, 1, Payload::from_bytes("x")).await.unwrap();
        match key {
            "t/a" => drop(store.complete_upload(key, &id, &[part], Guard::IfAbsent).await.unwrap()),
            _ => store.abort_upload(key, &id).await.unwrap(),
        }
    }
    for place in ["_catchment/tmp", "_catchment/uploads"] {
        assert_eq!(std::fs::read_dir(directory.path().join(place)).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn a_file_system_without_hard_links_is_called_that() {
    for errno in [1, 95, 18] {
        let failure = disk::link_failure(std::io::Error::from_raw_os_error(errno));
        assert_eq!(failure.kind, StoreErrorKind::Invalid, "{failure:?}");
        assert!(failure.detail.contains("hard links"), "{failure:?}");
    }
    assert_eq!(disk::link_failure(std::io::Error::from_raw_os_error(13)).kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn a_root_that_is_missing_is_made_by_the_first_write() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b");
    let store = FileStore::open(&root).unwrap();
    assert_eq!(store.head("t/a").await.unwrap(), None);
    assert!(store.list("", false, None).await.unwrap().objects.is_empty());
    assert!(store.list_uploads("t/a").await.unwrap().is_empty());
    assert!(!directory.path().join("a").exists(), "reading creates nothing");
    store.put("t/a", Payload::from_bytes("x"), &vec![], Guard::IfAbsent).await.unwrap();
    assert!(root.join("t/a").is_file());
    assert_eq!(FileStore::open(&root).unwrap().identity(), store.identity(), "named alike before and after");
}

#[test]
fn a_root_that_cannot_be_made_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    std::fs::write(&file, "x").unwrap();
    let error = FileStore::open(&file.join("d")).unwrap_err();
    assert_eq!((error.code, error.help.is_some()), (Code(312), true));
}

/// Files have no metadata.
static NONE: Metadata = Metadata::new();

/// EIO and ENOSPC.
const REFUSALS: [i32; 2] = [5, 28];

/// From now on this step fails, or with none every one succeeds.
fn refuse(store: &FileStore, trouble: Option<(Step, i32)>) {
    *store.disk.trouble.lock().unwrap() = trouble;
}

fn temporary_files(store: &FileStore) -> usize {
    std::fs::read_dir(store.root().join("_catchment/tmp")).unwrap().count()
}

/// Row P7 of the failure matrix.
#[tokio::test]
async fn a_write_that_the_disk_refuses_is_unknown_and_leaves_nothing() {
    let (_directory, store) = store();
    let put = |key: &'static str| store.put(key, Payload::from_bytes("x"), &NONE, Guard::IfAbsent);
    put("t/first").await.unwrap();
    for (step, errno) in [Step::Create, Step::Write, Step::SyncFile, Step::Name].into_iter().flat_map(|s| REFUSALS.map(|e| (s, e))) {
        refuse(&store, Some((step, errno)));
        let error = put("t/a").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unknown, "{step:?} {errno}: {error}");
        assert!(error.detail.contains(&format!("(os error {errno})")), "{step:?}: {error}");
        // A file whose sync has failed must not be there for another try: it would be called durable, and is not.
        assert_eq!(temporary_files(&store), 0, "{step:?} {errno}");
        assert_eq!(store.head("t/a").await.unwrap(), None, "{step:?} {errno}");
    }
    refuse(&store, None);
    put("t/a").await.unwrap();
    assert_eq!(store.get("t/a", None).await.unwrap().as_deref(), Some(&b"x"[..]));
}

/// A name that may not be durable is not relied on by anybody.
#[tokio::test]
async fn an_object_whose_name_could_not_be_made_durable_is_not_said_to_be_there() {
    let (_directory, store) = store();
    let put = |key: &'static str| store.put(key, Payload::from_bytes("x"), &NONE, Guard::IfAbsent);
    put("t/first").await.unwrap();
    for errno in REFUSALS {
        refuse(&store, Some((Step::SyncDirectory, errno)));
        for answer in [put("t/a").await.map(drop), store.head("t/a").await.map(drop), put("t/a").await.map(drop)] {
            assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Unknown, "{errno}");
        }
    }
    refuse(&store, None);
    assert_eq!(put("t/a").await.unwrap_err().kind, StoreErrorKind::Exists);
    assert!(store.head("t/a").await.unwrap().is_some());
}

#[tokio::test]
async fn an_upload_outlives_what_the_disk_refuses() {
    let (_directory, store) = store();
    let id = store.create_upload("t/a", &NONE, Guard::IfAbsent).await.unwrap();
    let part = || store.upload_part("t/a", &id, 1, Payload::from_bytes("x"));
    for (step, errno) in [Step::Create, Step::Write, Step::SyncFile].into_iter().flat_map(|s| REFUSALS.map(|e| (s, e))) {
        refuse(&store, Some((step, errno)));
        assert_eq!(part().await.unwrap_err().kind, StoreErrorKind::Unknown, "{step:?} {errno}");
        assert_eq!((temporary_files(&store), store.list_parts("t/a", &id).await.unwrap()), (0, vec![]), "{step:?} {errno}");
    }
    refuse(&store, None);
    let parts = [part().await.unwrap()];
    for (step, errno) in [Step::Create, Step::SyncFile, Step::Name].into_iter().flat_map(|s| REFUSALS.map(|e| (s, e))) {
        refuse(&store, Some((step, errno)));
        let error = store.complete_upload("t/a", &id, &parts, Guard::IfAbsent).await.unwrap_err();
        assert_eq!((error.kind, temporary_files(&store)), (StoreErrorKind::Unknown, 0), "{step:?} {errno}");
        assert_eq!(store.list_parts("t/a", &id).await.unwrap(), parts, "{step:?} {errno}: it can be completed again");
        assert_eq!(store.head("t/a").await.unwrap(), None, "{step:?} {errno}");
    }
    refuse(&store, None);
    store.complete_upload("t/a", &id, &parts, Guard::IfAbsent).await.unwrap();
    assert_eq!(store.get("t/a", None).await.unwrap().as_deref(), Some(&b"x"[..]));
}
