//! `/`: is everything getting through?

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::dispatch::DestinationView;
use jobs_core::job::StateName;
use jobs_core::store::Stats;
use jobs_core::time::Timestamp;

use super::answer::{Refusal, page};
use super::chart::{STRETCHES, Spark};
use super::gate_words::{Facts, GateWords, Tone, per_second, say};
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::{count, rate, span};
use crate::app::App;
use crate::history::ring::Span;

/// Rows at most: those that need somebody come first.
const MAX_ROWS: usize = 100;
/// Sentences in the verdict.
const MAX_TROUBLES: usize = 3;
/// What "now" means for calls a second.
const RECENT_MS: i64 = 10_000;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    shell: Shell,
    verdict: Verdict,
    totals: Vec<Total>,
    rows: Vec<Row>,
    /// Destinations without a row.
    hidden: usize,
}

/// The answer to the page's question.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    tone: Tone,
    title: String,
    /// A sentence each, with what to do.
    troubles: Vec<(String, Option<String>)>,
}

struct Total {
    name: &'static str,
    value: String,
    note: String,
    link: Option<&'static str>,
    tone: Tone,
}

/// A destination.
struct Row {
    name: String,
    title: String,
    words: GateWords,
    calls: String,
    waiting: String,
    oldest_due: String,
    dead: String,
    in_flight: String,
    calls_spark: Spark,
    waiting_spark: Spark,
}

pub(super) async fn overview(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let stats = app.store.stats().await?;
    let now = app.clock.now().wall;
    let mut views = app.dispatcher().views();
    // Worst first, by what is known without asking the store; then by how much waits.
    views.sort_by_cached_key(|view| {
        let tone = say(&facts(&app, view, &stats, None, now)).tone;
        (std::cmp::Reverse((tone, waiting(view, &stats))), view.name.clone())
    });
    let hidden = views.len().saturating_sub(MAX_ROWS);
    views.truncate(MAX_ROWS);
    let mut rows = Vec::with_capacity(views.len());
    for view in &views {
        let oldest_due = match waiting(view, &stats) {
            0 => None,
            _ => app.store.oldest_due(&view.name).await?.filter(|due| *due <= now).map(|due| now.since(due)),
        };
        rows.push(row(&app, &facts(&app, view, &stats, oldest_due, now), &stats));
    }
    page(&Overview {
        shell: Shell::new(&app, &request, viewer, &stats, ("overview", "Overview".to_owned())),
        verdict: verdict(&rows),
        totals: totals(&stats),
        rows,
        hidden,
    })
}

/// What is known of a destination.
pub(super) fn facts<'a>(
    app: &App,
    view: &'a DestinationView,
    stats: &Stats,
    oldest_due: Option<Duration>,
    now: Timestamp,
) -> Facts<'a> {
    let waiting = waiting(view, stats);
    Facts {
        view,
        waiting,
        oldest_due,
        stalled: app.watchdog.stalled(&view.name),
        workers: app.dispatcher().workers(app.clock.now()),
        drain: app.drain_rates.estimate_ms(&view.name, waiting).map(Duration::from_millis),
        recent: app.history.of(&view.name, |track| track.ring.recent(now, RECENT_MS)).flatten(),
        now,
    }
}

fn waiting(view: &DestinationView, stats: &Stats) -> u64 {
    in_state(view, stats, StateName::Pending)
}

pub(super) fn in_state(view: &DestinationView, stats: &Stats, state: StateName) -> u64 {
    stats.destinations.get(&view.name).and_then(|states| states.get(&state)).copied().unwrap_or(0)
}

/// Dead jobs that nobody has resolved.
pub(super) fn unresolved(view: &DestinationView, stats: &Stats) -> u64 {
    let resolved = stats.resolved.get(&view.name).copied().unwrap_or(0);
    in_state(view, stats, StateName::Dead).saturating_sub(resolved)
}

