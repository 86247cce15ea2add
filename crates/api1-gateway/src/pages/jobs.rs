//! `/jobs`: jobs by state, destination and text, page by page. What is asked for is in the address, so that it can be passed on.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::job::{Job, State, StateName};
use jobs_core::store::Filter;
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page};
use super::filter::{self, FilterView};
use super::gate_words::Tone;
use super::job::short;
use super::outcome_words;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, jobs as jobs_in_words};
use crate::app::App;
use crate::bulk::Verb;
use crate::public::cursor;
use crate::public::list::Asked;
use crate::query;

#[derive(Template)]
#[template(path = "jobs.html")]
struct Page {
    shell: Shell,
    filter: FilterView,
    is_filtered: bool,
    rows: Vec<Row>,
    /// How many fit, where a counter says so.
    count: Option<String>,
    next: Option<String>,
    is_first: bool,
    first: String,
    /// The page's time was over before it was full.
    is_cut: bool,
    /// What can be done to all that fit, with where that is asked for.
    all: Vec<(&'static str, String)>,
}

/// A job in a table.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) short: String,
    pub(super) destination: String,
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    pub(super) attempts: u32,
    pub(super) accepted: Moment,
    /// What its time column says: when it is tried next, or ended.
    pub(super) when: Option<(&'static str, Moment)>,
    pub(super) error: String,
}

pub(super) async fn jobs(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let Asked { filter, limit, below } = filter::read(query::pairs(&request)?)?;
    let stats = app.store.stats().await?;
    let found = app.store.list(filter.clone(), below, limit).await?;
    let now = app.clock.now().wall;
    let address = |cursor: &str| format!("/jobs?{}", filter::address(&filter, &[("cursor", cursor)]));
    let known = known_count(&filter, &stats);
    page(&Page {
        filter: FilterView::new(&app, &filter),
        is_filtered: filter != Filter::default(),
        rows: found.jobs.iter().map(|job| row(job, now)).collect(),
        count: known.map(jobs_in_words),
        next: found.next.map(|below| address(&cursor::encode(&filter, below))),
        is_first: below.is_none(),
        first: address(""),
        is_cut: found.next.is_some() && found.jobs.len() < limit as usize,
        all: if known == Some(0) || !viewer.may_steer { Vec::new() } else { all(&filter) },
        shell: Shell::new(&app, &request, viewer, &stats, ("jobs", "Jobs".to_owned())),
    })
}

/// How many fit, by the counters; `None` where only a look at the jobs could tell.
pub(super) fn known_count(filter: &Filter, stats: &jobs_core::store::Stats) -> Option<u64> {
    let Filter { state, destination, resolved, .. } = filter;
    let counted = Filter { state: *state, destination: destination.clone(), resolved: *resolved, ..Filter::default() };
    let unresolved = *resolved == Some(false) && *state == Some(StateName::Dead);
    if *filter != counted || (resolved.is_some() && !unresolved) {
        return None;
    }
    if unresolved {
        let views = stats.destinations.keys().filter(|name| destination.as_ref().is_none_or(|wanted| wanted == *name));
        let left = views.map(|name| {
            let dead = stats.destinations[name].get(&StateName::Dead).copied().unwrap_or(0);
            dead.saturating_sub(stats.resolved.get(name).copied().unwrap_or(0))
        });
        return Some(left.sum());
    }
    let of = |states: &std::collections::BTreeMap<StateName, u64>| match state {
        Some(state) => states.get(state).copied().unwrap_or(0),
        None => states.values().sum(),
    };
    Some(match destination {
        Some(name) => stats.destinations.get(name).map_or(0, of),
        None => stats.destinations.values().map(of).sum(),
    })
}

pub(super) fn row(job: &Job, now: Timestamp) -> Row {
    let (state, tone) = outcome_words::state(job.state.name());
    let moment = |at: Timestamp| Moment::new(at, now);
    let when = match &job.state {
        State::Pending(pending) if pending.run_at <= now => Some(("due since", moment(pending.run_at))),
        State::Pending(pending) => Some(("next at", moment(pending.run_at))),
        State::Leased(leased) => Some(("claimed", moment(leased.claimed_at))),
        State::Succeeded { at } | State::Dead { at, .. } | State::Cancelled { at } => Some(("ended", moment(*at))),
    };
    let error = match (&job.state, outcome_words::end(&job.state)) {
        (State::Succeeded { .. }, _) => String::new(),
        (_, Some(end)) => match &job.progress.last_error {
            Some(error) => format!("{end}: {error}"),
            None => end.to_owned(),
        },
        (_, None) => job.progress.last_error.clone().unwrap_or_default(),
    };
    Row {
        id: job.id.to_string(),
        short: short(job.id),
        destination: job.destination.to_string(),
        state,
        tone: if tone == Tone::Quiet { "quiet" } else { tone.style() },
        attempts: job.progress.attempts,
        accepted: moment(job.accepted_at),
        when,
        error,
    }
}

fn all(filter: &Filter) -> Vec<(&'static str, String)> {
    let bulk =
        |words, verb: Verb| (words, format!("/jobs/all?{}", filter::address(filter, &[("verb", verb.as_str())])));
    match filter.state {
        Some(StateName::Pending) => {
            vec![bulk("Try all of these now", Verb::Redrive), bulk("Cancel all of these", Verb::Cancel)]
        }
        Some(StateName::Dead | StateName::Cancelled) => {
            vec![("Redrive all of these", format!("/dead-letters?{}", filter::address(filter, &[])))]
        }
        Some(StateName::Leased | StateName::Succeeded) | None => Vec::new(),
    }
}
