//! `GET /api1/jobs/{id}`, its payload, and the destination's last answer.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use jobs_core::job::JobId;
use jobs_core::process::duration;

use super::wait::until_ended;
use super::{job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::headers::is_media_type;
use crate::options::MAX_WAIT;
use crate::problem::{Code, Problem};
use crate::query;
use crate::view::JobView;

/// `?wait=30s`: answers when the job has ended, or then.
/// Shows a job with its attempts
///
/// With `wait` the answer comes when the job has ended, or then.
#[utoipa::path(get, path = "/api1/jobs/{id}", tag = "Jobs",
    params(("id" = JobId, Path), ("wait" = Option<String>, Query, description = "Such as `30s`", pattern = "^[0-9]{1,5}(ms|s|m|h|d)$")),
    responses((status = 200, body = JobView), (status = 400), (status = 404)))]
pub(crate) async fn job(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    let id = job_id(&request)?;
    let mut wait = Duration::ZERO;
    for (name, value) in query::pairs(&request)? {
        match name.as_str() {
            "wait" => {
                let bad = |error| Problem::with(Code::BadQuery, "wait", format_args!("{value:?} is {error}"));
                wait = duration::parse(&value).map_err(bad)?.min(MAX_WAIT);
            }
            _ => return Err(query::unknown(name)),
        }
    }
    let found = until_ended(&app, id, wait).await?.ok_or_else(|| unknown_job(id))?;
    Ok(HttpResponse::Ok().json(JobView::whole(&found.job, &found.attempts, found.resolution.as_ref())))
}

/// The payload, byte for byte.
/// Gives a job's payload back, byte for byte
#[utoipa::path(get, path = "/api1/jobs/{id}/payload", tag = "Jobs", params(("id" = JobId, Path)),
    responses((status = 200, content_type = "*/*", description = "The payload, under its own content type"), (status = 400), (status = 404)))]
pub(crate) async fn payload(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    payload_of(&app, job_id(&request)?).await
}

pub(crate) async fn payload_of(app: &App, id: JobId) -> Result<HttpResponse, Problem> {
    let stored = app.store.request(id).await?.ok_or_else(|| unknown_job(id))?;
    Ok(foreign(HttpResponse::Ok(), stored.content_type.as_deref()).body(stored.body))
}

/// The destination's last answer, as far as it was kept; its status is in `Job-Response-Status`.
/// Shows the destination's last answer
///
/// Its status is in `Job-Response-Status`; `Truncated` says whether the body was cut.
#[utoipa::path(get, path = "/api1/jobs/{id}/response", tag = "Jobs", params(("id" = JobId, Path)),
    responses((status = 200, content_type = "*/*", description = "The body, under its own content type"), (status = 400), (status = 404)))]
pub(crate) async fn response(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    response_of(&app, job_id(&request)?).await
}

pub(crate) async fn response_of(app: &App, id: JobId) -> Result<HttpResponse, Problem> {
    let Some((status, response)) = app.store.response(id).await? else {
        let known = app.store.job(id).await?.is_some();
        let none = || Problem::new(Code::NoResponse, "it was not answered yet, or without a body");
        return Err(if known { none() } else { unknown_job(id) });
    };
    let mut answer = foreign(HttpResponse::Ok(), response.content_type.as_deref());
    if let Some(status) = status {
        answer.insert_header(("Job-Response-Status", status.to_string()));
    }
    answer.insert_header(("Truncated", if response.truncated { "true" } else { "false" }));
    Ok(answer.body(response.body))
}

/// Bytes that are not ours, under the type they came with: a browser must neither run nor reinterpret them.
fn foreign(mut answer: HttpResponseBuilder, content_type: Option<&str>) -> HttpResponseBuilder {
    let content_type: Cow<'_, str> = match content_type {
        Some(given) if is_media_type(given) && HeaderValue::from_str(given).is_ok() => given.into(),
        Some(_) | None => "application/octet-stream".into(),
    };
    answer.insert_header((CONTENT_TYPE, content_type.as_ref()));
    answer.insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    answer.insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"));
    answer
}
