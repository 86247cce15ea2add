//! `POST /api1/jobs/{id}/resolve`: an operator has settled a dead job otherwise.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::JobId;
use jobs_core::steering::Resolve;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{done, job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// Longest reason, in bytes: a few sentences.
pub(crate) const MAX_REASON: usize = 1_000;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Resolve, example = json!({"reason": "refunded by phone"}))]
struct Asked {
    /// What was done instead.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// 200 with the job: still dead, and unresolved no more.
/// Notes that a dead job was settled otherwise
///
/// It stays dead, and counts as unresolved no more.
#[utoipa::path(post, path = "/api1/jobs/{id}/resolve", tag = "Steering", params(("id" = JobId, Path)),
    request_body = Asked,
    responses((status = 200, body = JobView), (status = 404), (status = 409)))]
pub(crate) async fn resolve(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(&request))?;
    let id = job_id(&request)?;
    let asked: Asked = body::message(&body::read(&request, payload, app.limits.payload).await?)?;
    let reason = asked.reason.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::with(Code::BadMessage, "reason", format_args!("1 to {MAX_REASON} bytes of text")));
    }
    let (answer, job) = app.resolve(id, reason, by).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Resolve::Resolved => Ok(done(&app, &job, HttpResponse::Ok()).await),
        Resolve::NotDead => {
            let detail = format!("only a dead job is resolved; this one is {}", job.state.name().as_str());
            Err(Problem::new(Code::WrongState, detail))
        }
    }
}
