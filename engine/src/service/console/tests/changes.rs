//! What is created and edited by forms.

use super::super::catalogue::{CHINESE, ENGLISH};
use super::*;
use crate::service::definition::Kind;
use crate::service::state::Origin;

const DRAFT: &str =
    "name=clicks&store=s&every=5m&by=record-time&kind=parquet&framing=newline&codec=zstd&source=k&start=earliest&layout=hive&prefix=x";

/// What a page's choice holds.
fn choice_of<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<select id=\"{id}\"")).unwrap();
    rest.split_once("</select>").unwrap().0
}

#[tokio::test]
async fn a_rule_is_written_in_four_screens_and_edited_as_a_form_and_as_a_file() {
    let (bench, draft) = (Bench::new().await, DRAFT);
    let first = bench.post("/console/add", &format!("step=1&go=next&{draft}")).await.body;
    assert!(first.contains("name=\"step\" value=\"2\"") && first.contains("name=\"name\" value=\"clicks\""), "{first}");
    let second = bench.post("/console/add", &format!("step=2&go=next&topics=a&topic=b&topic=a&{draft}")).await.body;
    assert!(
        second.contains("name=\"step\" value=\"3\"") && second.contains("name=\"topics\" value=\"a&#10;b\"")
            || second.contains("value=\"a\nb\""),
        "{second}"
    );
    let third = bench.post("/console/add", &format!("step=3&go=next&topics=a%0Ab&{draft}")).await.body;
    assert!(
        third.contains("name=\"step\" value=\"4\"") && third.contains("[rule.clicks") && third.contains("arn:aws:s3:::lake/kafka/x/*"),
        "{third}"
    );
    assert!(third.contains("catchment rule create clicks clicks.toml") && third.contains("curl -X POST"), "{third}");
    let made = bench.post("/console/add", &format!("step=4&go=next&topics=a%0Ab&{draft}")).await;
    assert_eq!(made.header(header::LOCATION), "/console/rules/clicks?done=created", "{}", made.body);
    let stored = bench.service.state.rule("clicks").unwrap();
    assert_eq!(stored.body, r#"{"source":{"kafka":"k","topics":["a","b"]},"to":{"prefix":"x","store":"s"},"window":{"every":"5m"}}"#);
    let again = bench.post("/console/add", &format!("step=1&go=next&{draft}")).await.body;
    assert!(again.contains("C0603"), "{again}");

    let form = draft.replace("every=5m", "every=7m");
    let review = bench.post("/console/rules/clicks/edit", &format!("version=1&go=review&topics=a%0Ab&{form}")).await.body;
    assert!(review.contains("<code>window.every</code>") && review.contains("7m"), "{review}");
    let body = escaped(r#"{"source":{"kafka":"k","topics":["a","b"]},"to":{"prefix":"x","store":"s"},"window":{"every":"7m"}}"#);
    let saved = bench.post("/console/rules/clicks/edit", &format!("version=1&go=save&body={body}")).await;
    assert_eq!(saved.header(header::LOCATION), "/console/rules/clicks?done=edited", "{}", saved.body);
    let stale = bench.post("/console/rules/clicks/edit", &format!("version=1&go=save&body={}", body.replace("7m", "8m"))).await;
    assert_eq!((stale.status, stale.body.contains("C0604")), (StatusCode::PRECONDITION_FAILED, true), "{}", stale.body);
    let toml = bench.get("/console/rules/clicks/rule.toml", "en").await;
    assert!(toml.body.contains("every = \"7m\"") && toml.header(header::CONTENT_DISPOSITION).contains("clicks.toml"));
    let reviewed = bench
        .post("/console/rules/clicks/edit", &format!("version=2&go=review-toml&toml={}", escaped(&toml.body.replace("7m", "9m"))))
        .await;
    assert!(reviewed.body.contains("<code>window.every</code>") && reviewed.body.contains("9m"), "{}", reviewed.body);
}

#[tokio::test]
async fn what_is_done_about_missing_records_is_chosen_in_a_fold_and_shown_by_an_edit() {
    let bench = Bench::new().await;
    let wrong = bench.post("/console/add", &format!("step=2&go=next&topics=a&on_truncation=nonsense&{DRAFT}")).await.body;
    assert!(wrong.contains("name=\"step\" value=\"2\"") && wrong.contains("<details id=\"fold\" open>"), "{wrong}");
    assert!(wrong.contains("aria-describedby=\"on_truncation-problem\"") && wrong.contains(ENGLISH.choose_on_gap), "{wrong}");
    let chosen = "on_retention=halt&on_truncation=halt&on_corrupt_batch=continue&on_topic_recreated=halt";
    let third = bench.post("/console/add", &format!("step=2&go=next&topics=a&{chosen}&{DRAFT}")).await.body;
    assert!(third.contains("name=\"on_corrupt_batch\" value=\"continue\"") && !third.contains("id=\"fold\""), "carried along: {third}");
    let made = bench.post("/console/add", &format!("step=4&go=next&topics=a&{chosen}&{DRAFT}")).await;
    assert_eq!(made.header(header::LOCATION), "/console/rules/clicks?done=created", "{}", made.body);
    let stored: serde_json::Value = serde_json::from_str(&bench.service.state.rule("clicks").unwrap().body).unwrap();
    assert_eq!(stored["on_gap"], json!({ "retention": "halt", "corrupt_batch": "continue" }));

    let form = bench.get("/console/rules/clicks/edit", "en").await.body;
    assert!(form.contains("<details id=\"fold\" open>"), "{form}");
    for (id, value) in
        [("on_retention", "halt"), ("on_truncation", "halt"), ("on_corrupt_batch", "continue"), ("on_topic_recreated", "halt")]
    {
        assert!(choice_of(&form, id).contains(&format!("value=\"{value}\" selected")), "{id}: {form}");
    }
    let usual = chosen.replace("on_retention=halt", "on_retention=continue");
    let review = bench.post("/console/rules/clicks/edit", &format!("version=1&go=review&topics=a&{usual}&{DRAFT}")).await.body;
    assert!(review.contains("<code>on_gap.retention</code>") && !review.contains("<code>on_gap.corrupt_batch</code>"), "{review}");
    let nonsense = chosen.replace("on_retention=halt", "on_retention=nonsense");
    let refused = bench.post("/console/rules/clicks/edit", &format!("version=1&go=review&topics=a&{nonsense}&{DRAFT}")).await.body;
    assert!(refused.contains("id=\"on_retention-problem\"") && refused.contains("id=\"problems\""), "{refused}");
}

#[tokio::test]
async fn a_topic_id_is_for_one_topic_in_directories_by_instance() {
    let bench = Bench::new().await;
    let draft = DRAFT.replace("layout=hive", "layout=tencent&instance=i&topic_id=topic-9");
    let several = bench.post("/console/add", &format!("step=3&go=next&topics=a%0Ab&{draft}")).await.body;
    assert!(several.contains("name=\"step\" value=\"3\"") && several.contains("id=\"topic_id-problem\""), "{several}");
    let made = bench.post("/console/add", &format!("step=4&go=next&topics=a&{draft}")).await;
    assert_eq!(made.header(header::LOCATION), "/console/rules/clicks?done=created", "{}", made.body);
    let stored: serde_json::Value = serde_json::from_str(&bench.service.state.rule("clicks").unwrap().body).unwrap();
    assert_eq!((&stored["to"]["instance"], &stored["to"]["topic_id"]), (&json!("i"), &json!("topic-9")));
    let form = bench.get("/console/rules/clicks/edit", "en").await.body;
    assert!(form.contains("name=\"topic_id\" value=\"topic-9\""), "{form}");
}

#[tokio::test]
async fn a_rule_of_a_file_is_changed_in_its_file_and_paused_here() {
    let bench = Bench::new().await;
    let body = json!({ "source": { "kafka": "k", "topics": ["orders"] }, "to": { "store": "s" } }).to_string();
    bench.service.state.create("orders", &body, Origin::File, "base", 1).unwrap();
    for (language, texts) in [("en", &ENGLISH), ("zh-CN", &CHINESE)] {
        let form = bench.get("/console/rules/orders/edit", language).await.body;
        assert!(form.contains(texts.read_only), "{language}: {form}");
    }
    let before = bench.service.state.rule("orders").unwrap();
    let later = escaped(&json!({ "source": { "kafka": "k", "topics": ["orders"] }, "to": { "store": "s", "prefix": "x/" } }).to_string());
    let refused = bench.post("/console/rules/orders/edit", &format!("version=1&go=save&body={later}")).await;
    assert_eq!((refused.status, refused.body.contains("C0614")), (StatusCode::CONFLICT, true), "{}", refused.body);
    let review = bench.post("/console/rules/orders/edit", "version=1&go=review&topics=orders&prefix=x%2F").await.body;
    assert!(review.contains("C0614") && !review.contains("id=\"save\""), "{review}");
    assert_eq!(bench.service.state.rule("orders").unwrap(), before, "nothing was changed");
    assert_eq!(bench.post("/console/rules/orders/pause", "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(bench.service.state.rule("orders").unwrap().wanted.as_str(), "paused");

    bench.service.state.create("own", &body.replace("orders", "own"), Origin::Api, "me", 1).unwrap();
    let own = bench.get("/console/rules/own/edit", "en").await.body;
    assert!(own.contains("id=\"review\"") && !own.contains(ENGLISH.read_only), "{own}");
}

#[tokio::test]
async fn a_connection_keeps_its_secret_to_itself() {
    let bench = Bench::new().await;
    let form = "name=more&brokers=h%3A1&mechanism=PLAIN&username=u&password=hush-canary&properties=client.id%3Dx";
    assert_eq!(bench.post("/console/sources", form).await.header(header::LOCATION), "/console/sources?done=created");
    let page = bench.get("/console/sources", "en").await.body;
    assert!(page.contains("sasl.mechanism = ") && page.contains("properties.client.id = ") && !page.contains("hush-canary"), "{page}");
    let refused = bench.post("/console/sources", &form.replace("name=more", "name=More")).await.body;
    assert!(refused.contains("C0105") && !refused.contains("hush-canary"), "{refused}");
    assert_eq!(bench.post("/console/sources/more/delete", "").await.header(header::LOCATION), "/console/sources?done=deleted");
}

#[tokio::test]
async fn a_form_that_is_refused_comes_back_without_what_is_secret_in_it() {
    let bench = Bench::new().await;
    let properties = escaped("client.id=x\nsasl.password=hush-canary\nssl.key.password=file:/p");
    let refused = bench.post("/console/sources", &format!("name=More&brokers=h%3A1&properties={properties}")).await.body;
    assert!(refused.contains("C0105") && !refused.contains("hush-canary"), "{refused}");
    let kept = "client.id=x\nsasl.password=\nssl.key.password=file:/p</textarea>";
    assert!(refused.contains(kept) && refused.contains("id=\"properties-problem\""), "{refused}");
    let empty = bench.post("/console/sources", "name=more&brokers=h%3A1&properties=sasl.password%3D").await.body;
    assert!(empty.contains("C0105") && empty.contains("sasl.password"), "an empty one is not stored in its place: {empty}");
    let url = escaped("s3://lake/x/?region=r");
    let refused = bench.post("/console/stores", &format!("name=More&url={url}&access_key_id=AKHUSH")).await.body;
    assert!(refused.contains("id=\"access_key_id-problem\"") && !refused.contains("AKHUSH"), "{refused}");
    bench.post("/console/stores", &format!("name=t&url={url}&access_key_id=AKSTORED&secret_access_key=hush-one")).await;
    let later = bench.post("/console/stores/t/edit", &format!("version=7&go=save&url={url}&access_key_id=AKHUSH")).await.body;
    assert!(later.contains("required aria-invalid") && !later.contains("AKHUSH") && !later.contains("AKSTORED"), "{later}");
    assert!(bench.service.state.connection("store", "t").unwrap().body.contains("AKSTORED"), "nothing was written over");
}

#[tokio::test]
async fn a_connection_is_edited_and_keeps_the_secret_that_is_not_typed() {
    let bench = Bench::new().await;
    let form = "brokers=h%3A1&mechanism=PLAIN&username=u&properties=client.id%3Dx";
    bench.post("/console/sources", &format!("name=more&password=hush-canary&{form}")).await;
    let page = bench.get("/console/sources/more/edit", "en").await.body;
    assert!(page.contains("value=\"h:1\"") && page.contains("name=\"version\" value=\"1\"") && page.contains("client.id=x"), "{page}");
    assert!(page.contains("name=\"forget\" value=\"password\"") && !page.contains("hush-canary"), "{page}");

    let edited = form.replace("username=u", "username=v");
    let saved = bench.post("/console/sources/more/edit", &format!("version=1&go=save&{edited}")).await;
    assert_eq!(saved.header(header::LOCATION), "/console/sources?done=edited", "{}", saved.body);
    let stored = bench.service.state.connection("kafka", "more").unwrap();
    assert!(stored.version == 2 && stored.body.contains("hush-canary") && stored.body.contains(r#""username":"v""#), "{}", stored.version);
    let by = bench.service.state.audited(None, i64::MAX, 1).unwrap().remove(0);
    assert_eq!((by.who.as_str(), by.action.as_str()), ("console", "redefine kafka"));
    let detail = r#"{"name":"more","differences":[{"key":"sasl.username","before":"u","after":"v"}]}"#;
    assert_eq!(by.detail.as_deref(), Some(detail));
    let health = bench.get("/console/health", "en").await.body;
    assert!(health.contains("sasl.username") && health.contains("sasl.password") && !health.contains("hush-canary"), "{health}");

    let later = format!("version=1&go=save&password=hush-other&{}", form.replace("username=u", "username=w"));
    let stale = bench.post("/console/sources/more/edit", &later).await;
    assert_eq!((stale.status, stale.body.contains("C0604")), (StatusCode::PRECONDITION_FAILED, true), "{}", stale.body);
    let shown = ["value=\"w\"", "name=\"version\" value=\"1\"", "id=\"password-problem\""];
    assert!(shown.iter().all(|text| stale.body.contains(text)), "what was typed stays: {}", stale.body);
    assert!(stale.body.contains("required aria-invalid") && !stale.body.contains("hush-other"), "but for secrets: {}", stale.body);
    for go in ["save", "test"] {
        let moved = format!("version=2&go={go}&{}", edited.replace("h%3A1", "evil%3A1"));
        let refused = bench.post("/console/sources/more/edit", &moved).await.body;
        assert!(refused.contains("C0105") && !refused.contains("hush-canary"), "a secret goes nowhere else, {go}: {refused}");
    }
    assert_eq!(bench.service.state.connection("kafka", "more").unwrap(), stored, "nothing was written over");
    let of_file = bench.get("/console/sources/k/edit", "en").await;
    assert_eq!((of_file.status, of_file.body.contains("C0612")), (StatusCode::NOT_FOUND, true), "{}", of_file.body);
}

#[tokio::test]
async fn a_form_that_is_sent_back_unchanged_is_kept_however_its_connection_was_written() {
    let bench = Bench::new().await;
    let name = "enable.ssl.certificate.verification";
    let sasl = json!({ "mechanism": "PLAIN", "username": "u", "password": "hush-canary" });
    let body = json!({ "name": "more", "brokers": "h:1, h:2", "sasl": sasl, "properties": { name: true } });
    bench.service.supervisor.create_connection(Kind::Kafka, body, "me").await.unwrap();
    let before = bench.service.state.connection("kafka", "more").unwrap();
    let form = format!("brokers=h%3A1%2C+h%3A2&mechanism=PLAIN&username=u&properties={name}%3Dtrue");
    let saved = bench.post("/console/sources/more/edit", &format!("version=1&go=save&{form}")).await;
    assert_eq!(saved.header(header::LOCATION), "/console/sources?done=edited", "{}", saved.body);
    assert_eq!(bench.service.state.connection("kafka", "more").unwrap().body, before.body);
    // The API keeps the secret, too, if the same is written in another way.
    let again = json!({ "brokers": ["h:1", "h:2"], "sasl": { "mechanism": "PLAIN", "username": "u", "password": "***" }, "properties": { name: "true" } });
    bench.service.supervisor.edit_connection(Kind::Kafka, "more", None, again, "me").await.unwrap();
    assert!(bench.service.state.connection("kafka", "more").unwrap().body.contains("hush-canary"));
}

#[tokio::test]
async fn a_secret_without_a_field_is_named_with_the_command_that_writes_it_anew() {
    let bench = Bench::new().await;
    let body = json!({ "name": "more", "brokers": ["h:1"], "tls": { "certificate": "/c", "key": "/k", "key_password": "hush-canary" } });
    bench.service.supervisor.create_connection(Kind::Kafka, body, "me").await.unwrap();
    let moved = bench.post("/console/sources/more/edit", "version=1&go=save&brokers=h%3A2&tls=system").await.body;
    let said = ["C0105", "id=\"without-field\"", "<code>tls.key_password</code>", "catchment rule edit-source more more.toml"];
    assert!(said.iter().all(|text| moved.contains(text)) && !moved.contains("hush-canary"), "{moved}");
    bench.post("/console/sources", "name=plain&brokers=h%3A1&mechanism=PLAIN&username=u&password=hush-canary").await;
    let plain = bench.get("/console/sources/plain/edit", "en").await.body;
    assert!(!plain.contains("without-field"), "{plain}");
}

#[tokio::test]
async fn a_secret_of_a_store_is_forgotten_by_a_tick() {
    let bench = Bench::new().await;
    let url = escaped("s3://lake/x/?region=r");
    bench.post("/console/stores", &format!("name=t&url={url}&access_key_id=AK&secret_access_key=hush-one&session_token=hush-two")).await;
    let saved = bench.post("/console/stores/t/edit", &format!("version=1&go=save&url={url}&forget=session_token")).await;
    assert_eq!(saved.header(header::LOCATION), "/console/stores?done=edited", "{}", saved.body);
    let stored = bench.service.state.connection("store", "t").unwrap();
    assert!(stored.body.contains("hush-one") && stored.body.contains("AK") && !stored.body.contains("hush-two"), "{}", stored.version);
}
