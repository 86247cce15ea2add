//! The public API, one file per verb; what callers and operators use.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod cursor;
pub(crate) mod destinations;
mod envelope;
pub(crate) mod events;
pub(crate) mod forward;
pub(crate) mod job_events;
pub(crate) mod jobs;
pub(crate) mod list;
pub(crate) mod process;
pub(crate) mod read;
pub(crate) mod redrive;
pub(crate) mod redrives;
pub(crate) mod resolve;
pub(crate) mod stats;
mod wait;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use jobs_core::job::{Job, JobId};
use uuid::Uuid;

use crate::app::App;
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// The job id in the path.
pub(crate) fn job_id(request: &HttpRequest) -> Result<JobId, Problem> {
    let text = request.match_info().get("id").unwrap_or_default();
    let id = Uuid::try_parse(text).map_err(|_| Problem::new(Code::BadJobId, format!("{text:?} is not a UUID")))?;
    Ok(JobId(id))
}

pub(crate) fn unknown_job(id: JobId) -> Problem {
    Problem::new(Code::UnknownJob, format!("job {id}"))
}

/// Answers with `job` as a verb has just left it and its attempts, or without these if they cannot be read at the moment: the
/// verb is done, and no trouble with a read may tell its caller otherwise.
async fn done(app: &App, job: &Job, mut answer: HttpResponseBuilder) -> HttpResponse {
    match app.store.job(job.id).await {
        Ok(found) => {
            let (attempts, resolution) = found.map(|found| (found.attempts, found.resolution)).unwrap_or_default();
            answer.json(JobView::whole(job, &attempts, resolution.as_ref()))
        }
        Err(error) => {
            log::warn!(job:% = job.id, error:% = error; "a job is shown without its attempts: they could not be read");
            answer.json(JobView::summary(job))
        }
    }
}
