use proptest::prelude::*;

use super::*;
use crate::window::PLAUSIBLE_UNTIL_MS;

/// 2026-11-22 05:07:09 UTC.
const AT: i64 = 1_795_324_029_000;

fn parts(topic: &TopicName, timestamp_ms: Option<i64>) -> KeyParts<'_> {
    KeyParts { topic, partition: 3, timestamp_ms, window_ms: 300_000 }
}

fn tencent() -> Layout {
    Layout::named("tencent", Some("ckafka-1"), Some("topic-2")).unwrap()
}

fn template(text: &str) -> Layout {
    Layout::Template(Template::parse(text).unwrap())
}

#[test]
fn each_layout_writes_its_directory() {
    let topic = TopicName::new("orders");
    let key = |layout: &Layout, at| layout.object_key(&parts(&topic, at), 42, "parquet");
    let file = "orders+3+00000000000000000042.parquet";
    assert_eq!(key(&Layout::Hive, Some(AT)), format!("orders/dt=2026-11-22/hour=5/{file}"));
    assert_eq!(key(&Layout::Confluent, Some(AT)), format!("topics/orders/partition=3/{file}"));
    assert_eq!(key(&tencent(), Some(AT)), format!("ckafka-1/topic-2/20261122050500/{file}"));
    let by_name = Layout::named("tencent", Some("ckafka-1"), None).unwrap();
    assert_eq!(by_name.topic_directory(&topic), "ckafka-1/orders/");
    let all = template("a/{topic}/{yyyy}-{mm}-{dd}T{HH}/p{partition}/h={hour}/{window}/{dt}/");
    assert_eq!(key(&all, Some(AT)), format!("a/orders/2026-11-22T05/p3/h=5/20261122050500/2026-11-22/{file}"));
}

#[test]
fn without_a_plausible_timestamp_the_date_is_unknown() {
    let topic = TopicName::new("orders");
    for at in [None, Some(-1), Some(0), Some(PLAUSIBLE_FROM_MS - 1), Some(PLAUSIBLE_UNTIL_MS), Some(i64::MAX), Some(i64::MIN)] {
        let directory = |layout: &Layout| layout.directory(&parts(&topic, at));
        assert_eq!(directory(&Layout::Hive), "orders/dt=unknown/hour=0/");
        assert_eq!(directory(&tencent()), "ckafka-1/topic-2/unknown/");
        assert_eq!(directory(&template("{topic}/{yyyy}/{window}")), "orders/unknown/unknown/");
    }
    let first = |at| Layout::Hive.directory(&parts(&topic, Some(at)));
    assert_eq!(first(PLAUSIBLE_FROM_MS), "orders/dt=2000-01-01/hour=0/");
    assert_eq!(first(PLAUSIBLE_UNTIL_MS - 1), "orders/dt=2099-12-31/hour=23/");
}

#[test]
fn hidden_names_are_escaped_and_incarnations_named() {
    for (name, escaped) in [("_orders", "%5Forders"), (".orders", "%2Eorders"), ("a_b.c", "a_b.c")] {
        let topic = TopicName::new(name);
        let key = Layout::Hive.object_key(&parts(&topic, Some(AT)), 0, "bin");
        assert!(key.starts_with(&format!("{escaped}/dt=")) && key.contains(&format!("/{escaped}+3+")), "{key}");
        assert_eq!(Layout::Hive.parse_key(&key).unwrap().topic, name);
    }
    let later = TopicName::later("orders", "0A1b2c3d4e5f60718293a4b5c6d7e8f9");
    assert_eq!(later.directory(), "orders~0a1b2c3d");
    assert_eq!(tencent().topic_directory(&later), "ckafka-1/topic-2~0a1b2c3d/");
    let parsed = Layout::Hive.parse_key(&Layout::Hive.object_key(&parts(&later, Some(AT)), 7, "bin.zst")).unwrap();
    assert_eq!((parsed.topic.as_str(), parsed.topic_path.as_str(), parsed.extension.as_str()), ("orders", "orders~0a1b2c3d", "bin.zst"));
}

#[test]
fn control_keys_are_named_by_the_directory() {
    let topic = TopicName::later("_orders", "0a1b2c3d");
    let keys = ControlKeys::new(&Layout::Hive, &topic);
    assert_eq!(keys.owner(), "_catchment/owners/%5Forders~0a1b2c3d.json");
    assert_eq!(keys.anchor("nightly", 3), "_catchment/anchors/nightly/%5Forders~0a1b2c3d-3.json");
    assert_eq!(keys.object(3, 42), "_catchment/objects/%5Forders~0a1b2c3d/3/00000000000000000042.json");
    let orders = TopicName::new("orders");
    assert_eq!(ControlKeys::new(&Layout::Confluent, &orders).owner(), "_catchment/owners/topics%2Forders.json");
    assert_eq!(ControlKeys::of_path("topics/orders"), ControlKeys::new(&Layout::Confluent, &orders));
}

