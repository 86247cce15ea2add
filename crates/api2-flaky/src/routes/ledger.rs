//! Reading and clearing the ledger.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::{Data, Path};

use crate::ledger::Summary;
use crate::problem::Problem;
use crate::state::{SinceWeather, State};

#[derive(serde::Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    /// Counted anew from each change of the weather.
    since_weather: SinceWeather,
}

/// `GET /api2/ledger`: all counters.
pub(super) async fn summary(state: Data<State>) -> HttpResponse {
    let summary = state.ledger(|ledger| ledger.summary());
    HttpResponse::Ok().json(Report { summary, since_weather: state.since_weather() })
}

/// `DELETE /api2/ledger`: forgets everything that arrived.
pub(super) async fn clear(state: Data<State>) -> HttpResponse {
    state.ledger(|ledger| ledger.clear());
    HttpResponse::NoContent().finish()
}

/// `GET /api2/ledger/{key}`: the requests that came with this `Idempotency-Key`.
pub(super) async fn key(state: Data<State>, key: Path<String>) -> Result<HttpResponse, Problem> {
    let report = state.ledger(|ledger| ledger.key(&key));
    let report = report.ok_or_else(|| Problem::UnknownKey(key.into_inner()))?;
    Ok(HttpResponse::Ok().json(report))
}

/// `GET /api2/ledger/{key}/payload`: the body last received with this key, byte for byte, under its own content type.
pub(super) async fn payload(state: Data<State>, key: Path<String>) -> Result<HttpResponse, Problem> {
    let payload = state.ledger(|ledger| ledger.payload(&key));
    let payload = payload.ok_or_else(|| Problem::NoPayload(key.into_inner()))?;
    let content_type = payload.content_type.unwrap_or_else(|| ContentType::octet_stream().to_string());
    Ok(HttpResponse::Ok().content_type(content_type).body(payload.body))
}
