//! What is created and edited by forms.

use super::*;

#[tokio::test]
async fn a_rule_is_written_in_four_screens_and_edited_as_a_form_and_as_a_file() {
    let bench = Bench::new().await;
    let draft =
        "name=clicks&store=s&every=5m&by=record-time&kind=parquet&framing=newline&codec=zstd&source=k&start=earliest&layout=hive&prefix=x";
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