#[test]
fn other_files_are_not_ours() {
    for key in [
        "orders/dt=2026-11-22/hour=5/other.parquet",
        "orders/dt=2026-11-22/hour=5/orders+3+42.parquet",
        "orders/dt=2026-11-22/hour=5/orders+03+00000000000000000042.parquet",
        "orders/dt=2026-11-22/hour=5/orders+-3+00000000000000000042.parquet",
        "orders/dt=2026-11-22/hour=5/orders+3+99999999999999999999.parquet",
        "orders/dt=2026-11-22/hour=5/_orders+3+00000000000000000042.parquet",
        "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000042",
        "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000042.",
        "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000042.par=quet",
        "orders/dt=2026-11-22/hour=5/or ders+3+00000000000000000042.parquet",
        "orders/dt=2026-11-22/orders+3+00000000000000000042.parquet",
        "orders+3+00000000000000000042.parquet",
        "orders/dt=2026-11-22/hour=5/orders+3+00000000000000000042.parquet+1",
    ] {
        assert_eq!(Layout::Hive.parse_key(key), None, "{key}");
    }
}

#[test]
fn an_hour_that_is_unknown_stays_a_number() {
    let topic = TopicName::new("orders");
    assert!(template("{topic}/{dt}/{hour}").directory(&parts(&topic, None)).ends_with("/0/"));
}

#[test]
fn layouts_have_names_and_texts_that_tell_them_apart() {
    let named = |name| Layout::named(name, Some("ckafka-1"), None).unwrap();
    let tencent = Layout::Tencent { instance: "ckafka-1".into(), topic_id: None };
    assert_eq!(["hive", "confluent", "tencent"].map(named), [Layout::Hive, Layout::Confluent, tencent]);
    let texts = [Layout::Hive, Layout::Confluent, self::tencent(), template("{topic}/{dt}")].map(|layout| layout.to_string());
    assert_eq!(texts, ["hive", "confluent", "tencent:ckafka-1/topic-2", "template:{topic}/{dt}"]);
}

#[test]
fn bad_layouts_and_templates_say_what_would_be_right() {
    let help = |error: Error| error.help.unwrap_or_default();
    assert!(help(Layout::named("hiev", None, None).unwrap_err()).contains("\"hive\""));
    assert!(help(Layout::named("tencent", None, None).unwrap_err()).contains("instance"));
    for id in ["a/b", ""] {
        assert!(help(Layout::named("tencent", Some(id), None).unwrap_err()).contains("console"), "{id:?}");
    }
    let cases = [
        ("a/b", "{topic}"),
        ("{topic}/{topic}", "{topic}"),
        ("x{topic}/a", "/{topic}/"),
        ("{dt}/{topic}", "put {topic} first"),
        ("{topic}/{partitoin}", "{partition}"),
        ("{topic}/{MM}", "{mm}"),
        ("/{topic}", "no slash at the start"),
        ("{topic}//a", "no slash at the start"),
        ("{topic}/_x", "hidden"),
        ("{topic}/../a", "hidden"),
        ("_catchment/{topic}", "hidden"),
        ("{topic}/a b", "escapes"),
        ("{topic}/a\\b", "escapes"),
        ("{topic}/{dt", "archive/{topic}/dt={dt}"),
    ];
    for (text, expected) in cases {
        let error = Template::parse(text).unwrap_err();
        assert!(error.help.as_deref().is_some_and(|h| h.contains(expected)), "{text}: {error:?}");
    }
    for text in ["", "/", "{topic}/{}"] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}

#[test]
fn long_topics_are_refused_before_the_first_write() {
    let limits = |key_bytes_max, segment_bytes_max| StoreLimits {
        part_bytes: 16 << 20,
        part_bytes_min: 1,
        parts_max: 10_000,
        equal_parts: false,
        put_bytes_max: 1,
        key_bytes_max,
        segment_bytes_max,
        metadata: true,
        multipart: true,
    };
    let long = TopicName::new(&"t".repeat(249));
    assert!(Layout::Hive.check_length(&long, &limits(1024, 1024)).is_ok());
    // A file's name has 255 bytes on Linux.
    assert_eq!(Layout::Hive.check_length(&long, &limits(1024, 255)).unwrap_err().code, Code(316));
    assert!(Layout::Hive.check_length(&TopicName::new(&"t".repeat(200)), &limits(1024, 255)).is_ok());
    assert!(Layout::Hive.check_length(&long, &limits(450, 450)).is_err());
    // The longest key that there can be just fits: its hour has two digits.
    let longest = KeyParts { partition: i32::MAX, ..parts(&long, Some(AT + 17 * 3_600_000)) };
    let bytes = Layout::Hive.object_key(&longest, i64::MAX, "bin.zst").len();
    assert!(Layout::Hive.check_length(&long, &limits(bytes, bytes)).is_ok());
    assert!(Layout::Hive.check_length(&long, &limits(bytes - 1, bytes)).is_err());
}

