//! Every error this gateway answers, as `application/problem+json` (RFC 9457).
//!
//! A handler says *what* went wrong by a [`Code`]; which HTTP status, title and `Retry-After` that has is written once, in
//! [`TABLE`], which is also what `GET /problems` publishes. No handler chooses a status.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use jobs_core::store::StoreError;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, by its stable name. In the order of [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BadJson,
    BadMessage,
    BadBatch,
    EmptyBody,
    IncompleteBody,
    BadOption,
    BadHeader,
    BadPath,
    BadQuery,
    BadCursor,
    BadJobId,
    Unauthenticated,
    Forbidden,
    CrossSite,
    NoSuchRoute,
    UnknownDestination,
    UnknownJob,
    UnknownRedrive,
    NoResponse,
    MethodNotAllowed,
    BodyTimeout,
    WrongState,
    WrongRedriveState,
    NoBackupFolder,
    BodyTooLarge,
    TooManyItems,
    UnsupportedMediaType,
    KeyReused,
    RateLimited,
    HeadersTooLarge,
    Internal,
    BackupFailed,
    StoreFull,
    StoreDown,
    StoreBusy,
    NoSpace,
    TooManyListeners,
    Draining,
}

/// One line of the published table.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = ProblemCode)]
pub struct Row {
    #[serde(skip)]
    pub code: Code,
    #[serde(rename = "code")]
    pub name: &'static str,
    pub status: u16,
    pub title: &'static str,
    /// Seconds after which asking again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

const fn row(code: Code, name: &'static str, status: u16, title: &'static str) -> Row {
    Row { code, name, status, title, retry_after: None }
}

const fn later(code: Code, name: &'static str, title: &'static str, seconds: u32) -> Row {
    Row { code, name, status: 503, title, retry_after: Some(seconds) }
}

/// All codes with what they mean to a caller. A code keeps its name for ever.
pub const TABLE: [Row; 38] = [
    row(Code::BadJson, "bad_json", 400, "the body is not valid JSON"),
    row(Code::BadMessage, "bad_message", 400, "the body is JSON, but not what this call takes"),
    row(Code::BadBatch, "bad_batch", 400, "no item of the batch could be accepted"),
    row(Code::EmptyBody, "empty_body", 400, "the body is empty"),
    row(Code::IncompleteBody, "incomplete_body", 400, "the body ended too early or is encoded wrongly"),
    row(Code::BadOption, "bad_option", 400, "an option is unknown or its value is not usable"),
    row(Code::BadHeader, "bad_header", 400, "a header cannot be sent to the destination"),
    row(Code::BadPath, "bad_path", 400, "the path cannot be forwarded safely"),
    row(Code::BadQuery, "bad_query", 400, "a query parameter is unknown or its value is not usable"),
    row(Code::BadCursor, "bad_cursor", 400, "the cursor is not one of ours, or belongs to another query"),
    row(Code::BadJobId, "bad_job_id", 400, "a job id is a UUID"),
    row(Code::Unauthenticated, "unauthenticated", 401, "a valid key is needed"),
    row(Code::Forbidden, "forbidden", 403, "this key may not do that"),
    row(Code::CrossSite, "cross_site", 403, "a page's form must be sent from that page"),
    row(Code::NoSuchRoute, "no_such_route", 404, "there is nothing at this address"),
    row(Code::UnknownDestination, "unknown_destination", 404, "there is no such destination"),
    row(Code::UnknownJob, "unknown_job", 404, "there is no such job, or it was purged"),
    row(Code::UnknownRedrive, "unknown_redrive", 404, "there is no such mass redrive"),
    row(Code::NoResponse, "no_response", 404, "no answer of the destination is kept for this job"),
    row(Code::MethodNotAllowed, "method_not_allowed", 405, "this address takes another method"),
    row(Code::BodyTimeout, "body_timeout", 408, "the body took too long to arrive"),
    row(Code::WrongState, "wrong_state", 409, "the job's state forbids it"),
    row(Code::WrongRedriveState, "wrong_redrive_state", 409, "the mass redrive's state forbids it"),
    row(Code::NoBackupFolder, "no_backup_folder", 409, "this gateway was told no folder for backups"),
    row(Code::BodyTooLarge, "body_too_large", 413, "the body is larger than this gateway takes"),
    row(Code::TooManyItems, "too_many_items", 413, "too many items in one call"),
    row(Code::UnsupportedMediaType, "unsupported_media_type", 415, "this content type is not taken here"),
    row(Code::KeyReused, "key_reused", 422, "the idempotency key came before with another request"),
    row(Code::RateLimited, "rate_limited", 429, "more jobs a second than one client may send"),
    row(Code::HeadersTooLarge, "headers_too_large", 431, "too many or too long headers for one job"),
    row(Code::Internal, "internal", 500, "a mistake in this gateway"),
    row(Code::BackupFailed, "backup_failed", 500, "no backup was made"),
    later(Code::StoreFull, "store_full", "the disk is full", 5),
    later(Code::StoreDown, "store_down", "the store has failed: ask again with the same idempotency key", 2),
    later(Code::StoreBusy, "store_busy", "the store has more to do than it can answer for: nothing was changed", 1),
    later(Code::NoSpace, "no_space", "too little disk space is left to accept more jobs", 5),
    later(Code::TooManyListeners, "too_many_listeners", "as many listen to events as this gateway serves", 10),
    later(Code::Draining, "draining", "this gateway is shutting down", 1),
];

impl Code {
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// A problem's members, for the API's description; [`Problem`] is written as them.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct ProblemView {
    #[schema(example = "/problems/unknown_job")]
    r#type: String,
    #[schema(example = "there is no such job, or it was purged")]
    title: String,
    #[schema(example = 404)]
    status: u16,
    #[schema(example = "job 0199d1b2-7c3e-7a10-8f00-4f6b1e2d3c4b")]
    detail: String,
    /// Stable; all are at `/problems`.
    #[schema(example = "unknown_job")]
    code: String,
    /// The header, field or query parameter at fault.
    #[schema(nullable = false)]
    parameter: Option<String>,
}

/// An error answer: the code, and what the caller can do about this very case.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    /// The header, field or query parameter at fault.
    parameter: Option<Cow<'static, str>>,
    /// For [`Code::MethodNotAllowed`].
    allow: Option<&'static str>,
    /// Seconds after which asking again may help, where that is not the same for all of this code.
    retry_after: Option<u64>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { code, detail: detail.into(), parameter: None, allow: None, retry_after: None }
    }

    /// A problem with one header, field or query parameter, which the answer names.
    pub fn with(code: Code, parameter: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        let parameter = parameter.into();
        Problem { parameter: Some(parameter.clone()), ..Problem::new(code, format!("{parameter}: {detail}")) }
    }

    pub fn method_not_allowed(allow: &'static str) -> Self {
        Problem { allow: Some(allow), ..Problem::new(Code::MethodNotAllowed, format!("use {allow}")) }
    }

    /// Says when asking again may help: after `wait`, in whole seconds, rounded up.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Problem { retry_after: Some(seconds.max(1)), ..self }
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer with one more member: what became of each item of a batch.
    pub fn with_results(&self, results: &impl Serialize) -> HttpResponse {
        #[derive(Serialize)]
        struct Extended<'a, T> {
            #[serde(flatten)]
            problem: &'a Problem,
            results: &'a T,
        }
        self.answer(&Extended { problem: self, results })
    }

    fn answer(&self, members: &impl Serialize) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.retry_after.or(self.code.row().retry_after.map(u64::from)) {
            answer.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(allow) = self.allow {
            answer.insert_header((ALLOW, allow));
        }
        if self.code == Code::Unauthenticated {
            // A 401 must name a scheme; where the key belongs in a header of ours, that header is named in its place.
            answer.insert_header((WWW_AUTHENTICATE, self.parameter.as_deref().unwrap_or("Bearer")));
        }
        answer.body(serde_json::to_string(members).expect("a problem is plain text and numbers"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.row().name, self.detail)
    }
}

