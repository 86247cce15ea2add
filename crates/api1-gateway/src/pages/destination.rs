//! `/destinations/{name}`: what one destination is doing, has been doing, and is set to do; pausing and resuming it.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::job::{DestinationName, StateName};
use jobs_core::store::Stats;
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page, see_other};
use super::chart::{Chart, STRETCHES, Series};
use super::form::Form;
use super::gate_words::{GateWords, Tone, per_second, say};
use super::overview::{facts, in_state, unresolved};
use super::settings_words::settings;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, about, count, latency, rate, span, times};
use super::{drill, outcome_words};
use crate::app::App;
use crate::history::errors::Kind;
use crate::history::ring::{Sample, Span};
use crate::history::track::GateMark;
use crate::problem::{Code, Problem};
use crate::query;

/// Changes of the gate on the page, latest first.
const MAX_MARKS: usize = 50;

#[derive(Template)]
#[template(path = "destination.html")]
struct Page {
    shell: Shell,
    name: String,
    title: String,
    words: GateWords,
    is_paused: bool,
    is_removed: bool,
    has_drill: bool,
    figures: Vec<(&'static str, String)>,
    six_hours: bool,
    charts: Vec<Chart>,
    timeline: Vec<Spell>,
    errors: Vec<Failure>,
    settings: Vec<(&'static str, String)>,
}

/// From one change of the gate to the next.
struct Spell {
    at: Moment,
    tone: &'static str,
    state: &'static str,
    reason: Option<String>,
    lasted: String,
}

/// A kind of failure.
struct Failure {
    outcome: &'static str,
    status: String,
    text: String,
    count: String,
    first: Moment,
    last: Moment,
    job: String,
}

pub(super) async fn destination(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let name = request.match_info().get("name").unwrap_or_default();
    let view = find(&app, name)?;
    let six_hours = query::pairs(&request)?.iter().any(|(name, value)| name == "span" && value == "6h");
    let stats = app.store.stats().await?;
    let now = app.clock.now().wall;
    let oldest_due = app.store.oldest_due(&view.name).await?.filter(|due| *due <= now).map(|due| now.since(due));
    let facts = facts(&app, &view, &stats, oldest_due, now);
    let words = say(&facts);
    let configured = app.catalog().find(name).ok().map(|listed| std::sync::Arc::clone(&listed.settings));
    let past = app.history.of(&view.name, |track| {
        let span = if six_hours { Span::SixHours } else { Span::TenMinutes };
        let marks: Vec<GateMark> = track.marks().rev().take(MAX_MARKS).cloned().collect();
        (charts(&track.ring.stretches(span, STRETCHES, now), (span, now)), marks, track.errors.latest())
    });
    let (charts, marks, errors) = past.unwrap_or_default();
    page(&Page {
        shell: Shell::new(&app, &request, viewer, &stats, ("overview", view.title.clone())),
        name: view.name.to_string(),
        title: view.title.clone(),
        words,
        is_paused: view.state == GateStateName::Paused && !view.removed,
        is_removed: view.removed,
        has_drill: configured.as_deref().is_some_and(drill::is_flaky),
        figures: figures(&view, &stats, oldest_due, facts.drain),
        six_hours,
        charts,
        timeline: timeline(&marks, now),
        errors: errors.into_iter().map(|kind| failure(kind, now)).collect(),
        settings: configured.as_deref().map(settings).unwrap_or_default(),
    })
}

pub(super) async fn pause(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    hold(app, request, payload, true).await
}

pub(super) async fn resume(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    hold(app, request, payload, false).await
}

async fn hold(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
    paused: bool,
) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::operator(&app, &request)?;
    Form::read(&request, payload).await?;
    let name = request.match_info().get("name").unwrap_or_default();
    let known: DestinationName = name.parse().map_err(|_| unknown(name))?;
    if !app.hold(known, paused, &viewer.by).await? {
        return Err(unknown(name).into());
    }
    Ok(see_other(&format!("/destinations/{name}?said={}", if paused { "paused" } else { "resumed" })))
}

fn find(app: &App, name: &str) -> Result<DestinationView, Problem> {
    let known = name.parse::<DestinationName>().ok();
    let found = app.dispatcher().views().into_iter().find(|view| known.as_ref() == Some(&view.name));
    found.ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::UnknownDestination, format!("{name:?} is not configured here and has no jobs"))
}

