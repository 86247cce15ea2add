//! The overview, while things happen.

use crate::stage::{post, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_its_end_are_seen_without_a_reload() {
    let (trio, browser) = start(false).await;
    browser.go("/").await;
    browser.shows("Everything is getting through.").await;
    browser.shows("Live").await;
    browser.driver.execute("window.mark = 'the same page';", Vec::new()).await.unwrap();
    for _ in 0..20 {
        post(trio.gateway(), "{}").await;
    }
    browser.shows("One destination is not getting its jobs.").await;
    browser.shows("API 2 is down since").await;
    browser.shows("20 jobs held").await;
    trio.api2().toggle().await.unwrap();
    browser.shows("Everything is getting through.").await;
    assert_eq!(browser.value("window.mark").await, "the same page");
    let delivered = "[...document.querySelectorAll('.totals div')].find((d) => d.innerText.startsWith('Delivered')).querySelector('.value').innerText";
    browser.becomes(delivered, "20".into()).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_is_told_and_its_return_too() {
    let (mut trio, browser) = start(true).await;
    browser.go("/").await;
    browser.shows("Live").await;
    trio.gateway_process().kill();
    browser.shows("Not connected: figures are old").await;
    trio.restart_gateway().await.unwrap();
    browser.shows("Live").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    let (_trio, browser) = start(true).await;
    browser.go("/").await;
    let mut seen = Vec::new();
    for _ in 0..12 {
        browser
            .tell(
                "Input.dispatchKeyEvent",
                serde_json::json!({ "type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 }),
            )
            .await;
        seen.push(
            browser.value("document.activeElement.innerText").await.as_str().unwrap_or_default().trim().to_owned(),
        );
    }
    assert_eq!(seen[0], "Skip to content", "{seen:?}");
    for link in ["Jobs", "Dead letters", "API 2"] {
        assert!(seen.iter().any(|text| text == link), "{link} is out of the keyboard's reach: {seen:?}");
    }
    browser.close().await;
}
