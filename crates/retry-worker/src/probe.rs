//! Health checks of destinations, made when the gateway asks for them while it holds one.
//!
//! A finding is worth something only now: it goes out with the next report, and is never kept for a later one.

use std::sync::Arc;
use std::time::Duration;

use jobs_core::protocol::{WireHealth, WireProbe};
use reqwest::{Method, Request, Url};

use crate::Worker;
use crate::cause;
use crate::report::Report;

/// Most health checks under way. They are cheap, but a destination that hangs holds each until its timeout; beyond this many they
/// are not made, and the gateway asks again within a second.
pub(crate) const MAX_UNDER_WAY: usize = 64;

/// Makes the health check in a task of its own, and reports what it found.
pub(crate) fn spawn(worker: &Arc<Worker>, check: WireProbe) {
    let Ok(permit) = worker.health_checks.clone().try_acquire_owned() else {
        log::debug!(destination = check.destination.as_str(); "too many health checks under way");
        return;
    };
    let worker = worker.clone();
    tokio::spawn(async move {
        let found = find(&worker, &check).await;
        log::debug!(destination = check.destination.as_str(), found:?; "health check");
        let health = WireHealth { destination: check.destination, healthy: found.is_ok() };
        // No reporter any more: the worker has drained, and nobody wants to know.
        worker.reports.send(Report::Health(health)).ok();
        drop(permit);
    });
}

/// `Err` says why the destination is not healthy.
async fn find(worker: &Worker, check: &WireProbe) -> Result<(), String> {
    let method = Method::from_bytes(check.method.as_bytes()).map_err(|error| error.to_string())?;
    let url = Url::parse(&check.url).map_err(|error| error.to_string())?;
    let call = worker.client.execute(Request::new(method, url));
    let limit = Duration::from_millis(check.timeout_ms);
    let response = tokio::time::timeout(limit, call).await.map_err(|_| format!("no answer within {limit:?}"))?;
    let response = response.map_err(|error| cause::describe(&error))?;
    match response.status().as_u16() {
        status if status == check.expect => Ok(()),
        status => Err(format!("answered {status}, not {}", check.expect)),
    }
}
