//! Files and flags as operators write them, right and wrong.

use super::*;
use crate::error::{Code, Error, codes};

const FILE: &str = r#"
[kafka.prod]
brokers = ["ckafka-xxx:50001"]
preset  = "ckafka"
sasl    = { mechanism = "PLAIN", username = "ckafka-xxx#app", password = "hunter2" }
properties = { "client.id" = "x", "fetch.max.bytes" = 1048576, "ssl.key.password" = "hunter3" }
[store.lake]
url = "cos://my-bucket-1250000000/kafka/?region=ap-guangzhou"
secret_access_key = "hunter4"
access_key_id = "env:ID"
[rule.orders]
source = { kafka = "prod", topics = ["^orders\\..*"], start = "@-1h" }
window = { every = "10m", by = "arrival" }
format = { kind = "raw", framing = "len32", codec = "gzip", level = 9 }
to     = { store = "lake", prefix = "/a/b", layout = "hive" }
max_bytes = "256MiB"
on_gap = { retention = "halt" }
"#;

fn plan(text: &str, overrides: Overrides) -> Result<BackupPlan, Vec<Error>> {
    BackupPlan::new(&Config::parse(text, "backup.toml")?, overrides, RunOptions::default())
}

fn flags(topics: &[&str], settings: RuleSettings) -> Overrides {
    Overrides {
        brokers: Some(vec!["localhost:9092".to_owned()]),
        to: Some("file:///tmp/x/".to_owned()),
        settings: RuleSettings { topics: Some(Given::flag("TOPIC", topics.iter().map(|t| (*t).to_owned()).collect())), ..settings },
        ..Overrides::default()
    }
}

