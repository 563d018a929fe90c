use proptest::prelude::*;

use super::*;

fn bucket(text: &str) -> BucketUrl {
    match StoreUrl::parse(text).unwrap() {
        StoreUrl::Bucket(url) => url,
        StoreUrl::File(path) => panic!("a file: {path:?}"),
    }
}

#[test]
fn parses_every_option() {
    let url = bucket(
        "s3://lake/kafka/prod?region=eu-west-1&endpoint=http%3A%2F%2F127.0.0.1%3A9000&style=path&guard=none&payload=unsigned&checksum=md5&parts=equal",
    );
    assert_eq!((url.bucket.as_str(), url.prefix.as_str(), url.region.as_deref()), ("lake", "kafka/prod/", Some("eu-west-1")));
    let endpoint = url.endpoint.clone().unwrap();
    assert_eq!((endpoint.to_string().as_str(), endpoint.is_loopback()), ("http://127.0.0.1:9000", true));
    assert_eq!((url.style, url.guard, url.payload), (Some(Style::Path), GuardHeader::None, Some(PayloadSigning::Unsigned)));
    assert_eq!((url.checksum, url.parts), (Some(ChecksumHeader::Md5), Some(PartSizes::Equal)));
    assert_eq!(url.shown(), "s3://lake/kafka/prod/");
    assert_eq!(
        bucket("cos://lake-1250000000/?region=ap-guangzhou&endpoint=http://[::1]:1").endpoint.unwrap().to_string(),
        "http://[::1]:1"
    );
    for text in ["s3://lake", "s3://lake/"] {
        assert_eq!(bucket(text).prefix, "");
    }
    assert_eq!(StoreUrl::parse("file:///a%20b/c/").unwrap(), StoreUrl::File("/a b/c/".into()));
}

#[test]
fn refuses_with_the_nearest_word() {
    let long = format!("s3://lake/{}/", "a".repeat(401));
    let cases = [
        ("s4://lake/", "did you mean \"s3\"?"),
        ("s3://lake/?regoin=x", "did you mean \"region\"?"),
        ("s3://lake/?style=virtul", "did you mean \"virtual\"?"),
        ("s3://lake/?parts=equals", "did you mean \"equal\"?"),
        ("cos://lake/", "<name>-<appid>"),
        ("file://data/", "file:///data/"),
        ("lake/x", "s3://bucket/prefix/"),
        ("s3://lake/%zz", "%25"),
        ("s3://lake/?region=%zz", "%25"),
        ("file:///%zz", "%25"),
        ("file:///a%00", "without it"),
        ("s3://lake/a/./b", "plain names"),
        (long.as_str(), "shorter"),
    ];
    for (text, help) in cases {
        let error = StoreUrl::parse(text).unwrap_err();
        assert!(error.help.as_deref().is_some_and(|h| h.contains(help)), "{text}: {error:?}");
    }
}

#[test]
fn refuses_what_would_lead_elsewhere() {
    for text in [
        "s3://La/",
        "s3:///x",
        "s3://lake//x/",
        "s3://lake/../x/",
        "s3://lake/a/./b",
        "s3://lake/%00",
        "s3://lake/%zz",
        "s3://lake/x//",
        "s3://lake/?region=a&region=b",
        "s3://lake/?region=",
        "s3://lake/?region=a/b",
        "s3://lake/?endpoint=ftp://x",
        "s3://lake/?endpoint=http://x/y",
        "s3://lake/?endpoint=http://",
        "s3://lake/?endpoint=http://x:0",
        "s3://lake/?endpoint=x",
        "s3://lake/?endpoint=http://x:99999",
        "file://",
        "file:///x?y=1",
        "file:///a/../b/",
        "file:///a/%2E%2E",
    ] {
        assert!(StoreUrl::parse(text).is_err(), "{text}");
    }
}

#[test]
fn secrets_are_not_shown() {
    for text in [
        "s3://AKIA:secret@lake/x",
        "s3://AKIA:se?cret@lake/x",
        "s3://lake/?session_token=secret",
        "s3://lake/?regoin=x&key=secret",
        "s3://lake/?endpoint=http://me:secret@host",
        "nonsense?secret",
    ] {
        let error = StoreUrl::parse(text).unwrap_err();
        let said = format!("{error:?}");
        assert!(!said.contains("cret") && !said.contains("AKIA"), "{said}");
    }
    let error = StoreUrl::parse("s3://lake/a/?regoin=x").unwrap_err();
    assert_eq!(error.context, [("url", "s3://lake/a/".to_owned())], "the rest is shown");
}

#[test]
fn a_prefix_goes_before_the_query() {
    assert_eq!(below("s3://b/a/?region=x", "p/"), "s3://b/a/p/?region=x");
    assert_eq!(below("file:///d", "p/"), "file:///d/p/");
    assert_eq!(below("s3://b/?region=x", ""), "s3://b/?region=x");
}

proptest! {
    #[test]
    fn never_panics(text in "(s3|cos|file)://[ -~é]{0,40}(\\?[a-z%=&:/]{0,30})?") {
        let _ = StoreUrl::parse(&text);
    }

    #[test]
    fn what_is_below_is_named_as_it_is(prefix in "[a-z%?#&@ =é]{1,12}/", query in "(\\?region=x)?") {
        prop_assert_eq!(bucket(&below(&format!("s3://lake/a/{query}"), &prefix)).prefix, format!("a/{prefix}"));
        prop_assert_eq!(StoreUrl::parse(&below("file:///d/", &prefix)).unwrap(), StoreUrl::File(format!("/d/{prefix}").into()));
        let path = PathBuf::from(format!("/d/{prefix}"));
        prop_assert_eq!(StoreUrl::parse(&of_path(&path)).unwrap(), StoreUrl::File(path));
    }

    #[test]
    fn prefixes_are_normalised(segments in prop::collection::vec("[a-z0-9=_]{1,8}", 0..4), slash in any::<bool>()) {
        let path = segments.join("/");
        let text = format!("s3://lake/{path}{}", if slash && !segments.is_empty() { "/" } else { "" });
        let expected = if segments.is_empty() { String::new() } else { format!("{path}/") };
        prop_assert_eq!(bucket(&text).prefix, expected);
    }
}
