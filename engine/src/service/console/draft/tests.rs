//! What bodies follow from drafts, and what is said of single fields.

use super::super::catalogue::{CHINESE, ENGLISH};
use super::*;
use crate::config::RunOptions;
use crate::service::definition::{merged, plan};

fn config() -> Config {
    Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n", "base").unwrap()
}

fn draft(pairs: &[(&'static str, &str)]) -> Draft {
    let mut draft = Draft::new(&config());
    draft.0.extend(pairs.iter().map(|(field, value)| (*field, (*value).to_owned())));
    draft.normalised()
}

#[test]
fn a_new_body_has_what_is_not_a_default() {
    let body =
        draft(&[("name", "orders"), ("topics", "a\nb"), ("kind", "raw"), ("framing", "len32"), ("prefix", "x/"), ("start", "17")]).body();
    let expected = json!({
        "source": { "kafka": "k", "topics": ["a", "b"], "start": 17 },
        "window": { "every": "5m" },
        "format": { "kind": "raw", "framing": "len32" },
        "to": { "store": "s", "prefix": "x/" },
    });
    assert_eq!(body, expected);
}

#[test]
fn an_edit_changes_what_was_changed_and_nothing_else() {
    let standing = json!({
        "source": { "kafka": "k", "topics": ["a"], "start": "latest" },
        "format": { "kind": "raw", "framing": "len32", "level": 9 },
        "to": { "store": "s", "layout": "hive" },
        "on_stop": "close",
    })
    .to_string();
    let before = Draft::of_body("orders", &standing);
    assert_eq!(before.text("every"), "5m", "what is not given is shown as it is");
    assert_eq!(before.changes_from(&before), json!({}), "a form that is sent as it was shown changes nothing");
    let mut after = before.clone();
    after.0.extend([("kind", "parquet".to_owned()), ("topics", "a\nc".to_owned()), ("start", String::new()), ("prefix", "p/".to_owned())]);
    let edited: Value = serde_json::from_str(&merged(&standing, after.normalised().changes_from(&before)).unwrap()).unwrap();
    let expected = json!({
        "source": { "kafka": "k", "topics": ["a", "c"] },
        "format": { "level": 9 },
        "to": { "store": "s", "layout": "hive", "prefix": "p/" },
        "on_stop": "close",
    });
    assert_eq!(edited, expected);
}

#[test]
fn a_field_that_is_wrong_by_itself_is_named() {
    let wrong = |pairs: &[(&'static str, &str)], step| {
        draft(pairs).problems(&ENGLISH, &config(), step).into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(wrong(&[("name", "Orders"), ("every", "25h"), ("store", "none")], 1), ["name", "store", "every"]);
    assert_eq!(wrong(&[("name", "orders")], 1), [] as [&str; 0]);
    assert_eq!(wrong(&[("source", "")], 2), ["source", "topics"]);
    assert_eq!(wrong(&[("layout", "tencent")], 3), ["instance"]);
    let gaps = [("topics", "a"), ("on_retention", "halt"), ("on_truncation", "go on"), ("on_corrupt_batch", "")];
    assert_eq!(wrong(&gaps, 2), ["on_truncation"]);
    for (topics, id, expected) in [("a", "topic-9", true), ("a", "x/y", false), ("a\nb", "topic-9", false), ("^a", "topic-9", false)] {
        let named = wrong(&[("topics", topics), ("layout", "tencent"), ("instance", "i"), ("topic_id", id)], 3);
        assert_eq!(named.is_empty(), expected, "{topics} {id}: {named:?}");
    }
    let all = draft(&[("name", "Orders"), ("layout", "tencent")]).all_problems(&ENGLISH, &config());
    assert_eq!(all.into_iter().map(|(field, _)| field).collect::<Vec<_>>(), ["name", "topics", "instance"]);
}

#[test]
fn every_field_of_a_step_has_an_input_and_every_setting_a_step() {
    let fields: Vec<&str> = STEPS.concat();
    let draft = draft(&[]);
    assert_eq!(draft.inputs(&CHINESE, &config(), &fields, &Vec::new()).len(), fields.len());
    assert!(SETTINGS.iter().all(|setting| fields.contains(&setting.field)));
    let (plain, fold) = draft.form(&CHINESE, &config(), &fields, &Vec::new());
    assert_eq!(plain.len() + fold.unwrap().inputs.len(), fields.len(), "what is folded is shown once");
}

#[test]
fn the_policy_on_missing_records_is_in_a_body_where_it_is_not_the_usual_one() {
    let written = [("name", "orders"), ("topics", "a"), ("on_retention", "continue"), ("on_truncation", "halt")];
    assert_eq!(draft(&written).body().get("on_gap"), None);
    let chosen = draft(&[("topics", "a"), ("on_retention", "halt"), ("on_truncation", "continue"), ("on_corrupt_batch", "halt")]);
    assert_eq!(chosen.body()["on_gap"], json!({ "retention": "halt", "truncation": "continue" }));
    let recreated = draft(&[("topics", "a"), ("on_topic_recreated", "continue"), ("on_corrupt_batch", "continue")]);
    assert_eq!(recreated.body()["on_gap"], json!({ "corrupt_batch": "continue", "topic_recreated": "continue" }));
}

/// A rule whose form says nothing of missing records does what the form shows.
#[test]
fn the_usual_policy_is_the_one_that_the_engine_has_without_any() {
    let draft = draft(&[("name", "orders"), ("topics", "a")]);
    let plan = plan(&config(), "orders", &draft.body().to_string(), "128MiB".parse().unwrap(), RunOptions::default()).unwrap();
    let policy = plan.on_gap;
    let by_field = [policy.retention, policy.truncation, policy.corrupt_batch, policy.topic_recreated];
    assert_eq!(by_field.map(OnGap::as_str), ON_GAP.map(|field| draft.text(field)));
}

#[test]
fn an_edit_shows_the_policy_that_stands_and_can_take_it_back() {
    let standing = json!({ "source": { "topics": ["a"] }, "on_gap": { "retention": "halt", "corrupt_batch": "halt" } }).to_string();
    let before = Draft::of_body("orders", &standing);
    assert_eq!(ON_GAP.map(|field| before.text(field)), ["halt", "halt", "halt", "halt"]);
    assert_eq!(before.changes_from(&before), json!({}));
    let mut after = before.clone();
    after.0.extend([("on_retention", "continue".to_owned()), ("on_truncation", "continue".to_owned())]);
    let edited: Value = serde_json::from_str(&merged(&standing, after.changes_from(&before)).unwrap()).unwrap();
    assert_eq!(edited["on_gap"], json!({ "truncation": "continue", "corrupt_batch": "halt" }), "what is given and usual stays");
}

#[test]
fn the_fold_is_open_where_it_holds_something() {
    let open = |draft: &Draft| {
        let (_, fold) = draft.form(&ENGLISH, &config(), STEPS[1], &draft.problems(&ENGLISH, &config(), 2));
        fold.map(|fold| fold.open)
    };
    assert_eq!(open(&draft(&[("topics", "a")])), Some(false));
    assert_eq!(open(&draft(&[("topics", "a"), ("on_corrupt_batch", "continue")])), Some(true));
    assert_eq!(open(&draft(&[("topics", "a"), ("on_truncation", "nonsense")])), Some(true), "a problem in it is seen");
    assert!(draft(&[]).form(&ENGLISH, &config(), STEPS[0], &Vec::new()).1.is_none(), "a step without one has none");
}

#[test]
fn what_belongs_to_a_layout_goes_with_it() {
    let of_tencent = [("topics", "a"), ("layout", "tencent"), ("instance", "i"), ("topic_id", "topic-9")];
    assert_eq!(draft(&of_tencent).body()["to"], json!({ "store": "s", "layout": "tencent", "instance": "i", "topic_id": "topic-9" }));
    for (other, to) in [
        (("layout", "confluent"), json!({ "store": "s", "layout": "confluent" })),
        (("path", "x/{topic}"), json!({ "store": "s", "path": "x/{topic}" })),
    ] {
        assert_eq!(draft(&[&of_tencent[..], &[other]].concat()).body()["to"], to, "{other:?}");
    }
}

#[test]
fn a_setting_that_a_form_does_not_have_stays_as_it_was() {
    let standing = json!({ "source": { "topics": ["a"] }, "on_gap": { "retention": "halt" }, "to": { "prefix": "x/" } }).to_string();
    let before = Draft::of_body("orders", &standing);
    let typed = Fields::of([("topics", "a".to_owned()), ("prefix", String::new()), ("every", "2m".to_owned())]);
    let after = Draft::of_form(&typed, &before);
    assert_eq!(
        after.changes_from(&before),
        json!({ "to": { "prefix": null }, "window": { "every": "2m" } }),
        "an empty field is one that it has"
    );
}