fn only_problem(result: Result<BackupPlan, Vec<Error>>) -> Error {
    let problems = result.expect_err("must be refused");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn a_file_becomes_a_plan() {
    let plan = plan(FILE, Overrides::default()).unwrap();
    assert_eq!((plan.rule.as_str(), plan.group.as_str()), ("orders", "catchment-orders"));
    assert_eq!(plan.topics, ["^orders\\..*"]);
    assert_eq!(plan.start, StartPoint::Ago(Span::secs(3600)));
    assert_eq!(plan.window, WindowSettings { every: Span::secs(600), by: WindowBy::Arrival });
    assert_eq!(plan.encoding.to_string(), "raw.len32.gzip9.v1");
    assert_eq!((plan.to.prefix.as_str(), &plan.to.layout), ("a/b/", &LayoutSettings::Hive));
    assert_eq!((plan.max_bytes, plan.budget), (ByteSize::mib(256), BUDGET_DEFAULT));
    assert_eq!((plan.on_gap.retention, plan.on_gap.truncation), (OnGap::Halt, OnGap::Halt));
    assert_eq!(plan.kafka.properties["fetch.max.bytes"], "1048576");
}

#[test]
fn flags_alone_become_a_plan_with_the_documented_defaults() {
    let plan = plan("", flags(&["orders"], RuleSettings::default())).unwrap();
    assert_eq!((plan.rule.as_str(), plan.group.as_str()), ("orders", "catchment-orders"));
    assert_eq!(plan.start, StartPoint::Earliest);
    assert_eq!(plan.window, WindowSettings { every: Span::secs(300), by: WindowBy::RecordTime });
    assert_eq!(plan.encoding.to_string(), "parquet.zstd1.v1");
    assert_eq!((plan.max_bytes, plan.budget), (ByteSize::mib(1024), ByteSize::mib(512)));
    assert_eq!((plan.on_gap.retention, plan.on_stop), (OnGap::Continue, OnStop::Drop));
    assert_eq!(plan.to.layout, LayoutSettings::Hive);
}

#[test]
fn a_level_that_the_records_choose_is_one_of_zstd_and_printed_as_it_was_written() {
    for (format, encoding) in [("", "parquet.zstd1.v1"), ("kind = \"raw\", framing = \"len32\", ", "raw.len32.zstd1.v1")] {
        let file = FILE.replace("kind = \"raw\", framing = \"len32\", codec = \"gzip\", level = 9", &format!("{format}level = \"auto\""));
        let plan = plan(&file, Overrides::default()).unwrap();
        assert_eq!((plan.auto_level, plan.encoding.to_string().as_str()), (true, encoding));
        assert!(plan.to_toml().contains("level = \"auto\"\n"), "{}", plan.to_toml());
    }
    let flag = |level| RuleSettings { level: Some(Given::flag("--level", level)), ..RuleSettings::default() };
    let of = |level| plan("", flags(&["orders"], flag(level))).map(|plan| (plan.auto_level, plan.encoding.to_string()));
    assert_eq!(of(Level::Auto).unwrap(), (true, "parquet.zstd1.v1".to_owned()));
    assert_eq!(of(Level::Fixed(22)).unwrap(), (false, "parquet.zstd22.v1".to_owned()));
    assert_eq!(of(Level::Fixed(23)).unwrap_err()[0].code, codes::CONFIG_RELATION);
    assert!(!plan("", flags(&["orders"], RuleSettings::default())).unwrap().auto_level, "it is not the default");
    let codec = RuleSettings { codec: Some(Given::flag("--codec", CodecKind::Zstd)), ..RuleSettings::default() };
    let auto = FILE.replace("codec = \"gzip\", level = 9", "codec = \"zstd\", level = \"auto\"");
    let over = Overrides { settings: codec, ..Overrides::default() };
    assert!(!plan(&auto, over).unwrap().auto_level, "a codec that is given anew has its own default");
}

#[test]
fn flags_win_over_the_file() {
    let settings = RuleSettings {
        window_every: Some(Given::flag("--window", Span::secs(60))),
        format: Some(Given::flag("--format", FormatKind::Parquet)),
        path: Some(Given::flag("--path", "{topic}".to_owned())),
        ..RuleSettings::default()
    };
    let overrides = Overrides {
        brokers: Some(vec!["localhost:9092".to_owned()]),
        to: Some("file:///tmp/x/".to_owned()),
        properties: vec![("client.id".to_owned(), "y".to_owned())],
        settings,
        ..Overrides::default()
    };
    let plan = plan(FILE, overrides).unwrap();
    assert_eq!(plan.window, WindowSettings { every: Span::secs(60), by: WindowBy::Arrival });
    assert_eq!(plan.encoding.to_string(), "parquet.zstd1.v1", "the raw format's framing and codec are not carried over");
    assert_eq!(plan.to.layout, LayoutSettings::Template("{topic}".to_owned()));
    assert_eq!(plan.to.store, StoreSettings { url: "file:///tmp/x/".to_owned(), ..StoreSettings::default() });
    assert_eq!((plan.kafka.brokers[0].as_str(), plan.kafka.properties["client.id"].as_str()), ("localhost:9092", "y"));
    assert_eq!(plan.topics, ["^orders\\..*"]);
}

#[test]
fn no_secret_is_ever_printed() {
    let config = Config::parse(FILE, "backup.toml").unwrap();
    let plan = BackupPlan::new(&config, Overrides::default(), RunOptions::default()).unwrap();
    for text in [format!("{config:?}"), format!("{plan:?}"), plan.to_toml()] {
        assert!(!text.contains("hunter"), "{text}");
    }
    assert!(plan.to_toml().contains("password = \"***\""));
    assert!(plan.to_toml().contains("access_key_id = \"env:ID\""));
}

#[test]
fn the_printed_plan_is_a_config_file_with_the_same_meaning() {
    for text in [
        FILE,
        &FILE.replace("layout = \"hive\"", "layout = \"tencent\", instance = \"ckafka-x\""),
        &FILE.replace("[rule.orders]", "[rule.\"a.b\"]"),
        &FILE.replace("\"client.id\"", "\"client\\nid\""),
        &FILE.replace("\"client.id\"", "\"\""),
        &FILE.replace("codec = \"gzip\", level = 9", "level = \"auto\""),
    ] {
        let printed = plan(text, Overrides::default()).unwrap().to_toml();
        let again = plan(&printed, Overrides::default()).unwrap_or_else(|e| panic!("{e:?}\n{printed}"));
        assert_eq!(again.to_toml(), printed);
    }
}

fn problems(text: &str) -> Vec<(Code, String)> {
    let found = Config::parse(text, "f.toml").expect_err("must be refused");
    found.iter().map(|e| (e.code, format!("{e} help={}", e.help.clone().unwrap_or_default()))).collect()
}

#[test]
fn every_problem_of_a_file_is_found_with_its_position() {
    let found = problems(
        "[kafka.k]\nbrokers = 9092\nbrocker = \"x\"\n[rule.r]\nwidnow = { every = \"5m\" }\nwindow = { every = \"5\", by = \"arival\" }\nmax_bytes = \"1 parsec\"\n[store.s]\n[rulee.x]\n",
    );
    let expect = [
        (codes::CONFIG_UNKNOWN_KEY, "f.toml:3:1", "did you mean \"brokers\"?"),
        (codes::CONFIG_VALUE, "f.toml:2:11", "it must be a list of strings"),
        (codes::CONFIG_UNKNOWN_KEY, "f.toml:5:1", "did you mean \"window\"?"),
        (codes::CONFIG_VALUE, "f.toml:6:20", "5m for minutes"),
        (codes::CONFIG_VALUE, "f.toml:6:30", "did you mean \"arrival\"?"),
        (codes::CONFIG_VALUE, "f.toml:7:13", "not a size"),
        (codes::CONFIG_MISSING, "f.toml:8:", "needs a url"),
        (codes::CONFIG_UNKNOWN_KEY, "f.toml:9:2", "did you mean \"rule\"?"),
    ];
    for (code, at, part) in expect {
        assert!(found.iter().any(|(c, text)| *c == code && text.contains(at) && text.contains(part)), "{code} {at} {part}\n{found:#?}");
    }
}

#[test]
fn broken_toml_is_refused_with_its_position() {
    let found = problems("[rule.r]\nmax_bytes = \n");
    assert_eq!(found[0].0, codes::CONFIG_SYNTAX);
    assert!(found[0].1.contains("f.toml:2:"), "{found:?}");
}

#[test]
fn logins_are_checked_for_what_their_mechanism_needs() {
    let file = |sasl: &str| format!("[kafka.k]\nbrokers = \"a:1\"\nsasl = {{ {sasl} }}\n");
    for (sasl, part) in [
        ("username = \"u\"", "needs a mechanism"),
        ("mechanism = \"plain\"", "did you mean \"PLAIN\"?"),
        ("mechanism = \"PLAIN\", username = \"u\"", "needs username and password"),
        ("mechanism = \"OAUTHBEARER\"", "needs token_file, or token_endpoint"),
        ("mechanism = \"OAUTHBEARER\", token_endpoint = \"http://x\"", "needs client_id and client_secret"),
        ("mechanism = \"OAUTHBEARER\", token_endpoint = \"http://x\", token_file = \"y\"", "exclude each other"),
        (
            "mechanism = \"OAUTHBEARER\", token_endpoint = \"https://me:secret@x/t\", client_id = \"i\", client_secret = \"s\"",
            "names a user before its host",
        ),
        ("mechanism = \"PLAIN\", username = \"u\", password = \"p\", token_file = \"y\"", "mean nothing"),
    ] {
        let found = problems(&file(sasl));
        assert!(found.iter().any(|(_, text)| text.contains(part)), "{sasl}: {found:?}");
    }
    let endpoint = "mechanism = \"OAUTHBEARER\", token_endpoint = \"https://x/t?at=me@here\", client_id = \"i\", client_secret = \"s\"";
    assert!(Config::parse(&file(endpoint), "f.toml").is_ok(), "behind the host it is no user");
    let tls = problems("[kafka.k]\nbrokers = \"a:1\"\ntls = { key = \"k.pem\" }\n");
    assert!(tls[0].1.contains("certificate and key need each other"), "{tls:?}");
}

#[test]
fn relations_name_both_sides() {
    let text = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from}");
        FILE.replace(from, to)
    };
    for (file, code, parts) in [
        (text("kafka = \"prod\"", "kafka = \"prd\""), codes::CONFIG_NAME, &["[kafka.prd]", "backup.toml:12:20"][..]),
        (text("store = \"lake\"", "store = \"x\""), codes::CONFIG_NAME, &["[store.x]"]),
        (text("every = \"10m\"", "every = \"2d\""), codes::CONFIG_RELATION, &["rule.orders.window.every", "2d", "1s to 24h"]),
        (text("level = 9", "level = 12"), codes::CONFIG_RELATION, &["rule.orders.format.level", "1 to 9", "rule.orders.format.codec"]),
        (text("codec = \"gzip\"", "codec = \"none\""), codes::CONFIG_RELATION, &["format.level", "format.codec"]),
        (text("level = 9", "level = \"auto\""), codes::CONFIG_RELATION, &["format.level is auto", "gzip takes 1 to 9", "format.codec"]),
        (text("codec = \"gzip\", level = 9", "codec = \"none\", level = \"auto\""), codes::CONFIG_RELATION, &["without compression"]),
        (text("level = 9", "level = \"most\""), codes::CONFIG_VALUE, &["format.level", "\"most\" is not a level", "or auto"]),
        (text("prefix = \"/a/b\"", "prefix = \"a//b\""), codes::CONFIG_RELATION, &["to.prefix"]),
        (text("prefix = \"/a/b\"", "prefix = \"a/_catchment\""), codes::CONFIG_RELATION, &["control objects"]),
        (text("layout = \"hive\"", "layout = \"hive\", path = \"x\""), codes::CONFIG_RELATION, &["to.path", "to.layout"]),
        (text("layout = \"hive\"", "instance = \"x\""), codes::CONFIG_RELATION, &["to.instance", "tencent"]),
        (text("layout = \"hive\"", "layout = \"tencent\""), codes::CONFIG_MISSING, &["instance id"]),
        (text("max_bytes = \"256MiB\"", "budget = \"1MiB\""), codes::CONFIG_RELATION, &["rule.orders.budget", "1MiB", "96MiB"]),
        (text("@-1h", "17"), codes::CONFIG_RELATION, &["source.start", "source.topics"]),
        (text("^orders\\\\..*", "^orders("), codes::CONFIG_VALUE, &["not a regular expression"]),
        (text("^orders\\\\..*", "orders*"), codes::CONFIG_VALUE, &["cannot be a topic", "starts with ^"]),
        (text("ckafka-xxx:50001", "ckafka-xxx"), codes::CONFIG_VALUE, &["HOST:PORT"]),
    ] {
        let error = only_problem(plan(&file, Overrides::default()));
        let shown = format!("{error} help={:?}", error.help);
        assert_eq!(error.code, code, "{shown}");
        for part in parts {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}

#[test]
fn what_a_backup_would_refuse_is_refused_with_its_place() {
    let text = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from}");
        FILE.replace(from, to)
    };
    let long = "p".repeat(200);
    let deep = text("/kafka/?region", &format!("/{long}/{long}/?region"));
    let tencent = |ids: &str| text("layout = \"hive\"", &format!("layout = \"tencent\", {ids}"));
    for (file, code, parts) in [
        (text("cos://my", "cso://my"), Code(310), &["backup.toml:8:7", "did you mean \"cos\"?"][..]),
        (text("?region=", "?regoin="), Code(311), &["backup.toml:8:7", "did you mean \"region\"?"]),
        (deep, Code(310), &["backup.toml:8:7", "400 bytes"]),
        (text("prefix = \"/a/b\"", "path = \"archive/{topc}\""), Code(317), &["backup.toml:15:", "rule.orders.to.path"]),
        (tencent("instance = \"50%\""), Code(315), &["backup.toml:15:", "to.instance", "50%"]),
        (tencent("instance = \"a\\u0007\""), Code(315), &["backup.toml:15:", "to.instance"]),
    ] {
        let file = file.replace("layout = \"hive\"", if code == Code(317) { "prefix = \"p\"" } else { "layout = \"hive\"" });
        let found = plan(&file, Overrides::default()).expect_err(&file);
        let said = format!("{found:?}");
        assert_eq!((found.len(), found[0].code), (1, code), "{said}");
        for part in parts {
            assert!(said.replace("\\\"", "\"").contains(part), "{part}: {said}");
        }
    }
    let one_topic = tencent("instance = \"a\", topic_id = \"x/y\"").replace("^orders\\\\..*", "orders");
    assert!(format!("{:?}", only_problem(plan(&one_topic, Overrides::default()))).contains("topic_id"));
    let nowhere = Overrides { to: Some("s3:/lake/".to_owned()), ..flags(&["a"], RuleSettings::default()) };
    assert_eq!(only_problem(plan("", nowhere)).code, Code(310));
    let together = Overrides { to: Some(format!("s3://lake/{long}/{long}/")), ..flags(&["a"], RuleSettings::default()) };
    assert_eq!(only_problem(plan("", together)).code, Code(310));
}