fn topic_names() -> impl Strategy<Value = TopicName> {
    let later = prop::option::of("[0-9a-f]{32}");
    ("[a-zA-Z0-9._-]{1,40}", later).prop_filter_map("no topics", |(name, id)| {
        let topic = if name == "." || name == ".." { return None } else { name };
        Some(id.map_or_else(|| TopicName::new(&topic), |id| TopicName::later(&topic, &id)))
    })
}

fn layouts() -> impl Strategy<Value = Layout> {
    let templates =
        prop::collection::vec(prop::sample::select(vec!["a", "p{partition}", "{dt}", "h={hour}", "{window}", "{yyyy}{mm}{dd}{HH}"]), 0..4);
    prop_oneof![
        Just(Layout::Hive),
        Just(Layout::Confluent),
        ("[a-zA-Z0-9._-]{1,12}", prop::option::of("[a-zA-Z0-9._-]{1,12}")).prop_map(|(instance, id)| Layout::named(
            "tencent",
            Some(&instance),
            id.as_deref()
        )
        .unwrap()),
        (0..2_usize, templates)
            .prop_map(|(above, below)| { template(&[&vec!["x"; above][..], &["{topic}"], &below[..]].concat().join("/")) }),
    ]
}

#[test]
fn a_key_is_a_path_of_plain_names() {
    for key in ["a", "a/b.c", "a b/\u{e9}"] {
        assert!(check_key(key).is_ok(), "{key}");
    }
    for key in ["", "/a", "a/", "a//b", "./a", "a/..", "a\nb", "a/\u{7f}"] {
        assert!(check_key(key).is_err(), "{key:?}");
    }
}

proptest! {
    #[test]
    fn keys_round_trip_and_stay_below_the_prefix(
        layout in layouts(),
        topic in topic_names(),
        partition in 0..i32::MAX,
        timestamp_ms in prop::option::of(any::<i64>()),
        window_ms in 1_000..86_400_000_i64,
        start in 0..i64::MAX,
        extension in prop::sample::select(vec!["parquet", "bin", "bin.zst", "bin.gz"]),
    ) {
        let parts = KeyParts { topic: &topic, partition, timestamp_ms, window_ms };
        let key = layout.object_key(&parts, start, extension);
        prop_assert!(check_key(&key).is_ok(), "{}", key);
        prop_assert!(!key.split('/').any(|segment| segment.starts_with(['.', '_'])), "{}", key);
        prop_assert!(key.starts_with(&layout.topic_directory(&topic)));
        let parsed = layout.parse_key(&key).unwrap();
        prop_assert_eq!(escape(&parsed.topic), &*topic.escaped);
        prop_assert_eq!((parsed.partition, parsed.start, &*parsed.extension), (partition, start, extension));
        prop_assert_eq!(format!("{}/", parsed.topic_path), layout.topic_directory(&topic));
    }

    #[test]
    fn the_key_is_ordered_by_its_offset(a in 0..i64::MAX, b in 0..i64::MAX) {
        let topic = TopicName::new("t");
        prop_assert_eq!(a.cmp(&b), file_name(&topic, 0, a, "x").cmp(&file_name(&topic, 0, b, "x")));
    }

    #[test]
    fn templates_never_panic_and_what_passes_stays_below_the_prefix(text in "[a-z{}/._=% ]{0,12}(\\{topic\\})?[a-z{}/._=%]{0,12}") {
        if let Ok(template) = Template::parse(&text) {
            let topic = TopicName::new("t");
            let key = Layout::Template(template).object_key(&parts(&topic, Some(AT)), 0, "bin");
            prop_assert!(check_key(&key).is_ok(), "{}", key);
            prop_assert!(!key.starts_with("_catchment"));
        }
    }

    #[test]
    fn parsing_never_panics(key in "[ -~/+.é]{0,60}") {
        let _ = Layout::Hive.parse_key(&key);
        let _ = parse_file_name(&key);
    }
}