impl std::error::Error for Problem {}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.code.row();
        let mut out = serializer.serialize_struct("Problem", 6)?;
        out.serialize_field("type", &format_args!("/problems/{}", row.name))?;
        out.serialize_field("title", row.title)?;
        out.serialize_field("status", &row.status)?;
        out.serialize_field("detail", &self.detail)?;
        out.serialize_field("code", row.name)?;
        if let Some(parameter) = &self.parameter {
            out.serialize_field("parameter", parameter)?;
        }
        out.end()
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.row().status).expect("every status of the table is one (tested)")
    }

    fn error_response(&self) -> HttpResponse {
        self.answer(self)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => Problem::new(Code::StoreFull, "ask again later"),
            StoreError::Broken(_) => {
                Problem::new(Code::StoreDown, "whether it was stored is not known; the gateway restarts")
            }
            StoreError::Busy(_) => Problem::new(Code::StoreBusy, "ask again"),
            StoreError::Closed => Problem::new(Code::Draining, "ask again, or ask another gateway"),
            StoreError::Unusable(reason) => {
                log::error!(error = reason.as_str(); "the store refused what it was asked");
                Problem::new(Code::Internal, "the reason is in the gateway's log")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_lists_every_code_once_in_its_own_place_with_an_error_status() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code as usize, place, "{}", row.name);
            assert_eq!(row.code.row().name, row.name);
            assert!((400..600).contains(&row.status) && StatusCode::from_u16(row.status).is_ok(), "{}", row.name);
            assert_eq!(row.status == 503, row.retry_after.is_some(), "{}", row.name);
        }
        let names: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert_eq!(TABLE.last().map(|row| row.code), Some(Code::Draining), "the last code of the enum ends the table");
    }

    #[test]
    fn a_problem_has_the_members_of_the_contract_and_names_the_parameter() {
        let problem = Problem::with(Code::BadOption, "Job-Delay", "\"soon\" is not a duration");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "/problems/bad_option");
        assert_eq!(json["title"], "an option is unknown or its value is not usable");
        assert_eq!(json["status"], 400);
        assert_eq!(json["detail"], "Job-Delay: \"soon\" is not a duration");
        assert_eq!(json["code"], "bad_option");
        assert_eq!(json["parameter"], "Job-Delay");
    }

    #[test]
    fn whatever_the_store_cannot_do_now_says_when_to_ask_again() {
        for error in [
            StoreError::Full(String::new()),
            StoreError::Broken(String::new()),
            StoreError::Busy(String::new()),
            StoreError::Closed,
        ] {
            let answer = Problem::from(error).error_response();
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key(RETRY_AFTER));
        }
        assert_eq!(Problem::from(StoreError::Unusable("x".to_owned())).status_code(), 500);
    }
}
