//! `POST /api1/jobs/{id}/resolve`: an operator has settled a dead job otherwise.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::steering::Resolve;
use serde::Deserialize;

use super::{done, job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};

/// Longest reason, in bytes: a few sentences.
pub(crate) const MAX_REASON: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    reason: String,
}

/// 200 with the job: still dead, and unresolved no more.
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
