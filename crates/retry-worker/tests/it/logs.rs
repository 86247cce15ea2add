//! What the log says of an attempt, and what it never says.

use serde_json::Value;

use crate::process::Running;
use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::answer;
use crate::support::lease::lease;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PAYLOAD: &str = "needle-of-the-payload";
const HEADER: &str = "needle-of-a-header";
const TOKEN: &str = "needle-of-the-token";

/// Everything it can log, of libraries too but for the HTTP library's own look at each byte.
const ALL: [(&str, &str); 3] =
    [("LOG_FORMAT", "json"), ("RUST_LOG", "trace,hyper=info,hyper_util=info"), ("WORKER_TOKEN", TOKEN)];

#[tokio::test]
async fn an_attempt_is_told_with_job_destination_and_trace_and_without_what_was_sent() {
    let destination = Destination::always(Reaction::Answer(answer(503, "busy"))).await;
    let gateway = Gateway::start().await;
    let running = Running::start(&gateway, &ALL);
    let mut granted = lease(1, &destination.url("/"));
    granted.payload = Some(format!("{{\"secret\":\"{PAYLOAD}\"}}"));
    granted.request.headers.push(("Authorization".to_owned(), HEADER.to_owned()));
    granted.traceparent = Some(format!("00-{TRACE}-b7ad6b7169203331-01"));
    granted.attempt = 4;
    let job = granted.job_id.to_string();
    gateway.grant([granted]);
    let line: Value = serde_json::from_str(&running.line(&["overload", &job]).await).unwrap();
    assert_eq!((&line["job"], &line["destination"]), (&job.into(), &"api2".into()), "{line}");
    assert_eq!((&line["attempt"], &line["trace_id"]), (&4.into(), &TRACE.into()), "{line}");
    let log = running.log();
    assert!(log.lines().count() > 3 && log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
    for secret in [PAYLOAD, HEADER, TOKEN] {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}
