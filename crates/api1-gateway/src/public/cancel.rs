//! `POST /api1/jobs/{id}/cancel`: nobody wants the job any more.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::JobId;
use jobs_core::lifecycle::Cancel;

use super::{done, job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// 200 with the job once it is cancelled; 202 while a worker has it in hand and it may yet turn out done.
/// Cancels a job
///
/// A leased one is cancelled when its call has ended, unless that succeeded.
#[utoipa::path(post, path = "/api1/jobs/{id}/cancel", tag = "Jobs", params(("id" = JobId, Path)),
    responses(
        (status = 200, body = JobView, description = "Cancelled"),
        (status = 202, body = JobView, description = "A worker has it in hand"),
        (status = 400), (status = 404), (status = 409),
    ))]
pub(crate) async fn cancel(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    let operator = app.keys.operator(bearer(&request)).ok();
    let id = job_id(&request)?;
    let (answer, job) = app.cancel(id, operator).await?.ok_or_else(|| unknown_job(id))?;
    let response = match answer {
        Cancel::Cancelled | Cancel::AlreadyCancelled => HttpResponse::Ok(),
        Cancel::Requested => HttpResponse::Accepted(),
        Cancel::Finished => {
            let detail = format!("the job has ended: {}", job.state.name().as_str());
            return Err(Problem::new(Code::WrongState, detail));
        }
    };
    Ok(done(&app, &job, response).await)
}