#[test]
fn a_prefix_and_its_store_are_measured_together() {
    let long = "p".repeat(190);
    let file = FILE.replace("/kafka/?region", &format!("/{long}/?region")).replace("/a/b", &format!("{long}/{}", &long[..50]));
    let error = only_problem(plan(&file, Overrides::default()));
    let said = format!("{error:?}");
    assert!(said.contains("rule.orders.to.prefix") && said.contains("backup.toml:15:") && said.contains("400 bytes"), "{said}");
}

#[test]
fn a_session_token_needs_its_keys() {
    let found = problems("[store.s]\nurl = \"s3://lake/\"\nsession_token = \"file:/t\"\n");
    assert!(found.len() == 1 && found[0].1.contains("session_token needs"), "{found:?}");
}

#[test]
fn an_upload_lives_longer_than_the_slowest_request() {
    let slowest_put = 30 + crate::limits::MULTIPART_BYTES_MIN / crate::store::open::BODY_RATE_MIN;
    let slowest_complete = crate::store::open::OpenOptions::default().complete_timeout.as_secs();
    let sent_after = crate::limits::PIN_AGE_MAX.as_secs();
    assert!(UPLOAD_DEADLINE_MIN.as_millis() / 1000 > sent_after + slowest_put.max(slowest_complete), "{slowest_put} s");
    let file = FILE.replace("on_gap =", "upload_deadline = \"19m\"\non_gap =");
    assert!(only_problem(plan(&file, Overrides::default())).message.contains("20m"));
}

