//! Leases as a gateway writes them.

use jobs_core::job::{Epoch, JobId};
use jobs_core::outcome::Rule;
use jobs_core::protocol::{WireLease, WireRequest};
use uuid::Uuid;

/// The job numbered `job` (>= 1) for `url`: one POST of `{"n":job}`, ten seconds for its answer.
pub(crate) fn lease(job: u32, url: &str) -> WireLease {
    let id = JobId(Uuid::from_u128(job.into()));
    WireLease {
        job_id: id,
        epoch: Epoch::new(1, job),
        lease_ms: 5_000,
        destination: "api2".parse().unwrap(),
        attempt: 1,
        request: WireRequest {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: vec![
                ("Content-Type".to_owned(), "application/json".to_owned()),
                ("Idempotency-Key".to_owned(), id.to_string()),
            ],
            timeout_ms: 10_000,
            rules: Vec::new(),
        },
        payload: Some(format!("{{\"n\":{job}}}")),
        payload_base64: None,
        traceparent: None,
        parent_span: None,
    }
}

/// The same with another time limit.
pub(crate) fn within_ms(timeout_ms: u64, mut lease: WireLease) -> WireLease {
    lease.request.timeout_ms = timeout_ms;
    lease
}

/// The same with rules, as JSON.
pub(crate) fn ruled(rules: &str, mut lease: WireLease) -> WireLease {
    lease.request.rules = serde_json::from_str::<Vec<Rule>>(rules).unwrap();
    lease
}
