//! The weather of an api2-flaky.

use crate::stage::{becomes, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_weather_is_changed_and_the_ledger_shows_what_arrived() {
    let (trio, browser) = start(false).await;
    let id = post(trio.gateway(), "{}").await;
    browser.go("/drill/api2").await;
    browser.shows("API 2 is down").await;
    browser.press("Toggle up and down").await;
    browser.shows("API 2 is up").await;
    becomes(trio.gateway(), id, "succeeded").await;
    browser.shows("200").await;
    browser.choose("weather", "slow").await;
    browser.press("Set the weather").await;
    browser.shows("API 2 is slow").await;
    browser.write("json", r#"{"mode":"error_rate","rate":2,"status":500}"#).await;
    browser.press("Set the weather").await;
    browser.shows("did not take it").await;
    browser.close().await;
}
