//! The programs that a test of the dashboard is played on, with some jobs in every state.

use std::sync::OnceLock;
use std::time::Duration;

use drills::client::{Accepted, Gateway};
use drills::trio::build::{Output, Programs};
use drills::trio::{API2, Plan, Trio};
use drills::wait;
use jobs_core::job::JobId;
use reqwest::Method;
use serde_json::json;

use crate::browser::Browser;

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::build(Output::Kept).unwrap_or_else(|error| panic!("{error}")))
}

/// The programs, API 2 up or down, and a browser that has shown nothing yet.
pub(crate) async fn start(up: bool) -> (Trio, Browser) {
    let plan = Plan { up, health_checks: true, ..Plan::default() };
    let trio = Trio::start(programs(), plan).await.unwrap_or_else(|error| panic!("{error}"));
    let browser = Browser::open(trio.gateway().url()).await;
    (trio, browser)
}

/// Accepts a job with this body.
pub(crate) async fn post(gateway: &Gateway, body: &str) -> JobId {
    let answer = gateway.process(API2, &[], body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.json::<Accepted>().unwrap().id
}

/// Waits until the job is in that state.
pub(crate) async fn becomes(gateway: &Gateway, id: JobId, state: &str) {
    let found =
        wait::until(PATIENCE, async || gateway.job(id).await.ok().flatten().filter(|job| job.state == state).map(drop));
    assert!(found.await.is_some(), "job {id} never was {state}: {:?}", gateway.job(id).await);
}

/// A job that API 2 refuses for good. It is left up.
pub(crate) async fn dead_job(trio: &Trio, body: &str) -> JobId {
    trio.api2().set_weather(&json!({ "mode": "error_rate", "rate": 1.0, "status": 422 })).await.unwrap();
    let id = post(trio.gateway(), body).await;
    becomes(trio.gateway(), id, "dead").await;
    trio.api2().set_weather(&json!({ "mode": "up" })).await.unwrap();
    id
}

/// A job that waits because its destination is paused.
pub(crate) async fn held_job(gateway: &Gateway, body: &str) -> JobId {
    let paused = gateway.call(Method::POST, "/api1/destinations/api2/pause").await.unwrap();
    assert_eq!(paused.status, 200, "{}", paused.body);
    post(gateway, body).await
}
