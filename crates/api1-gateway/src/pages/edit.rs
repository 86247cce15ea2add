//! `/jobs/{id}/edit` and `/jobs/{id}/resolve`: a dead job's payload mended and sent as a new job, or the job settled otherwise.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use bytes::Bytes;
use jobs_core::job::{Request, StateName};
use jobs_core::steering::Resolve;

use super::answer::{Refusal, page, see_other};
use super::body_view::BodyView;
use super::form::Form;
use super::shell::Shell;
use super::viewer::Viewer;
use crate::app::App;
use crate::body;
use crate::problem::{Code, Problem};
use crate::public::resolve::MAX_REASON;
use crate::public::{job_id, unknown_job};

#[derive(Template)]
#[template(path = "edit.html")]
struct Page {
    shell: Shell,
    id: String,
    what: String,
    /// `None`: it cannot be edited in a form.
    text: Option<String>,
}

pub(super) async fn ask(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let id = job_id(&request)?;
    let stored = app.store.request(id).await?.ok_or_else(|| unknown_job(id))?;
    let stats = app.store.stats().await?;
    let view = BodyView::new(&stored.body, stored.content_type.as_deref());
    page(&Page {
        shell: Shell::new(&app, &request, viewer, &stats, ("jobs", "Edit and redrive".to_owned())),
        id: id.to_string(),
        text: (!view.cut && view.is_text).then_some(view.text),
        what: view.what,
    })
}

pub(super) async fn edit(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    app.check_space()?;
    let id = job_id(&request)?;
    let stored = app.store.request(id).await?.ok_or_else(|| unknown_job(id))?;
    let none = || Problem::with(Code::BadMessage, "payload", "missing");
    // A browser sends line ends of its own.
    let text = form.raw("payload").ok_or_else(none)?.replace("\r\n", "\n");
    if text.len() > app.limits.payload.max_bytes {
        return Err(body::too_large(app.limits.payload.max_bytes).into());
    }
    if stored.content_type.as_deref().is_some_and(body::is_json) {
        body::check_json(text.as_bytes())?;
    }
    let change = move |request: &mut Request| request.body = Bytes::from(text);
    let job = app.into_inner().edit_and_redrive(id, change, &viewer.by).await.map_err(Problem::from)?;
    Ok(see_other(&format!("/jobs/{}?said=edited", job.id)))
}

pub(super) async fn resolve(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    let id = job_id(&request)?;
    let reason = form.get("reason").filter(|reason| reason.len() <= MAX_REASON);
    let none = || Problem::with(Code::BadMessage, "reason", format_args!("1 to {MAX_REASON} bytes of text"));
    let reason = reason.ok_or_else(none)?.to_owned();
    let (answer, job) = app.into_inner().resolve(id, reason, &viewer.by).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Resolve::Resolved => Ok(see_other(&format!("/jobs/{id}?said=resolved"))),
        Resolve::NotDead => {
            debug_assert_ne!(job.state.name(), StateName::Dead);
            Err(Problem::new(Code::WrongState, "only a dead job is resolved: go back and look at it again").into())
        }
    }
}
