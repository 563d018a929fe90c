//! Pages that say how to do the same by command line and API.

use super::*;

/// What stands in the fold of a page.
fn fold_of(page: &str) -> &str {
    let fold = page.split("<details class=\"elsewhere\">").nth(1).unwrap_or_else(|| panic!("it says nothing: {page}"));
    fold.split("</details>").next().unwrap()
}

#[tokio::test]
async fn a_page_says_what_to_type_for_all_that_it_shows_and_does() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let pages: [(&str, &[&str]); 13] = [
        ("/console", &["rule list"]),
        ("/console/rules/orders", &["rule show orders", "rule pause orders", "rule seal orders", "rule verify orders", "rule gaps orders"]),
        ("/console/rules/orders/edit", &["rule edit orders orders.toml --version 2"]),
        ("/console/rules/orders/versions", &["rule versions orders", "rule rollback orders 1"]),
        ("/console/rules/orders/clone", &["rule clone orders orders-2 orders-2.toml"]),
        ("/console/rules/orders/delete", &["rule delete orders"]),
        ("/console/rules/orders/log", &["rule log orders", "rule log orders --follow"]),
        ("/console/sources", &["rule sources", "rule create-source other other.toml", "rule test-source k"]),
        ("/console/sources/orders/edit", &["rule edit-source orders orders.toml --version 1", "rule delete-source orders"]),
        ("/console/stores", &["rule stores", "rule create-store other other.toml", "rule probe-store s"]),
        ("/console/workers", &["rule workers"]),
        ("/console/tokens", &["token ls", "token add other"]),
        ("/console/health", &["rule audit", "rule copy-state"]),
    ];
    for language in ["en", "zh-CN"] {
        for (path, commands) in pages {
            let page = bench.get(path, language).await.body;
            let fold = fold_of(&page);
            for command in commands {
                assert!(fold.contains(&format!("<code>catchment {command}</code>")), "{path} lacks {command}: {fold}");
            }
            assert!(fold.contains("<code>curl ") && fold.contains("<code>CATCHMENT_TOKEN_FILE</code>"), "{path}: {fold}");
        }
    }
    bench.post("/console/rules/orders/pause", "").await;
    let paused = bench.get("/console/rules/orders", "en").await.body;
    let fold = fold_of(&paused);
    assert!(fold.contains("catchment rule resume orders") && !fold.contains("rule pause") && !fold.contains("rule seal"), "{fold}");
}

#[tokio::test]
async fn the_review_of_an_edit_says_how_to_make_it_by_other_means() {
    let bench = Bench::new().await;
    bench.with_a_rule().await;
    let review = bench.post("/console/rules/orders/edit", "version=2&go=review&topics=orders&source=k&store=s&prefix=new%2F").await.body;
    let fold = fold_of(&review);
    assert!(
        fold.contains("prefix = &#34;new/&#34;") && fold.contains("&#34;prefix&#34;:&#34;new/&#34;"),
        "file and call are of the new version: {fold}"
    );
    assert!(fold.contains("If-Match: &#34;2&#34;") && !fold.contains("&#60;b&#62;"), "{fold}");
}
