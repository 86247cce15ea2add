//! Dead letters and mass redrive.

use crate::stage::{becomes, dead_job, start};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_counted_and_redriven_and_it_is_on_record() {
    let (trio, browser) = start(true).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(dead_job(&trio, &format!("{{\"n\":{number}}}")).await);
    }
    browser.go("/").await;
    browser.shows("somebody must decide").await;
    browser.go("/dead-letters?destination=api2").await;
    browser.write("canary", "1").await;
    browser.press("Count them first").await;
    browser.shows("These would be redriven.").await;
    browser.shows("Counted").await;
    for id in &ids {
        becomes(trio.gateway(), *id, "dead").await;
    }
    browser.press("Redrive them").await;
    for id in &ids {
        becomes(trio.gateway(), *id, "succeeded").await;
    }
    browser.shows("Done").await;
    browser.go("/dead-letters").await;
    browser.shows("None: nothing to look after here.").await;
    browser.shows("start mass redrive").await;
    browser.shows("Mass redrive 2").await;
    browser.close().await;
}
