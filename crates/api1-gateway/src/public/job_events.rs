//! `GET /api1/jobs/{id}/events`: a job as server-sent events, at first as it is and then after each change, until it has ended.
//!
//! Told are settled attempts, lapses, and what people do; that a worker has taken the job is not, since it says little and
//! happens to every job.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream::unfold;
use jobs_core::job::JobId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{job_id, unknown_job};
use crate::app::App;
use crate::events::Frame;
use crate::pages::viewer;
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// A comment after so much silence: intermediaries close what is silent for long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A client that follows a job.
struct Following {
    app: web::Data<App>,
    id: JobId,
    changes: Receiver<Frame>,
    /// It may have changed.
    look: bool,
    has_ended: bool,
    /// What was sent last.
    last: String,
    _place: OwnedSemaphorePermit,
}

/// Follows a job until it has ended (server-sent events)
///
/// Each event is `job`, its data the job with its attempts.
#[utoipa::path(get, path = "/api1/jobs/{id}/events", tag = "Jobs", params(("id" = JobId, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400), (status = 404)))]
pub(crate) async fn job_events(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(viewer::presented(&request).as_deref())?;
    let id = job_id(&request)?;
    app.check_not_draining()?;
    let place = std::sync::Arc::clone(&app.events.listeners).try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Code::TooManyListeners, "close one, or ask another gateway"))?;
    // Listening begins before the first look, so that nothing falls between.
    let changes = app.events.jobs();
    if app.store.job(id).await?.is_none() {
        return Err(unknown_job(id));
    }
    let following = Following { app, id, changes, look: true, has_ended: false, last: String::new(), _place: place };
    let stream = unfold(following, async |mut following| {
        let text = following.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), following))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(stream))
}

impl Following {
    /// What to send next; `None` once the job has ended or the gateway drains.
    async fn next(&mut self) -> Option<String> {
        let name = self.id.to_string();
        while !self.has_ended {
            if std::mem::take(&mut self.look)
                && let Some(event) = self.look().await?
            {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = self.app.shutdown.wait() => return None,
                changed = self.changes.recv() => match changed {
                    Ok(frame) => self.look = frame.contains(&name),
                    // It may have been among those that were missed.
                    Err(RecvError::Lagged(_)) => self.look = true,
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
            }
        }
        None
    }

    /// The job as an event, if it is another than before. `None` where it cannot be read or was purged: the stream ends, and
    /// its client asks again.
    async fn look(&mut self) -> Option<Option<String>> {
        let found = self.app.store.job(self.id).await.ok()??;
        self.has_ended = found.job.state.name().is_terminal();
        let json =
            serde_json::to_string(&JobView::whole(&found.job, &found.attempts, found.resolution.as_ref())).ok()?;
        if json == self.last {
            return Some(None);
        }
        self.last.clone_from(&json);
        Some(Some(format!("event: job\ndata: {json}\n\n")))
    }
}
