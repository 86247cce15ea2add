//! `/jobs`.

use super::page;
use crate::support::{Gateway, answer, id};

#[tokio::test]
async fn jobs_are_found_by_state_destination_and_text() {
    let gateway = Gateway::start().await;
    let apple = gateway.accepted(r#"{"fruit":"apple"}"#).await;
    let other = id(&answer(gateway.post("/api1/process/other").body("pear"), 202).await);
    answer(gateway.post(&format!("/api1/jobs/{other}/cancel")), 200).await;
    for (query, finds_apple, finds_other) in [
        ("", true, true),
        ("?state=pending", true, false),
        ("?destination=other&state=", false, true),
        ("?q=apple", true, false),
        ("?q=nothing-has-this", false, false),
        ("?said=whatever", true, true),
    ] {
        let html = page(gateway.get(&format!("/jobs{query}"))).await;
        let found = (html.contains(&format!("/jobs/{apple}")), html.contains(&format!("/jobs/{other}")));
        assert_eq!(found, (finds_apple, finds_other), "{query}");
        assert!(!html.contains("whatever"), "an address puts no text of its own on a page");
    }
    let html = page(gateway.get("/jobs?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")).await;
    assert!(!html.contains("<script>alert") && html.contains("value=\"&#34;&#62;&#60;script"), "{html}");
}

#[tokio::test]
async fn the_next_page_keeps_the_filter() {
    let gateway = Gateway::start().await;
    for _ in 0..3 {
        gateway.accepted("{}").await;
    }
    let html = page(gateway.get("/jobs?state=pending&limit=2")).await;
    let link = html.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    assert!(link.starts_with("/jobs?state=pending&cursor="), "{link}");
    let next = page(gateway.get(&link)).await;
    assert_eq!(next.matches("scope=\"row\"").count(), 1, "{next}");
    assert!(!next.contains("rel=\"next\"") && next.contains(">Latest</a>"), "{next}");
}
