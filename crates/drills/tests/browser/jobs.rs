//! The list of jobs.

use reqwest::Method;

use crate::stage::{becomes, dead_job, held_job, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_filtered_and_what_was_asked_for_is_in_the_address() {
    let (trio, browser) = start(true).await;
    let dead = dead_job(&trio, r#"{"fruit":"quince"}"#).await;
    let held = held_job(trio.gateway(), r#"{"fruit":"apple"}"#).await;
    let short = |id: jobs_core::job::JobId| id.to_string()[30..].to_owned();
    browser.go("/jobs").await;
    browser.choose("state", "dead").await;
    browser.press("Show").await;
    browser.becomes("new URLSearchParams(location.search).get('state')", "dead".into()).await;
    browser.shows(&short(dead)).await;
    assert!(!browser.text().await.contains(&short(held)));
    browser.choose("state", "").await;
    browser.write("q", "apple").await;
    browser.press("Show").await;
    browser.shows(&short(held)).await;
    assert!(!browser.text().await.contains(&short(dead)));
    browser.go("/jobs?created_until=2020-01-01T00:00").await;
    browser.shows("No job fits.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_wait_are_cancelled_by_the_gateway() {
    let (trio, browser) = start(true).await;
    let first = held_job(trio.gateway(), "{}").await;
    for _ in 0..59 {
        post(trio.gateway(), "{}").await;
    }
    browser.go("/jobs?state=pending&destination=api2").await;
    browser.shows("60 jobs, latest accepted first").await;
    browser.press("Older").await;
    browser.shows("Latest").await;
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length").await, 10);
    browser.press("Cancel all of these…").await;
    browser.shows("Cancel 60 jobs that are waiting, for api2?").await;
    browser.press("Cancel them all").await;
    browser.shows("Done").await;
    becomes(trio.gateway(), first, "cancelled").await;
    let stats = trio.gateway().call(Method::GET, "/api1/stats").await.unwrap();
    assert!(stats.body.contains("\"cancelled\":60"), "{}", stats.body);
    browser.close().await;
}
