//! The page of a destination.

use crate::stage::{becomes, held_job, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_paused_and_resumed() {
    let (trio, browser) = start(true).await;
    browser.go("/destinations/api2").await;
    browser.press("Pause").await;
    browser.shows("API 2 is paused by hand").await;
    let held = post(trio.gateway(), "{}").await;
    browser.shows("1 job held").await;
    browser.press("Resume").await;
    browser.shows("Resumed. It opens up carefully").await;
    becomes(trio.gateway(), held, "succeeded").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_have_tables_that_stay_open_while_the_page_is_kept_fresh() {
    let (trio, browser) = start(true).await;
    held_job(trio.gateway(), "{}").await;
    browser.go("/destinations/api2").await;
    browser.shows("waiting 1").await;
    browser.value("document.querySelector('#waiting summary').click()").await;
    assert_eq!(browser.value("document.querySelector('#waiting details').open").await, true);
    let until = "document.querySelector('#waiting table tbody th').innerText";
    let first = browser.value(until).await;
    let renewed =
        drills::wait::until(crate::stage::PATIENCE, async || (browser.value(until).await != first).then_some(()));
    assert!(renewed.await.is_some(), "the table is never renewed");
    assert_eq!(browser.value("document.querySelector('#waiting details').open").await, true);
    assert_eq!(browser.value("document.querySelectorAll('.chart svg path.line').length").await, 7);
    browser.press("Six hours").await;
    browser.shows("The last six hours").await;
    browser.close().await;
}
