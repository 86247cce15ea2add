//! `/livez`: the process runs. `/readyz`: it can serve. `/metrics`: OpenMetrics text, from kept counters.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use jobs_core::dispatch::DestinationView;
use jobs_core::job::StateName;
use jobs_core::lifecycle::DuplicateCause;
use jobs_core::store::Stats;

use crate::app::App;
use crate::problem::{Code, Problem, TABLE};

pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(r#"{"status":"alive"}"#)
}

/// The store was opened before anything is served, and a broken one sets the shutdown off.
pub(crate) async fn readyz(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    app.check_not_draining()?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(r#"{"status":"ready"}"#))
}

/// `GET /problems`: the codes of all error answers.
pub(crate) async fn problems() -> HttpResponse {
    HttpResponse::Ok().json(TABLE.as_slice())
}

/// `GET /problems/{code}`: where the `type` of an error answer leads.
pub(crate) async fn problem(request: actix_web::HttpRequest) -> Result<HttpResponse, Problem> {
    let name = request.match_info().get("code").unwrap_or_default();
    let found = TABLE.iter().find(|row| row.name == name);
    let row = found.ok_or_else(|| Problem::new(Code::NoSuchRoute, "no such code; all are at /problems"))?;
    Ok(HttpResponse::Ok().json(row))
}

pub(crate) async fn metrics(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let stats = app.store.stats().await?;
    let views = app.dispatcher().views(app.clock.now());
    let mut text = String::new();
    write_metrics(&mut text, &stats, &views, &app).expect("writing to a String cannot fail");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, kind)).body(text))
}

/// Label values need no escaping: names of destinations, states and causes have no character that would.
fn write_metrics(out: &mut String, stats: &Stats, views: &[DestinationView], app: &App) -> fmt::Result {
    family(out, "holdfast_jobs", "gauge", "Stored jobs by destination and state.")?;
    for (destination, states) in &stats.destinations {
        for state in StateName::ALL {
            let count = states.get(&state).copied().unwrap_or(0);
            writeln!(out, "holdfast_jobs{{destination=\"{destination}\",state=\"{}\"}} {count}", state.as_str())?;
        }
    }
    for (name, help, count) in [
        ("holdfast_jobs_accepted", "Jobs ever accepted.", stats.accepted),
        ("holdfast_jobs_purged", "Finished jobs deleted after their retention.", stats.purged),
        ("holdfast_attempts", "Settled attempts.", stats.attempts),
    ] {
        family(out, name, "counter", help)?;
        writeln!(out, "{name}_total {count}")?;
    }
    let help = "Requests that may have reached a destination twice.";
    family(out, "holdfast_possible_duplicates", "counter", help)?;
    for cause in DuplicateCause::ALL {
        let count = stats.duplicates.get(&cause).copied().unwrap_or(0);
        writeln!(out, "holdfast_possible_duplicates_total{{cause=\"{}\"}} {count}", cause.as_str())?;
    }
    family(out, "holdfast_in_flight", "gauge", "Leases by destination.")?;
    for view in views {
        writeln!(out, "holdfast_in_flight{{destination=\"{}\"}} {}", view.name, view.in_flight)?;
    }
    let low_space = u64::from(app.low_space.load(Ordering::Relaxed));
    for (name, help, value) in [
        ("holdfast_parked_claims", "Claims waiting for work.", app.parked.load(Ordering::Relaxed)),
        ("holdfast_waiting_requests", "Requests waiting for a job to end.", app.waiters.count() as u64),
        ("holdfast_low_disk_space", "1 while jobs are refused because the disk is nearly full.", low_space),
    ] {
        family(out, name, "gauge", help)?;
        writeln!(out, "{name} {value}")?;
    }
    writeln!(out, "# EOF")
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {help}")
}
