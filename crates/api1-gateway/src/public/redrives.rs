//! `POST /api1/redrives`, `GET /api1/redrives`, `GET /api1/redrives/{id}`, and its `/stop` and `/resume`: many jobs redriven as one.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::StateName;
use jobs_core::redrive::{Change, MassRedrive, Mode, Phase, Plan, Stop, Unfit};
use jobs_core::store::Filter;
use jobs_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{MAX_LIMIT, MAX_TEXT};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};
use crate::query;

/// Most jobs of a canary: what more would find out is found out by the stop rule.
const MAX_CANARY: u32 = 10_000;
/// Most jobs a second: beyond it, leave the rate out.
const MAX_RATE: f64 = 100_000.0;
/// Most ids in one filter.
const MAX_IDS: usize = 1_000;
/// Unless the caller says otherwise: half of the outcomes.
const USUAL_RATIO: f64 = 0.5;
const DEFAULT_LIMIT: u32 = 100;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MassRedriveRequest, example = json!({"mode": "run", "filter": {"destination": "api2", "dead_reason": "exhausted"}, "canary": 10, "per_second": 50}))]
pub(crate) struct Asked {
    /// Which jobs; `state` is dead or cancelled, dead unless given.
    #[serde(default)]
    pub(crate) filter: Filter,
    /// A preview only counts.
    pub(crate) mode: Mode,
    /// So many go first; 0: none.
    #[serde(default)]
    #[schema(maximum = 10000)]
    pub(crate) canary: u32,
    /// `null`: as fast as the store takes them.
    #[serde(default)]
    #[schema(exclusive_minimum = 0.0, maximum = 100000.0)]
    pub(crate) per_second: Option<f64>,
    /// It stops where a larger share of the outcomes is failures.
    #[serde(default = "usual_ratio")]
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub(crate) stop_on_failure_ratio: f64,
    /// The destination is to receive other `Idempotency-Key`s.
    #[serde(default)]
    pub(crate) new_key: bool,
}

fn usual_ratio() -> f64 {
    USUAL_RATIO
}

/// A mass redrive as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MassRedrive)]
pub(crate) struct RedriveView<'a> {
    pub(crate) id: u32,
    pub(crate) mode: Mode,
    /// `counting`, `previewed`, `canary`, `running`, `stopped` or `done`.
    pub(crate) state: &'static str,
    /// Why it was stopped.
    pub(crate) reason: Option<&'a str>,
    pub(crate) by: &'a str,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) filter: &'a Filter,
    pub(crate) canary: u32,
    pub(crate) per_second: Option<f64>,
    pub(crate) stop_on_failure_ratio: f64,
    pub(crate) new_key: bool,
    /// Jobs the filter has found so far; all of them once it counts no more.
    pub(crate) matched: u64,
    pub(crate) redriven: u64,
    /// No longer as the filter wants them when their turn came.
    pub(crate) skipped: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = MassRedriveList)]
struct List<'a> {
    redrives: Vec<RedriveView<'a>>,
}

impl<'a> RedriveView<'a> {
    pub(crate) fn of(redrive: &'a MassRedrive) -> Self {
        let state = match (&redrive.stop, redrive.phase) {
            (Some(_), _) => "stopped",
            (None, Phase::Counting) => "counting",
            (None, Phase::Previewed) => "previewed",
            (None, Phase::Canary) => "canary",
            (None, Phase::Running) => "running",
            (None, Phase::Done) => "done",
        };
        RedriveView {
            id: redrive.number,
            mode: redrive.plan.mode,
            state,
            reason: redrive.stop.as_ref().map(|stop| stop.reason.as_str()),
            by: &redrive.by,
            created_at: redrive.asked_at,
            updated_at: redrive.updated_at,
            filter: &redrive.plan.filter,
            canary: redrive.plan.canary,
            per_second: redrive.plan.per_second,
            stop_on_failure_ratio: redrive.plan.stop_on_failure_ratio,
            new_key: redrive.plan.new_key,
            matched: redrive.matched,
            redriven: redrive.redriven,
            skipped: redrive.skipped,
            succeeded: redrive.tally.succeeded,
            failed: redrive.tally.failed,
            cancelled: redrive.tally.cancelled,
        }
    }
}

/// 202: it is kept, and its work goes on in the background.
/// Previews or begins a mass redrive
///
/// It counts what matches, tries a canary, waits for its outcome, and does the rest; in the background and over restarts.
#[utoipa::path(post, path = "/api1/redrives", tag = "Steering", request_body = Asked,
    responses((status = 202, body = RedriveView, description = "It is kept, and its work goes on")))]
