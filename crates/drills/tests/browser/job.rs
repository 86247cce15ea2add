//! The page of a job.

use crate::stage::{becomes, dead_job, held_job, start};

const HTML: &str =
    r#"{"x":"</pre><script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_full_of_html_stays_text() {
    let (trio, browser) = start(true).await;
    let id = held_job(trio.gateway(), HTML).await;
    browser.go(&format!("/jobs/{id}")).await;
    browser.shows("</pre><script>document.title='taken over'</script><img").await;
    assert!(browser.value("document.title").await.as_str().unwrap().starts_with("Job "));
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length").await, 0);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_cancelled_redriven_and_delivered_and_the_page_follows() {
    let (trio, browser) = start(true).await;
    let id = held_job(trio.gateway(), "{}").await;
    browser.go(&format!("/jobs/{id}")).await;
    browser.shows("But API 2 is paused").await;
    browser.press("Cancel it").await;
    browser.shows("Cancelled. It can be redriven").await;
    becomes(trio.gateway(), id, "cancelled").await;
    browser.press("Redrive").await;
    browser.shows("Redriven. It is due now").await;
    trio.gateway().call(reqwest::Method::POST, "/api1/destinations/api2/resume").await.unwrap();
    browser.shows("Delivered at").await;
    browser.shows("Done 200").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_mended_or_resolved_by_hand() {
    let (trio, browser) = start(true).await;
    let id = dead_job(&trio, r#"{"amount":-1}"#).await;
    browser.go(&format!("/jobs/{id}")).await;
    browser.shows("the destination refused it for good").await;
    browser.shows("Refused 422").await;
    browser.press("Edit and redrive…").await;
    browser.write("payload", r#"{"amount":1}"#).await;
    browser.press("Make the new job").await;
    browser.shows("This is the new job").await;
    browser.shows("Delivered at").await;
    let other = dead_job(&trio, "{}").await;
    browser.go(&format!("/jobs/{other}")).await;
    browser.write("reason", "paid by bank transfer").await;
    browser.press("Mark as resolved").await;
    browser.shows("paid by bank transfer").await;
    browser.go("/dead-letters").await;
    browser.shows("None: nothing to look after here.").await;
    browser.close().await;
}
