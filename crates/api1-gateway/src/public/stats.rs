//! `GET /api1/stats`: how many jobs there are, from kept counters.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::{DestinationName, StateName};
use jobs_core::lifecycle::DuplicateCause;
use jobs_core::store::Stats;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::bearer;
use crate::problem::Problem;

/// All states by name, those without jobs as 0.
pub(super) type States = BTreeMap<&'static str, u64>;

#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
struct StatsView<'a> {
    #[schema(value_type = BTreeMap<String, u64>)]
    states: States,
    accepted: u64,
    purged: u64,
    attempts: u64,
    /// Dead jobs that no operator has settled otherwise.
    unresolved: u64,
    /// Requests that may have reached a destination twice, by cause.
    #[schema(value_type = BTreeMap<String, u64>)]
    duplicates: BTreeMap<&'static str, u64>,
    #[schema(value_type = BTreeMap<String, DestinationStats>)]
    destinations: BTreeMap<&'a DestinationName, DestinationStats>,
}

#[derive(Serialize, ToSchema)]
struct DestinationStats {
    #[schema(value_type = BTreeMap<String, u64>)]
    states: States,
    /// Dead jobs that no operator has settled otherwise.
    unresolved: u64,
}

/// Counts jobs, from kept counters
#[utoipa::path(get, path = "/api1/stats", tag = "Destinations", responses((status = 200, body = StatsView)))]
pub(crate) async fn stats(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    let stats = app.store.stats().await?;
    let duplicate = |cause: DuplicateCause| (cause.as_str(), stats.duplicates.get(&cause).copied().unwrap_or(0));
    Ok(HttpResponse::Ok().json(StatsView {
        states: StateName::ALL.map(|state| (state.as_str(), stats.in_state(state))).into(),
        accepted: stats.accepted,
        purged: stats.purged,
        attempts: stats.attempts,
        unresolved: stats.destinations.keys().map(|name| unresolved(&stats, name)).sum(),
        duplicates: DuplicateCause::ALL.map(duplicate).into(),
        destinations: stats
            .destinations
            .keys()
            .map(|name| {
                (name, DestinationStats { states: states_of(&stats, name), unresolved: unresolved(&stats, name) })
            })
            .collect(),
    }))
}

/// One destination's dead jobs that no operator has settled otherwise.
pub(crate) fn unresolved(stats: &Stats, name: &DestinationName) -> u64 {
    let dead = stats.destinations.get(name).and_then(|states| states.get(&StateName::Dead)).copied().unwrap_or(0);
    dead.saturating_sub(stats.resolved.get(name).copied().unwrap_or(0))
}

/// One destination's jobs by state.
pub(super) fn states_of(stats: &Stats, name: &DestinationName) -> States {
    let count = |state| stats.destinations.get(name).and_then(|states| states.get(&state)).copied().unwrap_or(0);
    StateName::ALL.map(|state| (state.as_str(), count(state))).into()
}