#[test]
fn what_is_missing_is_named_with_the_flag_that_gives_it() {
    let problems = plan("", Overrides::default()).unwrap_err();
    let helps: Vec<String> = problems.iter().map(|e| e.help.clone().unwrap_or_default()).collect();
    assert!(problems.iter().all(|e| e.code == codes::CONFIG_MISSING), "{problems:?}");
    for part in ["-b HOST:PORT", "--to", "backup"] {
        assert!(helps.iter().any(|h| h.contains(part)), "{part}: {helps:?}");
    }
}

#[test]
fn a_rule_is_named_after_its_only_topic_or_must_be_named() {
    for topics in [&["a", "b"][..], &["Orders"], &["^orders"]] {
        let error = only_problem(plan("", flags(topics, RuleSettings::default())));
        assert_eq!(error.help.as_deref(), Some("say --rule NAME"), "{topics:?}");
        let named = Overrides { rule: Some("nightly".to_owned()), ..flags(topics, RuleSettings::default()) };
        assert_eq!(plan("", named).unwrap().group, "catchment-nightly");
    }
    let bad = Overrides { rule: Some("Nightly Run".to_owned()), ..flags(&["a"], RuleSettings::default()) };
    assert_eq!(only_problem(plan("", bad)).code, codes::CONFIG_VALUE);
}