fn row(app: &App, facts: &Facts<'_>, stats: &Stats) -> Row {
    let view = facts.view;
    let stretches = app.history.of(&view.name, |track| track.ring.stretches(Span::TenMinutes, STRETCHES, facts.now));
    let stretches = stretches.unwrap_or_default();
    let whole = |value: f64| count(value as u64);
    Row {
        name: view.name.to_string(),
        title: view.title.clone(),
        words: say(facts),
        calls: rate(facts.recent.map_or(0.0, per_second)),
        waiting: count(facts.waiting),
        oldest_due: facts.oldest_due.map_or("–".to_owned(), span),
        dead: count(unresolved(view, stats)),
        in_flight: count(view.in_flight.into()),
        calls_spark: Spark::new("calls a second", &stretches, &|sample| per_second(*sample), &rate),
        waiting_spark: Spark::new("jobs waiting", &stretches, &|sample| sample.waiting as f64, &whole),
    }
}

fn verdict(rows: &[Row]) -> Verdict {
    let of = |tone: Tone| rows.iter().filter(move |row| row.words.tone == tone);
    let tone = rows.iter().map(|row| row.words.tone).max().unwrap_or(Tone::Good).max(Tone::Good);
    let (bad, warn) = (of(Tone::Bad).count(), of(Tone::Warn).count());
    let title = match (bad, warn) {
        (0, 0) if of(Tone::Busy).count() > 0 => "Recovering: what was held is going out.".to_owned(),
        (0, 0) => "Everything is getting through.".to_owned(),
        (0, 1) => "One destination wants a look.".to_owned(),
        (0, warn) => format!("{warn} destinations want a look."),
        (1, _) => "One destination is not getting its jobs.".to_owned(),
        (bad, _) => format!("{bad} destinations are not getting their jobs."),
    };
    let told = of(Tone::Bad).chain(of(Tone::Warn)).chain(of(Tone::Busy));
    let troubles = told.map(|row| (row.words.sentence.clone(), row.words.hint.clone())).take(MAX_TROUBLES).collect();
    Verdict { tone, title, troubles }
}

fn totals(stats: &Stats) -> Vec<Total> {
    let total = |name, value: u64, note: String, link, tone| Total { name, value: count(value), note, link, tone };
    let in_state = |state| stats.in_state(state);
    let (pending, leased) = (in_state(StateName::Pending), in_state(StateName::Leased));
    let dead = in_state(StateName::Dead).saturating_sub(stats.resolved.values().sum());
    let delivered = in_state(StateName::Succeeded);
    let purged = match stats.purged {
        0 => "still kept".to_owned(),
        purged => format!("still kept; {} older ones purged", count(purged)),
    };
    vec![
        total("Accepted", stats.accepted, "since this store began".to_owned(), Some("/jobs"), Tone::Quiet),
        total("Delivered", delivered, purged, Some("/jobs?state=succeeded"), Tone::Good),
        total("Waiting", pending, format!("and {} in flight", count(leased)), Some("/jobs?state=pending"), Tone::Quiet),
        match dead {
            0 => total("Dead", 0, "nothing to look after".to_owned(), None, Tone::Quiet),
            _ => total(
                "Dead",
                dead,
                "somebody must decide what becomes of them".to_owned(),
                Some("/dead-letters"),
                Tone::Warn,
            ),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tone: Tone, sentence: &str) -> Row {
        let spark = || Spark::new("", &[], &|_| 0.0, &rate);
        Row {
            name: "api2".to_owned(),
            title: "API 2".to_owned(),
            words: GateWords { tone, state: "", sentence: sentence.to_owned(), hint: None },
            calls: String::new(),
            waiting: String::new(),
            oldest_due: String::new(),
            dead: String::new(),
            in_flight: String::new(),
            calls_spark: spark(),
            waiting_spark: spark(),
        }
    }

    #[test]
    fn the_verdict_is_that_of_the_worst_destination_and_names_the_worst_first() {
        let rows = [row(Tone::Good, "a"), row(Tone::Warn, "b"), row(Tone::Bad, "c")];
        let verdict = verdict(&rows);
        assert_eq!((verdict.tone, verdict.title.as_str()), (Tone::Bad, "One destination is not getting its jobs."));
        assert_eq!(verdict.troubles, [("c".to_owned(), None), ("b".to_owned(), None)]);
    }

    #[test]
    fn all_well_is_said_in_one_sentence() {
        let verdict = verdict(&[row(Tone::Good, "a"), row(Tone::Quiet, "b")]);
        assert_eq!((verdict.title.as_str(), verdict.troubles.len()), ("Everything is getting through.", 0));
    }
}
