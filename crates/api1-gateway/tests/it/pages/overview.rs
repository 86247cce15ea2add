//! `/`.

use super::page;
use crate::support::Gateway;

#[tokio::test]
async fn the_overview_answers_whether_everything_is_getting_through() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    let html = page(gateway.get("/")).await;
    assert!(html.contains("Everything is getting through."), "{html}");
    assert!(html.contains("href=\"/destinations/api2\">API 2</a>"), "{html}");
    assert!(html.contains("1 job for API 2 wait"), "{html}");
}

#[tokio::test]
async fn what_the_pages_refer_to_is_there_and_is_ours() {
    let gateway = Gateway::start().await;
    let html = page(gateway.get("/")).await;
    let references = html.split("=\"/assets/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut count = 0;
    for reference in references {
        let response = gateway.get(&format!("/assets/{reference}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{reference}");
        count += 1;
    }
    assert_eq!(count, 3);
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
}
