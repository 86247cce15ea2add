//! What goes wrong on the routes, and how it is told: `application/problem+json` (RFC 9457), in one place.
//!
//! The weather's own failures are not here: they are what this API is for, and answer as the original did, in plain text.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::drill::BadWeather;

/// A refused request. `detail` is the text of the error.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    BadWeather(#[from] BadWeather),
    #[error("the body is longer than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive in full: {0}")]
    BrokenBody(actix_web::Error),
    #[error("the body did not arrive within {limit_ms} ms")]
    SlowBody { limit_ms: u128 },
    #[error("nothing has arrived under the key {0:?} since the ledger was cleared")]
    UnknownKey(String),
    #[error("no body is kept under the key {0:?}: none arrived, it was too long, or many came after it")]
    NoPayload(String),
    #[error("there is nothing at {0}; see the routes of api2-flaky")]
    NotFound(String),
    #[error("{method} is not possible at {path}")]
    MethodNotAllowed { method: String, path: String },
}

/// The body of every problem.
#[derive(Debug, Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
}

impl Problem {
    /// The stable name programs can act on.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::BadWeather(_) => "bad_weather",
            Problem::TooLarge { .. } => "payload_too_large",
            Problem::BrokenBody(_) => "broken_body",
            Problem::SlowBody { .. } => "request_timeout",
            Problem::UnknownKey(_) => "unknown_key",
            Problem::NoPayload(_) => "payload_not_kept",
            Problem::NotFound(_) => "not_found",
            Problem::MethodNotAllowed { .. } => "method_not_allowed",
        }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self {
            Problem::BadWeather(_) | Problem::BrokenBody(_) => StatusCode::BAD_REQUEST,
            Problem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Problem::UnknownKey(_) | Problem::NoPayload(_) | Problem::NotFound(_) => StatusCode::NOT_FOUND,
            Problem::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let body = Body {
            r#type: format!("urn:holdfast:problem:{}", self.code()),
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            detail: self.to_string(),
            code: self.code(),
        };
        HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/problem+json")).json(body)
    }
}
