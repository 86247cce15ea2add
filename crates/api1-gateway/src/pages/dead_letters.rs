//! `/dead-letters`: what was given up and nobody has looked after, and redriving many of them at once.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::job::StateName;
use jobs_core::redrive::{MassRedrive, Mode, Plan};
use jobs_core::steering::AuditLine;

use super::answer::{Refusal, page, see_other};
use super::filter::{self, FilterView};
use super::form::Form;
use super::jobs::{Row, row};
use super::redrive::{Line, state_of};
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, jobs};
use crate::app::App;
use crate::problem::{Code, Problem};
use crate::public::cursor;
use crate::public::list::Asked;
use crate::public::redrives;
use crate::query;

/// Of the latest mass redrives and acts of operators.
const MAX_LINES: u32 = 10;

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct Page {
    shell: Shell,
    filter: FilterView,
    is_cancelled: bool,
    hidden: Vec<(&'static str, String)>,
    count: Option<String>,
    rows: Vec<Row>,
    next: Option<String>,
    is_cut: bool,
    redrives: Vec<Line>,
    acts: Vec<Act>,
}

/// A line of the audit log.
struct Act {
    at: Moment,
    by: String,
    what: String,
    target: String,
    detail: String,
}

pub(super) async fn dead_letters(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let mut pairs = query::pairs(&request)?;
    for (name, usual) in [("state", "dead"), ("resolved", "false")] {
        if !pairs.iter().any(|(known, _)| known == name) {
            pairs.push((name.to_owned(), usual.to_owned()));
        }
    }
    let Asked { mut filter, limit, below } = filter::read(pairs)?;
    if !filter.is_redrivable() {
        filter.state = Some(StateName::Dead);
    }
    let stats = app.store.stats().await?;
    let found = app.store.list(filter.clone(), below, limit).await?;
    let now = app.clock.now().wall;
    let (mut redrives, mut acts) = (Vec::new(), Vec::new());
    if viewer.may_steer {
        redrives = app.store.mass_redrives(MAX_LINES).await?;
        acts = app.store.audit(None, MAX_LINES).await?;
    }
    let shell = Shell::new(&app, &request, viewer, &stats, ("dead", "Dead letters".to_owned()));
    let counted = super::jobs::known_count(&filter, &stats);
    page(&Page {
        shell,
        is_cancelled: filter.state == Some(StateName::Cancelled),
        count: counted.map(jobs),
        hidden: filter::pairs(&filter),
        rows: found.jobs.iter().map(|job| row(job, now)).collect(),
        next: found.next.map(|below| {
            let cursor = cursor::encode(&filter, below);
            format!("/dead-letters?{}", filter::address(&filter, &[("cursor", &cursor)]))
        }),
        is_cut: found.next.is_some() && found.jobs.len() < limit as usize,
        filter: FilterView::new(&app, &filter),
        redrives: redrives.iter().map(|redrive| Line::new(redrive, now)).collect(),
        acts: acts.into_iter().map(|line| act(line, now)).collect(),
    })
}

/// Begins a mass redrive of what the page showed, or counts it first.
pub(super) async fn redrive(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    let plan = plan(&form)?;
    let redrive: MassRedrive = app.into_inner().start_redrive(plan, &viewer.by).await?;
    log::info!(redrive = redrive.number, state = state_of(&redrive).0; "a mass redrive was asked for on the dashboard");
    Ok(see_other(&format!("/redrives/{}", redrive.number)))
}

fn plan(form: &Form) -> Result<Plan, Problem> {
    let own = ["mode", "canary", "per_second", "stop_percent", "new_key"];
    let filter = form.pairs().iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect();
    let number = |name: &'static str, usual: f64| match form.get(name) {
        None => Ok(usual),
        Some(text) => {
            let bad = |_| Problem::with(Code::BadMessage, name, format_args!("{text:?} is not a number"));
            text.parse::<f64>().map_err(bad)
        }
    };
    let per_second = number("per_second", 0.0)?;
    redrives::plan(redrives::Asked {
        filter: filter::read(filter)?.filter,
        mode: if form.get("mode") == Some("run") { Mode::Run } else { Mode::Preview },
        // A cast of a float saturates; what is too large is refused there.
        canary: number("canary", 0.0)? as u32,
        per_second: (per_second != 0.0).then_some(per_second),
        stop_on_failure_ratio: number("stop_percent", 50.0)? / 100.0,
        new_key: form.get("new_key").is_some(),
    })
}

fn act(line: AuditLine, now: jobs_core::time::Timestamp) -> Act {
    let AuditLine { act, .. } = line;
    Act {
        at: Moment::new(act.at, now),
        by: act.by,
        what: act.action.as_str().replace('_', " "),
        target: act.target,
        detail: act.detail,
    }
}
