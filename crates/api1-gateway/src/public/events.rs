//! `GET /api1/events?kinds=job,gate,counters`: server-sent events of this gateway, until the client leaves or the gateway drains.
//!
//! `job`: a job was settled, has ended, or was steered. `gate`: a destination's gate has changed. `counters`: once a second, and at
//! the beginning. `missed`: so many events came faster than this client took them. Nothing is repeated after a reconnection.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use jobs_core::process::shutdown::Shutdown;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::events::{Frame, first_frame, missed_frame};
use crate::pages::viewer;
use crate::problem::{Code, Problem};
use crate::query;

/// A comment after so much silence: intermediaries close what is silent for long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a browser comes back after the stream has ended.
const RECONNECT: &str = "retry: 2000\n\n";

/// Which events are wanted.
#[derive(Clone, Copy)]
struct Kinds {
    job: bool,
    gate: bool,
    counters: bool,
}

struct Listening {
    first: Option<String>,
    jobs: Option<Receiver<Frame>>,
    others: Option<Receiver<Frame>>,
    kinds: Kinds,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

/// Follows this gateway: jobs, gates, counters (server-sent events)
///
/// `kinds` names those that are wanted, separated by commas.
#[utoipa::path(get, path = "/api1/events", tag = "Destinations",
    params(("kinds" = Option<String>, Query, description = "Of `job`, `gate` and `counters`; all unless given")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400)))]
pub(crate) async fn events(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    // A page's script cannot send a header with its key, so a page's cookie is as good here.
    app.keys.client(viewer::presented(&request).as_deref())?;
    let kinds = read(query::pairs(&request)?)?;
    app.check_not_draining()?;
    let place = std::sync::Arc::clone(&app.events.listeners).try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Code::TooManyListeners, "close one, or ask another gateway"))?;
    // Listening begins before the counters are read, so that nothing falls between.
    let jobs = kinds.job.then(|| app.events.jobs());
    let others = (kinds.gate || kinds.counters).then(|| app.events.others());
    let mut first = RECONNECT.to_owned();
    if kinds.counters {
        first.push_str(&first_frame(&app.store.stats().await?, app.clock.now().wall));
    }
    let listening =
        Listening { first: Some(first), jobs, others, kinds, shutdown: app.shutdown.clone(), _place: place };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(stream(listening)))
}

fn read(pairs: Vec<(String, String)>) -> Result<Kinds, Problem> {
    let mut kinds = Kinds { job: true, gate: true, counters: true };
    for (name, value) in pairs {
        if name != "kinds" {
            return Err(query::unknown(name));
        }
        kinds = Kinds { job: false, gate: false, counters: false };
        for kind in value.split(',') {
            match kind {
                "job" => kinds.job = true,
                "gate" => kinds.gate = true,
                "counters" => kinds.counters = true,
                _ => {
                    let detail = format!("{kind:?} is not one of job, gate, counters");
                    return Err(Problem::with(Code::BadQuery, "kinds", detail));
                }
            }
        }
    }
    Ok(kinds)
}

fn stream(listening: Listening) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    unfold(listening, async |mut listening| {
        let text = listening.next().await?;
        Some((Ok(Bytes::from(text)), listening))
    })
}

impl Listening {
    /// What to send next; `None` once the gateway drains.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut silence = std::pin::pin!(tokio::time::sleep(KEEP_ALIVE));
        loop {
            let received = tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                received = receive(&mut self.others) => received,
                received = receive(&mut self.jobs) => received,
                () = &mut silence => return Some(": still here\n\n".to_owned()),
            };
            match received {
                Ok(frame) if self.is_wanted(&frame) => return Some(frame.to_string()),
                Ok(_) => {}
                Err(RecvError::Lagged(events)) => return Some(missed_frame(events).to_string()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_wanted(&self, frame: &Frame) -> bool {
        match frame.starts_with("event: gate\n") {
            true => self.kinds.gate,
            false => self.kinds.counters || frame.starts_with("event: job\n"),
        }
    }
}

/// Never, from a channel that is not listened to.
async fn receive(channel: &mut Option<Receiver<Frame>>) -> Result<Frame, RecvError> {
    match channel {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
