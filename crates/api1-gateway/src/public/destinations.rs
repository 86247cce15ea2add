//! `GET /api1/destinations`, `GET /api1/destinations/{name}`, and holding one by hand: `/pause` and `/resume`.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::job::{DestinationName, WorkerId};
use jobs_core::store::Stats;
use jobs_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::stats::{States, states_of};
use crate::app::App;
use crate::auth::bearer;
use crate::problem::{Code, Problem};
use crate::view::millis;

#[derive(Serialize, ToSchema)]
#[schema(as = DestinationList)]
struct List {
    destinations: Vec<Shown>,
}

/// A destination as it is shown. Members without a value are `null`.
#[derive(Serialize, ToSchema)]
#[schema(as = Destination)]
struct Shown {
    name: DestinationName,
    title: String,
    /// `null` where it is configured no more.
    url: Option<String>,
    state: GateStateName,
    /// Why it is held.
    reason: Option<String>,
    since: Option<Timestamp>,
    removed: bool,
    /// Calls in flight the gate lets through.
    limit: u32,
    /// Calls a second it lets through; `null`: as many as the limit does.
    rate: Option<f64>,
    /// How often the destination has recovered from an outage.
    epoch: u64,
    in_flight: u32,
    /// Workers that cannot reach it, while others can: nothing is held for that.
    #[schema(value_type = Vec<String>)]
    cut_off: Vec<WorkerId>,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    states: States,
    /// How long the oldest waiting job has been due; 0 if it is not due yet.
    oldest_due_age_ms: Option<u64>,
    last_error: Option<String>,
    /// At the rate of the last seconds; `null` while nothing succeeds.
    estimated_drain_ms: Option<u64>,
    /// For how long due work has not been handed out although workers are there: a fault of this system, not of the
    /// destination; `null` if all is well.
    stalled_ms: Option<u64>,
}

/// Shows all destinations
#[utoipa::path(get, path = "/api1/destinations", tag = "Destinations", responses((status = 200, body = List)))]
pub(crate) async fn list(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    let views = app.dispatcher().views();
    let stats = app.store.stats().await?;
    let mut destinations = Vec::with_capacity(views.len());
    for view in views {
        destinations.push(shown(&app, view, &stats).await?);
    }
    Ok(HttpResponse::Ok().json(List { destinations }))
}

/// Shows a destination: its gate, its jobs, when it will be drained
#[utoipa::path(get, path = "/api1/destinations/{name}", tag = "Destinations", params(("name" = DestinationName, Path)),
    responses((status = 200, body = Shown), (status = 404)))]
pub(crate) async fn one(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    answer(&app, name(&request)).await
}

/// Holds a destination by hand
#[utoipa::path(post, path = "/api1/destinations/{name}/pause", tag = "Destinations", params(("name" = DestinationName, Path)),
    responses((status = 200, body = Shown), (status = 404)))]
pub(crate) async fn pause(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    hold(app, request, true).await
}

/// Ends a hold by hand
#[utoipa::path(post, path = "/api1/destinations/{name}/resume", tag = "Destinations", params(("name" = DestinationName, Path)),
    responses((status = 200, body = Shown), (status = 404)))]
pub(crate) async fn resume(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    hold(app, request, false).await
}

/// A pause takes effect at once, its end when it is durable; both are answered then. On a 503 it may not outlive a restart:
/// repeat it.
async fn hold(app: web::Data<App>, request: HttpRequest, paused: bool) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(&request))?;
    let name = name(&request);
    let known: DestinationName = name.parse().map_err(|_| unknown(name))?;
    if !app.hold(known, paused, by).await? {
        return Err(unknown(name));
    }
    answer(&app, name).await
}

fn name(request: &HttpRequest) -> &str {
    request.match_info().get("name").unwrap_or_default()
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::UnknownDestination, format!("{name:?} is not configured here and has no jobs"))
}

async fn answer(app: &App, name: &str) -> Result<HttpResponse, Problem> {
    let found = app.dispatcher().views().into_iter().find(|view| view.name.as_str() == name);
    let view = found.ok_or_else(|| unknown(name))?;
    let stats = app.store.stats().await?;
    Ok(HttpResponse::Ok().json(shown(app, view, &stats).await?))
}

async fn shown(app: &App, view: DestinationView, stats: &Stats) -> Result<Shown, Problem> {
    let now = app.clock.now().wall;
    let states = states_of(stats, &view.name);
    let unfinished = states["pending"] + states["leased"];
    let oldest_due = app.store.oldest_due(&view.name).await?;
    Ok(Shown {
        estimated_drain_ms: app.drain_rates.estimate_ms(&view.name, unfinished),
        stalled_ms: app.watchdog.stalled(&view.name).map(millis),
        title: view.title,
        url: Some(view.url).filter(|url| !url.is_empty()),
        state: view.state,
        reason: view.reason,
        since: view.since,
        removed: view.removed,
        limit: view.limit,
        rate: view.rate,
        epoch: view.epoch,
        in_flight: view.in_flight,
        cut_off: view.cut_off,
        states,
        oldest_due_age_ms: oldest_due.map(|due| millis(now.since(due))),
        last_error: view.last_error,
        name: view.name,
    })
}
