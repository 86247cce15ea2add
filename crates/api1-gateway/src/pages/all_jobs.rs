//! `/jobs/all`: one verb for all jobs that fit, asked for, looked at, stopped.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::answer::{Refusal, page, see_other};
use super::filter::{self, address, in_words};
use super::form::Form;
use super::gate_words::Tone;
use super::jobs::known_count;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, count, jobs, span};
use crate::app::App;
use crate::bulk::{End, Run, Verb};
use crate::problem::{Code, Problem};
use crate::query;
use jobs_core::store::Filter;

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    shell: Shell,
    title: String,
    /// What it means.
    detail: &'static str,
    button: &'static str,
    style: &'static str,
    hidden: Vec<(&'static str, String)>,
    back: String,
}

#[derive(Template)]
#[template(path = "run.html")]
struct Progress {
    shell: Shell,
    number: u64,
    title: String,
    state: &'static str,
    tone: Tone,
    detail: String,
    done: String,
    skipped: String,
    began: Moment,
    lasted: String,
    goes_on: bool,
    back: String,
}

/// The question before it is done, with how many jobs it is about.
pub(super) async fn confirm(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let (verb, filter) = asked(query::pairs(&request)?)?;
    let stats = app.store.stats().await?;
    let many = match known_count(&filter, &stats) {
        Some(number) => jobs(number),
        None => "all jobs".to_owned(),
    };
    let fitting = in_words(&filter);
    let (title, detail, button, style) = match verb {
        Verb::Cancel => (
            format!("Cancel {many} {fitting}?"),
            "Jobs that wait end as cancelled; those in flight end when their call does, unless it succeeds. They can be redriven while they are kept.",
            "Cancel them all",
            "danger",
        ),
        Verb::Redrive => (
            format!("Try {many} {fitting} now?"),
            "Each is due at once, with everything counted anew if it had ended. Its destination's gate still decides how fast they go out.",
            "Try them all",
            "primary",
        ),
    };
    page(&Confirm {
        shell: Shell::new(&app, &request, viewer, &stats, ("jobs", "All of these?".to_owned())),
        title,
        detail,
        button,
        style,
        hidden: hidden(verb, &filter),
        back: format!("/jobs?{}", address(&filter, &[])),
    })
}

pub(super) async fn begin(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    let (verb, filter) = asked(form.pairs().to_vec())?;
    let number = app.into_inner().begin_bulk(verb, filter, viewer.by)?;
    Ok(see_other(&format!("/jobs/all/{number}")))
}

pub(super) async fn progress(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let run = app.bulk.run(number(&request)).ok_or_else(gone)?;
    let stats = app.store.stats().await?;
    let now = app.clock.now().wall;
    let (state, tone, detail) = match &run.end {
        None => {
            ("Running", Tone::Busy, "It goes on while this gateway runs; after a restart, ask for it again.".to_owned())
        }
        Some(End::All) => ("Done", Tone::Good, "All that fitted were looked at.".to_owned()),
        Some(End::Stopped) => ("Stopped", Tone::Warn, "What it had not come to is unchanged.".to_owned()),
        Some(End::Failed(error)) => ("Failed", Tone::Bad, format!("It stopped: {error}. Ask for it again.")),
    };
    page(&Progress {
        shell: Shell::new(&app, &request, viewer, &stats, ("jobs", format!("Run {}", run.number))),
        number: run.number,
        title: title(&run),
        state,
        tone,
        detail,
        done: count(run.done),
        skipped: count(run.skipped),
        began: Moment::new(run.began, now),
        lasted: span(run.ended.unwrap_or(now).since(run.began)),
        goes_on: run.end.is_none(),
        back: format!("/jobs?{}", address(&run.filter, &[])),
    })
}

pub(super) async fn stop(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Viewer::operator(&app, &request)?;
    Form::read(&request, payload).await?;
    let number = number(&request);
    if !app.bulk.stop(number) {
        return Err(gone().into());
    }
    Ok(see_other(&format!("/jobs/all/{number}")))
}

fn number(request: &HttpRequest) -> u64 {
    request.match_info().get("number").and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn gone() -> Problem {
    Problem::new(Code::NoSuchRoute, "this gateway has no such run, or has forgotten it")
}

fn asked(pairs: Vec<(String, String)>) -> Result<(Verb, Filter), Problem> {
    let (verbs, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == "verb");
    let verb = verbs.first().and_then(|(_, word)| Verb::parse(word));
    let verb = verb.ok_or_else(|| Problem::with(Code::BadQuery, "verb", "is not one of cancel, redrive"))?;
    Ok((verb, filter::read(others)?.filter))
}

fn hidden(verb: Verb, filter: &Filter) -> Vec<(&'static str, String)> {
    let mut hidden = filter::pairs(filter);
    hidden.push(("verb", verb.as_str().to_owned()));
    hidden
}

fn title(run: &Run) -> String {
    let verb = match run.verb {
        Verb::Cancel => "Cancelling",
        Verb::Redrive => "Trying now",
    };
    format!("{verb}: jobs {}", in_words(&run.filter))
}
