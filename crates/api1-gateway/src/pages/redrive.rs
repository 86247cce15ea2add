//! `/redrives/{number}`: how far a mass redrive has come, and stopping and resuming it.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::redrive::{Change, MassRedrive, Mode, Phase, Plan, Stop, Unfit};
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page, see_other};
use super::filter;
use super::form::Form;
use super::gate_words::Tone;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, count, jobs, rate};
use crate::app::App;
use crate::problem::{Code, Problem};

#[derive(Template)]
#[template(path = "redrive.html")]
struct Page {
    shell: Shell,
    line: Line,
    detail: String,
    matched: u64,
    handled: u64,
    figures: Vec<(&'static str, String)>,
    rules: Vec<(&'static str, String)>,
    may_stop: bool,
    may_resume: bool,
    may_run: bool,
    back: String,
}

/// A mass redrive in a line.
pub(super) struct Line {
    pub(super) number: u32,
    pub(super) at: Moment,
    pub(super) by: String,
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    pub(super) what: String,
    pub(super) progress: String,
}

impl Line {
    pub(super) fn new(redrive: &MassRedrive, now: Timestamp) -> Self {
        let (state, tone) = state_of(redrive);
        let progress = match redrive.plan.mode {
            Mode::Preview => format!("{} fit", jobs(redrive.matched)),
            Mode::Run => format!("{} of {}", count(redrive.redriven), jobs(redrive.matched)),
        };
        Line {
            number: redrive.number,
            at: Moment::new(redrive.asked_at, now),
            by: redrive.by.clone(),
            state,
            tone: tone.style(),
            what: format!("Jobs {}", filter::in_words(&redrive.plan.filter)),
            progress,
        }
    }
}

/// In a word.
pub(super) fn state_of(redrive: &MassRedrive) -> (&'static str, Tone) {
    match (&redrive.stop, redrive.phase) {
        (Some(stop), _) if stop.by_rule => ("Stopped by its rule", Tone::Bad),
        (Some(_), _) => ("Stopped", Tone::Warn),
        (None, Phase::Counting) => ("Counting", Tone::Busy),
        (None, Phase::Previewed) => ("Counted", Tone::Quiet),
        (None, Phase::Canary) => ("Trying the first few", Tone::Busy),
        (None, Phase::Running) => ("Running", Tone::Busy),
        (None, Phase::Done) => ("Done", Tone::Good),
    }
}

pub(super) async fn redrive(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let redrive = find(&app, &request).await?;
    let stats = app.store.stats().await?;
    let now = app.clock.now().wall;
    let title = format!("Mass redrive {}", redrive.number);
    page(&Page {
        line: Line::new(&redrive, now),
        detail: detail(&redrive),
        matched: redrive.matched,
        handled: redrive.redriven + redrive.skipped,
        figures: figures(&redrive),
        rules: rules(&redrive.plan),
        may_stop: redrive.is_active(),
        may_resume: redrive.stop.is_some(),
        may_run: redrive.phase == Phase::Previewed && redrive.stop.is_none() && redrive.matched > 0,
        back: format!("/dead-letters?{}", filter::address(&redrive.plan.filter, &[])),
        shell: Shell::new(&app, &request, viewer, &stats, ("dead", title)),
    })
}

/// What the page's forms do: `stop`, `resume`, and `run` what was counted.
pub(super) async fn change(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    Form::read(&request, payload).await?;
    let redrive = find(&app, &request).await?;
    let app = app.into_inner();
    let change = match request.match_info().get("verb").unwrap_or_default() {
        "stop" => Change::Stop(Stop { reason: "by hand".to_owned(), by_rule: false }),
        "resume" => Change::Resume,
        "run" => {
            let plan = Plan { mode: Mode::Run, ..redrive.plan };
            let begun = app.start_redrive(plan, &viewer.by).await?;
            return Ok(see_other(&format!("/redrives/{}", begun.number)));
        }
        _ => return Err(Problem::new(Code::NoSuchRoute, "stop, resume or run").into()),
    };
    let number = redrive.number;
    let (answer, redrive) = app.change_redrive(number, change, &viewer.by).await?.ok_or_else(|| unknown(number))?;
    let state = state_of(&redrive).0.to_lowercase();
    answer.map_err(|Unfit| Problem::new(Code::WrongRedriveState, format!("it is {state} by now")))?;
    Ok(see_other(&format!("/redrives/{number}")))
}

async fn find(app: &App, request: &HttpRequest) -> Result<MassRedrive, Refusal> {
    let number = request.match_info().get("number").and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(app.store.mass_redrive(number).await?.ok_or_else(|| unknown(number))?)
}

fn unknown(number: u32) -> Problem {
    Problem::new(Code::UnknownRedrive, format!("mass redrive {number}"))
}

fn detail(redrive: &MassRedrive) -> String {
    if let Some(stop) = &redrive.stop {
        let reason = &stop.reason;
        return format!("Stopped: {reason}. What was redriven stays so; the others are untouched until it is resumed.");
    }
    let text = match redrive.phase {
        Phase::Counting => "The jobs that fit are being counted; none is touched yet.",
        Phase::Previewed => "These would be redriven. None has been touched.",
        Phase::Canary => "The first few are out: the others follow once these have ended well.",
        Phase::Running => "It goes on in the background, also after a restart of the gateway.",
        Phase::Done => "All that fitted have had their turn. How they fare is counted as it becomes known.",
    };
    text.to_owned()
}

fn figures(redrive: &MassRedrive) -> Vec<(&'static str, String)> {
    let tally = redrive.tally;
    vec![
        ("Fit", count(redrive.matched)),
        ("Redriven", count(redrive.redriven)),
        ("Skipped: no longer fit", count(redrive.skipped)),
        ("Delivered since", count(tally.succeeded)),
        ("Failed again", count(tally.failed)),
        ("Cancelled since", count(tally.cancelled)),
    ]
}

fn rules(plan: &Plan) -> Vec<(&'static str, String)> {
    vec![
        (
            "First",
            if plan.canary == 0 {
                "no canary".to_owned()
            } else {
                format!("{}, and wait for their outcome", jobs(plan.canary.into()))
            },
        ),
        (
            "Rate",
            plan.per_second.map_or("as fast as its gate lets them".to_owned(), |per_second| {
                format!("{} a second", rate(per_second))
            }),
        ),
        ("Stops", format!("when more than {:.0} % of the outcomes are failures", plan.stop_on_failure_ratio * 100.0)),
        ("Idempotency-Key", if plan.new_key { "a new one" } else { "the same as before" }.to_owned()),
    ]
}