pub(crate) async fn start(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(&request))?;
    let asked: Asked = body::message(&body::read(&request, payload, app.limits.payload).await?)?;
    let redrive = app.start_redrive(plan(asked)?, by).await?;
    let location = format!("/api1/redrives/{}", redrive.number);
    Ok(HttpResponse::Accepted().insert_header((LOCATION, location)).json(RedriveView::of(&redrive)))
}

/// Lists mass redrives, the latest first
#[utoipa::path(get, path = "/api1/redrives", tag = "Steering",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000)),
    responses((status = 200, body = List), (status = 400)))]
pub(crate) async fn list(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.operator(bearer(&request))?;
    let mut limit = DEFAULT_LIMIT;
    for (name, value) in query::pairs(&request)? {
        match name.as_str() {
            "limit" => limit = query::limit(&value, MAX_LIMIT)?,
            _ => return Err(query::unknown(name)),
        }
    }
    let redrives = app.store.mass_redrives(limit).await?;
    Ok(HttpResponse::Ok().json(List { redrives: redrives.iter().map(RedriveView::of).collect() }))
}

/// Shows how far a mass redrive has come
#[utoipa::path(get, path = "/api1/redrives/{id}", tag = "Steering", params(("id" = u32, Path)),
    responses((status = 200, body = RedriveView), (status = 404)))]
pub(crate) async fn one(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.operator(bearer(&request))?;
    let number = number(&request)?;
    let redrive = app.store.mass_redrive(number).await?.ok_or_else(|| unknown(&number.to_string()))?;
    Ok(HttpResponse::Ok().json(RedriveView::of(&redrive)))
}

/// Jobs that were redriven stay so.
/// Stops a mass redrive
///
/// What it has redriven stays so.
#[utoipa::path(post, path = "/api1/redrives/{id}/stop", tag = "Steering", params(("id" = u32, Path)),
    responses((status = 200, body = RedriveView), (status = 404), (status = 409)))]
pub(crate) async fn stop(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let stop = Stop { reason: "by hand".to_owned(), by_rule: false };
    change(&app, &request, Change::Stop(stop)).await
}

/// Goes on where it was stopped. What has failed so far is forgiven.
/// Goes on with a mass redrive that was stopped
///
/// What has failed so far is forgiven.
#[utoipa::path(post, path = "/api1/redrives/{id}/resume", tag = "Steering", params(("id" = u32, Path)),
    responses((status = 200, body = RedriveView), (status = 404), (status = 409)))]
pub(crate) async fn resume(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    change(&app, &request, Change::Resume).await
}

async fn change(app: &web::Data<App>, request: &HttpRequest, change: Change) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(request))?;
    let number = number(request)?;
    let answer = app.change_redrive(number, change, by).await?;
    let (answer, redrive) = answer.ok_or_else(|| unknown(&number.to_string()))?;
    let view = RedriveView::of(&redrive);
    answer.map_err(|Unfit| Problem::new(Code::WrongRedriveState, format!("it is {}", view.state)))?;
    Ok(HttpResponse::Ok().json(view))
}

fn number(request: &HttpRequest) -> Result<u32, Problem> {
    let text = request.match_info().get("id").unwrap_or_default();
    text.parse().map_err(|_| unknown(text))
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::UnknownRedrive, format!("mass redrive {id:?}"))
}

/// What was asked for, within bounds. A job that was resolved by hand is only redriven alone: whoever settled it otherwise would
/// not expect it to be done again with others.
pub(crate) fn plan(asked: Asked) -> Result<Plan, Problem> {
    let bad = |name: &'static str, detail: String| Err(Problem::with(Code::BadMessage, name, detail));
    let Asked { mut filter, mode, canary, per_second, stop_on_failure_ratio, new_key } = asked;
    filter.state = filter.state.or(Some(StateName::Dead));
    if !filter.is_redrivable() {
        return bad("filter.state", "only dead and cancelled jobs are redriven".to_owned());
    }
    if filter.resolved == Some(true) {
        return bad("filter.resolved", "jobs resolved by hand are redriven one at a time".to_owned());
    }
    filter.resolved = Some(false);
    for (name, text) in [("filter.q", &filter.text), ("filter.error", &filter.error)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return bad(name, format!("at most {MAX_TEXT} bytes"));
        }
    }
    if filter.ids.len() > MAX_IDS {
        return bad("filter.ids", format!("at most {MAX_IDS} ids"));
    }
    if canary > MAX_CANARY {
        return bad("canary", format!("at most {MAX_CANARY}"));
    }
    if per_second.is_some_and(|rate| !(rate > 0.0 && rate <= MAX_RATE)) {
        return bad("per_second", format!("above 0, and at most {MAX_RATE}"));
    }
    if !(0.0..=1.0).contains(&stop_on_failure_ratio) {
        return bad("stop_on_failure_ratio", "from 0 to 1".to_owned());
    }
    Ok(Plan { filter, mode, canary, per_second, stop_on_failure_ratio, new_key })
}
