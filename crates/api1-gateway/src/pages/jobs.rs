//! `/jobs`: jobs by state, destination and text, page by page. What is asked for is in the address, so that it can be passed on.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::job::{Job, State, StateName};
use jobs_core::store::Filter;
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page};
use super::gate_words::Tone;
use super::job::short;
use super::outcome_words;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{Moment, jobs as jobs_in_words, query as to_query};
use crate::app::App;
use crate::bulk::Verb;
use crate::public::cursor;
use crate::public::list::{self, Asked};
use crate::query;

#[derive(Template)]
#[template(path = "jobs.html")]
struct Page {
    shell: Shell,
    filter: FilterView,
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

/// What is asked for, as the form shows it.
pub(super) struct FilterView {
    pub(super) text: String,
    /// Value, words, whether it is chosen.
    pub(super) states: Vec<(&'static str, &'static str, bool)>,
    pub(super) destinations: Vec<(String, String, bool)>,
    pub(super) is_set: bool,
}

struct Row {
    id: String,
    short: String,
    destination: String,
    state: &'static str,
    tone: &'static str,
    attempts: u32,
    accepted: Moment,
    /// What its time column says: when it is tried next, or ended.
    when: Option<(&'static str, Moment)>,
    error: String,
}

pub(super) async fn jobs(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let pairs = query::pairs(&request)?.into_iter().filter(|(name, _)| name != "said").collect();
    let Asked { filter, limit, below } = list::read(pairs)?;
    let stats = app.store.stats().await?;
    let found = app.store.list(filter.clone(), below, limit).await?;
    let now = app.clock.now().wall;
    let address = |cursor: &str| format!("/jobs?{}", address(&filter, &[("cursor", cursor)]));
    let known = known_count(&filter, &stats);
    page(&Page {
        filter: filter_view(&app, &filter),
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
    let Filter { state, destination, text: None } = filter else { return None };
    let of = |states: &std::collections::BTreeMap<StateName, u64>| match state {
        Some(state) => states.get(state).copied().unwrap_or(0),
        None => states.values().sum(),
    };
    Some(match destination {
        Some(name) => stats.destinations.get(name).map_or(0, of),
        None => stats.destinations.values().map(of).sum(),
    })
}

/// The query of `filter` and what else is to be in it.
pub(super) fn address(filter: &Filter, more: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("state", filter.state.map_or("", StateName::as_str)),
        ("destination", filter.destination.as_ref().map_or("", |name| name.as_str())),
        ("q", filter.text.as_deref().unwrap_or_default()),
    ];
    pairs.extend(more);
    to_query(&pairs)
}

fn filter_view(app: &App, filter: &Filter) -> FilterView {
    let states =
        StateName::ALL.map(|state| (state.as_str(), outcome_words::state(state).0, filter.state == Some(state)));
    let destinations = app.dispatcher().views().into_iter().map(|view| {
        let is_chosen = filter.destination.as_ref() == Some(&view.name);
        (view.name.to_string(), view.title, is_chosen)
    });
    FilterView {
        text: filter.text.clone().unwrap_or_default(),
        states: states.to_vec(),
        destinations: destinations.collect(),
        is_set: *filter != Filter::default(),
    }
}

fn row(job: &Job, now: Timestamp) -> Row {
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
    let verbs = match filter.state {
        Some(StateName::Pending) => {
            [Some(("Try all of these now", Verb::Redrive)), Some(("Cancel all of these", Verb::Cancel))]
        }
        Some(StateName::Dead | StateName::Cancelled) => [Some(("Redrive all of these", Verb::Redrive)), None],
        Some(StateName::Leased | StateName::Succeeded) | None => [None, None],
    };
    let link = |(words, verb): (_, Verb)| (words, format!("/jobs/all?{}", address(filter, &[("verb", verb.as_str())])));
    verbs.into_iter().flatten().map(link).collect()
}
