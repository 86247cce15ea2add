//! Every screen: light and dark, wide and narrow, for people who use a screen reader, and with nothing from elsewhere.

use drills::trio::Trio;

use crate::browser::Browser;
use crate::stage::{dead_job, held_job, start};

/// Every screen, with something on it.
async fn screens(trio: &Trio) -> Vec<String> {
    let dead = dead_job(trio, r#"{"order":17}"#).await;
    let held = held_job(trio.gateway(), &format!("{{\"long\":\"{}\"}}", "x".repeat(400))).await;
    let counted = trio.gateway();
    let redrive = counted.call(reqwest::Method::GET, "/api1/redrives").await.unwrap();
    assert_eq!(redrive.status, 200);
    let fixed = [
        "/",
        "/destinations/api2",
        "/jobs",
        "/jobs/all?state=pending&verb=cancel",
        "/dead-letters",
        "/drill/api2",
        "/sign-in",
    ];
    let mut screens: Vec<String> = fixed.iter().map(|path| (*path).to_owned()).collect();
    screens.extend([format!("/jobs/{dead}"), format!("/jobs/{held}"), format!("/jobs/{dead}/edit")]);
    screens
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_serious_on_any_screen_light_or_dark() {
    let (trio, browser) = start(true).await;
    let screens = screens(&trio).await;
    for scheme in ["light", "dark"] {
        browser.prefers(scheme).await;
        for screen in &screens {
            browser.go(screen).await;
            let found = browser.serious_violations().await;
            assert!(found.is_empty(), "{screen}, {scheme}: {found:#?}");
        }
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_every_screen_without_scrolling_sideways() {
    let (trio, browser) = start(true).await;
    browser.narrow().await;
    for screen in screens(&trio).await {
        browser.go(&screen).await;
        let width = browser.value("document.documentElement.scrollWidth").await;
        assert!(width.as_f64().unwrap() <= 360.0, "{screen} is {width} wide");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_colours_follow_the_preference() {
    let (_trio, browser) = start(true).await;
    let mut brightness = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefers(scheme).await;
        browser.go("/").await;
        brightness.push(light_of(&browser, "backgroundColor").await);
        let text = light_of(&browser, "color").await;
        assert!((text - brightness[brightness.len() - 1]).abs() > 120.0, "{scheme}: text like its background");
    }
    assert!(brightness[0] > 200.0 && brightness[1] < 60.0, "{brightness:?}");
    browser.close().await;
}

/// From 0, black, to 255, white.
async fn light_of(browser: &Browser, property: &str) -> f64 {
    let colour = browser
        .value(&format!("getComputedStyle(document.body).{property}.match(/\\d+/g).slice(0, 3).map(Number)"))
        .await;
    colour.as_array().unwrap().iter().map(|part| part.as_f64().unwrap()).sum::<f64>() / 3.0
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_from_elsewhere_and_the_policy_is_never_broken() {
    let (trio, browser) = start(true).await;
    let listen = "window.broken = []; addEventListener('securitypolicyviolation', (e) => window.broken.push(e.violatedDirective + ' ' + e.blockedURI));";
    browser.tell("Page.addScriptToEvaluateOnNewDocument", serde_json::json!({ "source": listen })).await;
    for screen in screens(&trio).await {
        browser.go(&screen).await;
        assert_eq!(browser.value("window.broken").await, serde_json::json!([]), "{screen}");
        let foreign = "performance.getEntriesByType('resource').filter((e) => !e.name.startsWith(location.origin)).map((e) => e.name)";
        assert_eq!(browser.value(foreign).await, serde_json::json!([]), "{screen}");
    }
    browser.close().await;
}
