//! `POST /api1/jobs/{id}/redrive`: an operator wants the job tried again.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::lifecycle::Redrive;
use serde::Deserialize;

use super::{done, job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};

/// The body, if there is one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// The destination is to receive another `Idempotency-Key`, because it answers the old one from memory.
    new_key: bool,
}

pub(crate) async fn redrive(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    app.keys.operator(bearer(&request))?;
    let id = job_id(&request)?;
    let body = body::read(&request, payload, app.limits.payload).await?;
    let asked: Asked = if body.is_empty() { Asked::default() } else { body::message(&body)? };
    let (answer, job) = app.redrive(id, asked.new_key).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Redrive::Redriven | Redrive::RunNow => {}
        Redrive::Leased => return Err(Problem::new(Code::WrongState, "a worker has the job in hand")),
        Redrive::Succeeded => return Err(Problem::new(Code::WrongState, "the job has succeeded")),
    }
    Ok(done(&app, &job, HttpResponse::Ok()).await)
}
