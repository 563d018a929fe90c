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