fn figures(
    view: &DestinationView,
    stats: &Stats,
    oldest_due: Option<Duration>,
    drain: Option<Duration>,
) -> Vec<(&'static str, String)> {
    vec![
        ("Waiting", count(in_state(view, stats, StateName::Pending))),
        ("Oldest due for", oldest_due.map_or("–".to_owned(), span)),
        ("Drained in", drain.map_or("–".to_owned(), about)),
        ("In flight", format!("{} of at most {}", count(view.in_flight.into()), count(view.limit.into()))),
        ("Calls a second, at most", view.rate.map_or("no limit".to_owned(), rate)),
        ("Delivered", count(in_state(view, stats, StateName::Succeeded))),
        ("Dead, unresolved", count(unresolved(view, stats))),
        ("Recovered", times(view.epoch)),
    ]
}

fn charts(stretches: &[Option<Sample>], time: (Span, Timestamp)) -> Vec<Chart> {
    let whole = |value: f64| count(value.round() as u64);
    let micros = |value: f64| latency(value.round() as u32);
    let waiting = |sample: &Sample| Some(sample.waiting as f64);
    let calls = |sample: &Sample| Some(per_second(*sample));
    let oks = |sample: &Sample| Some(f64::from(sample.oks) / (f64::from(sample.millis) / 1_000.0));
    let in_flight = |sample: &Sample| Some(f64::from(sample.in_flight));
    let limit = |sample: &Sample| Some(f64::from(sample.limit));
    let median = |sample: &Sample| sample.median_us.map(f64::from);
    let p99 = |sample: &Sample| sample.p99_us.map(f64::from);
    let series = |name, style, value| Series { name, style, value };
    vec![
        Chart::new(("waiting", "Jobs waiting"), stretches, time, &[series("waiting", "main", &waiting)], &whole),
        Chart::new(
            ("calls", "Calls a second"),
            stretches,
            time,
            &[series("made", "second", &calls), series("ok", "main", &oks)],
            &rate,
        ),
        Chart::new(
            ("limit", "Calls in flight"),
            stretches,
            time,
            &[series("limit", "bound", &limit), series("in flight", "main", &in_flight)],
            &whole,
        ),
        Chart::new(
            ("latency", "Time of a call"),
            stretches,
            time,
            &[series("99 of 100 within", "second", &p99), series("half within", "main", &median)],
            &micros,
        ),
    ]
}

/// `marks`: latest first.
fn timeline(marks: &[GateMark], now: Timestamp) -> Vec<Spell> {
    let mut until = now;
    let spell = |mark: &GateMark| {
        let (state, tone) = match mark.state {
            GateStateName::Closed => ("Up", Tone::Good),
            GateStateName::Ramp => ("Recovering", Tone::Busy),
            GateStateName::Paused => ("Paused", Tone::Warn),
            GateStateName::Open if mark.reason.as_deref().is_some_and(|why| why.starts_with("misconfigured")) => {
                ("Misconfigured", Tone::Bad)
            }
            GateStateName::Open => ("Down", Tone::Bad),
        };
        let lasted = span(until.since(mark.at));
        until = mark.at;
        Spell { at: Moment::new(mark.at, now), tone: tone.style(), state, reason: mark.reason.clone(), lasted }
    };
    marks.iter().map(spell).collect()
}

fn failure(kind: Kind, now: Timestamp) -> Failure {
    Failure {
        outcome: outcome_words::short(kind.outcome),
        status: kind.status.map_or("–".to_owned(), |status| status.to_string()),
        text: kind.text,
        count: count(kind.count),
        first: Moment::new(kind.first, now),
        last: Moment::new(kind.last, now),
        job: kind.job.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_says_how_long_each_state_lasted() {
        let mark = |second: i64, state, reason: Option<&str>| GateMark {
            at: Timestamp::from_millis(second * 1_000),
            state,
            reason: reason.map(str::to_owned),
        };
        let marks = [mark(90, GateStateName::Ramp, None), mark(30, GateStateName::Open, Some("down: answered 503"))];
        let spells = timeline(&marks, Timestamp::from_millis(100_000));
        let told: Vec<_> = spells.iter().map(|spell| (spell.state, spell.lasted.as_str())).collect();
        assert_eq!(told, [("Recovering", "10 s"), ("Down", "1 min")]);
    }
}