#[test]
fn a_file_with_several_rules_asks_which() {
    let two = format!("{FILE}[rule.payments]\nsource = {{ topics = \"payments\" }}\n");
    assert!(only_problem(plan(&two, Overrides::default())).help.unwrap().contains("--rule payments"));
    let named = |name: &str| Overrides { rule: Some(name.to_owned()), ..Overrides::default() };
    let payments = plan(&two, named("payments")).unwrap();
    assert_eq!((payments.topics[0].as_str(), payments.kafka.brokers[0].as_str()), ("payments", "ckafka-xxx:50001"));
    let wrong = only_problem_of(plan(&two, named("payment")), codes::CONFIG_NAME);
    assert_eq!(wrong.help.as_deref(), Some("did you mean \"payments\"?"));
}

fn only_problem_of(result: Result<BackupPlan, Vec<Error>>, code: Code) -> Error {
    let problems = result.expect_err("must be refused");
    problems.into_iter().find(|e| e.code == code).expect("a problem with this code")
}

#[test]
fn every_key_is_read() {
    // A key that is listed but never read would be accepted and do nothing.
    let source = concat!(include_str!("settings.rs"), include_str!("file.rs"));
    for key in keys::KEYS {
        assert!(source.contains(&format!("\"{}\"", key.name)), "{}.{} is listed and never read", key.section, key.name);
    }
}
