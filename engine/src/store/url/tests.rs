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
        "s3://lake/kafka/prod?region=eu-west-1&endpoint=http%3A%2F%2F127.0.0.1%3A9000&style=path&guard=none&payload=unsigned&checksum=md5",
    );
    assert_eq!((url.bucket.as_str(), url.prefix.as_str(), url.region.as_deref()), ("lake", "kafka/prod/", Some("eu-west-1")));
    let endpoint = url.endpoint.clone().unwrap();
    assert_eq!((endpoint.to_string().as_str(), endpoint.is_loopback()), ("http://127.0.0.1:9000", true));
    assert_eq!((url.style, url.guard, url.payload), (Some(Style::Path), GuardHeader::None, Some(PayloadSigning::Unsigned)));
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
    let cases = [
        ("s4://lake/", "did you mean \"s3\"?"),
        ("s3://lake/?regoin=x", "did you mean \"region\"?"),
        ("s3://lake/?style=virtul", "did you mean \"virtual\"?"),
        ("cos://lake/", "<name>-<appid>"),
        ("file://data/", "file:///data/"),
        ("lake/x", "s3://bucket/prefix/"),
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
    ] {
        assert!(StoreUrl::parse(text).is_err(), "{text}");
    }
}

#[test]
fn secrets_before_an_at_sign_are_not_shown() {
    let error = StoreUrl::parse("s3://AKIA:secret@lake/x").unwrap_err();
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

proptest! {
    #[test]
    fn never_panics(text in "(s3|cos|file)://[ -~é]{0,40}(\\?[a-z%=&:/]{0,30})?") {
        let _ = StoreUrl::parse(&text);
    }

    #[test]
    fn prefixes_are_normalised(segments in prop::collection::vec("[a-z0-9=_]{1,8}", 0..4), slash in any::<bool>()) {
        let path = segments.join("/");
        let text = format!("s3://lake/{path}{}", if slash && !segments.is_empty() { "/" } else { "" });
        let expected = if segments.is_empty() { String::new() } else { format!("{path}/") };
        prop_assert_eq!(bucket(&text).prefix, expected);
    }
}
