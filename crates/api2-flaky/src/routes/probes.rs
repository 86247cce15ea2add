//! Health of the process itself, whatever the weather, and its metrics.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::metrics;
use crate::state::State;

/// `GET /livez`: the process runs.
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "live": true }))
}

/// `GET /readyz`: 200 until the process drains. Bad weather is not unreadiness: it is the service.
pub(super) async fn readyz(state: Data<State>) -> HttpResponse {
    if state.shutdown.is_triggered() {
        HttpResponse::ServiceUnavailable().json(serde_json::json!({ "ready": false, "reason": "draining" }))
    } else {
        HttpResponse::Ok().json(serde_json::json!({ "ready": true }))
    }
}

/// `GET /metrics`: OpenMetrics text.
pub(super) async fn metrics(state: Data<State>) -> HttpResponse {
    let summary = state.ledger(|ledger| ledger.summary());
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(metrics::text(&summary))
}
