//! Without scripts, and with keys.

use std::process::{Command, Stdio};

use drills::trio::build::API1_GATEWAY;
use drills::trio::ports::Listening;

use crate::browser::Browser;
use crate::stage::{becomes, dead_job, held_job, programs, start};

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_javascript() {
    let (trio, browser) = start(true).await;
    let dead = dead_job(&trio, "{}").await;
    browser.without_scripts().await;
    browser.go("/").await;
    browser.shows("Reload for newer figures").await;
    browser.go("/destinations/api2").await;
    browser.press("Pause").await;
    browser.shows("Paused. Its jobs are accepted and held").await;
    let held = held_job(trio.gateway(), "{}").await;
    browser.go("/jobs").await;
    browser.choose("state", "pending").await;
    browser.press("Show").await;
    browser.press("Cancel all of these…").await;
    browser.press("Cancel them all").await;
    // Without scripts a click is over before its answer is there: what is opened next might lose to it.
    browser.shows("Run 1").await;
    becomes(trio.gateway(), held, "cancelled").await;
    browser.go("/destinations/api2").await;
    browser.press("Resume").await;
    browser.shows("Resumed. It opens up carefully").await;
    browser.go(&format!("/jobs/{dead}")).await;
    browser.press("Redrive").await;
    becomes(trio.gateway(), dead, "succeeded").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_a_browser_signs_in_sees_live_figures_and_signs_out() {
    let mut gateway = Command::new(programs().path(API1_GATEWAY))
        .args(["--listen", "127.0.0.1:0", "--store", "memory:"])
        .env("API1_OPERATOR_KEYS", "of-an-operator")
        .env("API1_CLIENT_KEYS", "of-a-client")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::io::BufRead::lines(std::io::BufReader::new(gateway.stderr.take().unwrap()));
    let listening = log.map_while(Result::ok).find_map(|line| Listening::in_log(&format!("{line}\n"))).unwrap();
    let browser = Browser::open(&format!("http://{}", listening.address)).await;
    browser.go("/jobs?state=dead").await;
    browser.shows("Key of this gateway").await;
    browser.write("key", "of-nobody").await;
    browser.press("Sign in").await;
    browser.shows("This key is not one of").await;
    browser.write("key", "of-an-operator").await;
    browser.press("Sign in").await;
    browser.arrives_at("/jobs?state=dead").await;
    assert_eq!(browser.value("document.cookie").await, "", "no script can read the key");
    browser.go("/").await;
    browser.shows("Live").await;
    browser.value("document.querySelector('form[action=\"/sign-out\"] button').click()").await;
    browser.shows("Key of this gateway").await;
    browser.go("/").await;
    browser.shows("Key of this gateway").await;
    browser.close().await;
    gateway.kill().unwrap();
    gateway.wait().unwrap();
}
