//! The public API, one file per verb; what callers and operators use.

pub(crate) mod cancel;
mod cursor;
pub(crate) mod destinations;
mod envelope;
pub(crate) mod forward;
pub(crate) mod jobs;
pub(crate) mod list;
pub(crate) mod process;
pub(crate) mod read;
pub(crate) mod redrive;
pub(crate) mod stats;
mod wait;

use actix_web::HttpRequest;
use jobs_core::job::JobId;
use uuid::Uuid;

use crate::problem::{Code, Problem};

/// The job id in the path.
fn job_id(request: &HttpRequest) -> Result<JobId, Problem> {
    let text = request.match_info().get("id").unwrap_or_default();
    let id = Uuid::try_parse(text).map_err(|_| Problem::new(Code::BadJobId, format!("{text:?} is not a UUID")))?;
    Ok(JobId(id))
}

fn unknown_job(id: JobId) -> Problem {
    Problem::new(Code::UnknownJob, format!("job {id}"))
}
