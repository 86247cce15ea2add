//! Every route on one screen. The service port has all of them; the control port all but the API itself.

mod ledger;
mod probes;
mod simulate;
mod weather;

use std::time::Duration;

use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{HttpRequest, Resource, Route};

use crate::problem::Problem;

/// The longest body `simulate` takes: sixteen times what the gateway accepts by default.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The longest body of a weather: a script of the most steps allowed.
const WEATHER_LIMIT: usize = 256 * 1024;
/// How long a body may take to arrive: a client that is slower holds memory for nothing.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// Which of the two listeners a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The API's own port, which the weather governs.
    Service,
    /// The port from which drills are steered. It always answers.
    Control,
}

/// Registers the routes of one side. Needs `web::Data<State>` and `web::Data<Side>`.
pub fn configure(side: Side) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        if side == Side::Service {
            // Any method and any path below, because the gateway's forward route keeps its client's.
            app.service(web::resource(["/api2/simulate", "/api2/simulate/{rest:.*}"]).to(simulate::simulate));
        }
        app.service(at("/api2/toggle", web::post().to(weather::toggle)))
            .service(at("/api2/health", web::get().to(weather::health)))
            .service(at("/api2/drill", web::get().to(weather::get_drill)).route(web::put().to(weather::put_drill)))
            .service(at("/api2/ledger", web::get().to(ledger::summary)).route(web::delete().to(ledger::clear)))
            .service(at("/api2/ledger/{key}", web::get().to(ledger::key)))
            .service(at("/api2/ledger/{key}/payload", web::get().to(ledger::payload)))
            .service(at("/livez", web::get().to(probes::livez)))
            .service(at("/readyz", web::get().to(probes::readyz)))
            .service(at("/metrics", web::get().to(probes::metrics)))
            .default_service(web::to(not_found));
    }
}

fn at(path: &str, route: Route) -> Resource {
    web::resource(path.to_owned()).route(route).default_service(web::to(method_not_allowed))
}

async fn not_found(request: HttpRequest) -> Result<&'static str, Problem> {
    Err(Problem::NotFound(request.path().to_owned()))
}

async fn method_not_allowed(request: HttpRequest) -> Result<&'static str, Problem> {
    let (method, path) = (request.method().to_string(), request.path().to_owned());
    Err(Problem::MethodNotAllowed { method, path })
}

/// Reads a whole body within its limits of size and time.
async fn read_body(payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_DEADLINE, payload.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(error))) => Err(Problem::BrokenBody(error)),
        Ok(Err(_)) => Err(Problem::TooLarge { limit }),
        Err(_) => Err(Problem::SlowBody { limit_ms: BODY_DEADLINE.as_millis() }),
    }
}
