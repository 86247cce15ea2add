//! `/jobs/{id}`: one job, what has become of it, why, and what to do about it.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::job::{Attempt, Job, JobId, State, StateName};
use jobs_core::lifecycle::{Cancel, Redrive};
use jobs_core::store::JobDetail;
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page, see_other};
use super::body_view::BodyView;
use super::form::Form;
use super::gate_words::Tone;
use super::outcome_words;
use super::shell::Shell;
use super::viewer::Viewer;
use super::why::{Around, why};
use super::words::{Moment, latency, span, times};
use crate::app::App;
use crate::problem::{Code, Problem};
use crate::public::{job_id, read, unknown_job};

#[derive(Template)]
#[template(path = "job.html")]
struct Page {
    shell: Shell,
    id: String,
    destination: String,
    title: String,
    state: &'static str,
    tone: Tone,
    why: String,
    may: May,
    facts: Vec<(&'static str, String)>,
    redriven_from: Option<String>,
    /// What an operator said of it, who, when.
    resolution: Option<(String, String, Moment)>,
    attempts: Vec<AttemptLine>,
    payload: Option<BodyView>,
    response: Option<(String, BodyView)>,
}

/// What may be done to it.
struct May {
    try_now: bool,
    cancel: bool,
    redrive: bool,
    resolve: bool,
}

/// One attempt.
struct AttemptLine {
    number: u32,
    at: Moment,
    took: String,
    outcome: &'static str,
    tone: &'static str,
    status: Option<u16>,
    error: Option<String>,
    excerpt: Option<String>,
    charged: &'static str,
    next: Option<(String, Moment)>,
    worker: String,
}

pub(super) async fn job(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let id = job_id(&request)?;
    let JobDetail { job, attempts, resolution } = app.store.job(id).await?.ok_or_else(|| unknown_job(id))?;
    let stored = app.store.request(id).await?;
    let response = app.store.response(id).await?;
    let stats = app.store.stats().await?;
    let view = app.dispatcher().views().into_iter().find(|view| view.name == job.destination && !view.removed);
    let policy = app.judge().policy(&job.destination);
    let now = app.clock.now().wall;
    let around = Around { last: attempts.last(), gate: view.as_ref(), policy: &policy, now };
    let (state, tone) = outcome_words::state(job.state.name());
    page(&Page {
        id: id.to_string(),
        destination: job.destination.to_string(),
        title: view.as_ref().map_or_else(|| job.destination.to_string(), |view| view.title.clone()),
        state,
        tone,
        why: why(&job, &around),
        may: may(&job, &viewer),
        facts: facts(&job, policy.max_attempts, now),
        resolution: resolution.map(|resolution| (resolution.reason, resolution.by, Moment::new(resolution.at, now))),
        redriven_from: job.redriven_from.map(|id| id.to_string()),
        attempts: attempts.iter().rev().map(|attempt| line(attempt, now)).collect(),
        payload: stored.map(|request| BodyView::new(&request.body, request.content_type.as_deref())),
        response: response.map(|(status, response)| {
            let status = status.map_or_else(String::new, |status| format!("status {status}, "));
            (status, BodyView::new(&response.body, response.content_type.as_deref()))
        }),
        shell: Shell::new(&app, &request, viewer, &stats, ("jobs", format!("Job {}", short(id)))),
    })
}

/// The payload, byte for byte.
pub(super) async fn payload(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Viewer::of(&app, &request)?;
    Ok(read::payload_of(&app, job_id(&request)?).await?)
}

/// The destination's last answer, byte for byte.
pub(super) async fn response(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Viewer::of(&app, &request)?;
    Ok(read::response_of(&app, job_id(&request)?).await?)
}

pub(super) async fn cancel(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    Form::read(&request, payload).await?;
    let id = job_id(&request)?;
    let operator = viewer.may_steer.then_some(viewer.by.as_str());
    let (answer, job) = app.cancel(id, operator).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Cancel::Cancelled | Cancel::AlreadyCancelled => Ok(said(id, "cancelled")),
        Cancel::Requested => Ok(said(id, "cancel-requested")),
        Cancel::Finished => Err(wrong_state(&job)),
    }
}

pub(super) async fn redrive(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    let id = job_id(&request)?;
    let new_key = form.get("new_key").is_some();
    let (answer, job) = app.redrive(id, new_key, &viewer.by).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Redrive::Redriven => Ok(said(id, "redriven")),
        Redrive::RunNow => Ok(said(id, "tried-now")),
        Redrive::Leased | Redrive::Succeeded => Err(wrong_state(&job)),
    }
}

fn said(id: JobId, word: &str) -> HttpResponse {
    see_other(&format!("/jobs/{id}?said={word}"))
}

fn wrong_state(job: &Job) -> Refusal {
    let (state, _) = outcome_words::state(job.state.name());
    let detail = format!("job {} is {} by now: go back and look at it again", job.id, state.to_lowercase());
    Problem::new(Code::WrongState, detail).into()
}

/// The beginning of an id tells when it was made and its end tells jobs of that moment apart.
pub(super) fn short(id: JobId) -> String {
    let text = id.to_string();
    format!("{}…{}", &text[..8], &text[text.len() - 6..])
}

fn may(job: &Job, viewer: &Viewer) -> May {
    let is_requested = matches!(&job.state, State::Leased(leased) if leased.cancel_requested);
    let name = job.state.name();
    May {
        try_now: viewer.may_steer && name == StateName::Pending,
        cancel: matches!(name, StateName::Pending | StateName::Leased) && !is_requested,
        redrive: viewer.may_steer && matches!(name, StateName::Dead | StateName::Cancelled),
        resolve: viewer.may_steer && name == StateName::Dead,
    }
}

fn facts(job: &Job, max_attempts: u32, now: Timestamp) -> Vec<(&'static str, String)> {
    let progress = &job.progress;
    let most = job.max_attempts.unwrap_or(max_attempts);
    let moment = |at| Moment::new(at, now).text;
    let mut facts = vec![
        ("Accepted", moment(job.accepted_at)),
        ("Changed", moment(job.updated_at)),
        ("Attempts", format!("{}, {} of {most} counted", progress.attempts, progress.charged)),
        ("Sent with Idempotency-Key", job.delivery_key()),
    ];
    let mut further = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    further("Workers lost with it", (progress.lost > 0).then(|| progress.lost.to_string()));
    further("Expires", job.expires_at.map(moment));
    further("Priority", (job.priority.level() > 0).then(|| job.priority.level().to_string()));
    further("Ordering key", job.ordering_key.clone());
    further("Redriven", (progress.generation > 0).then(|| times(progress.generation.into())));
    further("Last error", progress.last_error.clone());
    further("traceparent", job.traceparent.clone());
    facts
}

fn line(attempt: &Attempt, now: Timestamp) -> AttemptLine {
    let next = attempt.next_run_at.map(|at| {
        let waited = attempt.retry_delay.map_or_else(String::new, |delay| format!("{} later, ", span(delay)));
        (waited, Moment::new(at, now))
    });
    AttemptLine {
        number: attempt.number,
        at: Moment::new(attempt.started_at, now),
        took: latency(u32::try_from(attempt.duration.as_micros()).unwrap_or(u32::MAX)),
        outcome: outcome_words::short(attempt.outcome),
        tone: outcome_words::tone(attempt.outcome).style(),
        status: attempt.status,
        error: attempt.error.clone(),
        excerpt: attempt.response_excerpt.clone().filter(|text| !text.is_empty()),
        charged: if attempt.charged { "counted" } else { "not counted" },
        next,
        worker: attempt.worker.to_string()[..8].to_owned(),
    }
}
