//! The HTTP server: all routes, how it starts, and how it drains.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::HttpServiceFactory;
use actix_web::middleware::from_fn;
use actix_web::{FromRequest, Handler, HttpResponse, HttpServer, Resource, Responder, guard, web};
use jobs_core::process::clock::Clock;
use jobs_core::process::shutdown::Shutdown;
use jobs_core::store::{JobStore, StoreError};

use crate::app::{App, Setup};
use crate::jobstore::{claim::claim, extend::extend, settle::settle};
use crate::problem::{Code, Problem};
use crate::public::{
    audit, backup, cancel, destinations, events, forward, jobs, list, process, read, redrive, redrives, resolve, stats,
};
use crate::{background, health, metrics, openapi, pages};

/// Idle connections are closed after this. Longer than our worker's client and common load balancers keep one, so that
/// it is they who close it, between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A request's head must have arrived within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Kept of the grace for closing the store.
const TO_CLOSE: Duration = Duration::from_secs(2);

/// Why a gateway could not serve, or not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot take stock of the store: {0}")]
    Stock(#[source] StoreError),
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
    #[error("cannot close the store: {0}")]
    Close(#[source] StoreError),
}

#[rustfmt::skip]
fn routes(config: &mut web::ServiceConfig) {
    config
        .service(post("/api1/process", process::process_default))
        .service(post("/api1/process/{destination}", process::process_named))
        .service(get_and_post("/api1/jobs", list::list, jobs::jobs))
        .service(get("/api1/jobs/{id}", read::job))
        .service(get("/api1/jobs/{id}/payload", read::payload))
        .service(get("/api1/jobs/{id}/response", read::response))
        .service(post("/api1/jobs/{id}/cancel", cancel::cancel))
        .service(post("/api1/jobs/{id}/redrive", redrive::redrive))
        .service(post("/api1/jobs/{id}/resolve", resolve::resolve))
        .service(get_and_post("/api1/redrives", redrives::list, redrives::start))
        .service(get("/api1/redrives/{id}", redrives::one))
        .service(post("/api1/redrives/{id}/stop", redrives::stop))
        .service(post("/api1/redrives/{id}/resume", redrives::resume))
        .service(get("/api1/audit", audit::audit))
        .service(get("/api1/destinations", destinations::list))
        .service(get("/api1/destinations/{name}", destinations::one))
        .service(post("/api1/destinations/{name}/pause", destinations::pause))
        .service(post("/api1/destinations/{name}/resume", destinations::resume))
        .service(get("/api1/stats", stats::stats))
        .service(get("/api1/events", events::events))
        .service(post("/api1/backup", backup::backup))
        .service(web::resource(["/forward/{destination}", "/forward/{destination}/{path:.*}"]).to(forward::forward))
        .service(post("/jobstore/v1/claim", claim))
        .service(post("/jobstore/v1/settle", settle))
        .service(post("/jobstore/v1/extend", extend))
        .service(get("/openapi.json", openapi::openapi))
        .service(get("/docs", openapi::page::docs))
        .service(get("/docs/style.css", openapi::page::style))
        .service(get("/livez", health::livez))
        .service(get("/readyz", health::readyz))
        .service(get("/metrics", metrics::metrics))
        .service(get("/problems", health::problems))
        .service(get("/problems/{code}", health::problem))
        .configure(pages::routes)
        .default_service(web::to(nothing_here));
}

/// Serves the jobs of `store` on `listener` until `shutdown`, then drains and closes the store.
///
/// # Errors
/// See [`ServeError`]. A store that breaks is no error here: it sets `shutdown` to failed.
pub async fn run(
    listener: TcpListener,
    setup: Setup,
    store: Arc<dyn JobStore>,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    serve(listener, App::new(setup, store, clock, shutdown).await.map_err(ServeError::Stock)?).await
}

/// [`run`], for a caller that keeps a hand on the `app` to reload its destinations.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(listener: TcpListener, app: Arc<App>) -> Result<(), ServeError> {
    background::start(&app);
    let data = web::Data::from(Arc::clone(&app));
    let service = move || {
        let timed = actix_web::App::new().wrap(from_fn(metrics::time_requests));
        timed.app_data(data.clone()).configure(routes)
    };
    let server = HttpServer::new(service)
        .disable_signals()
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_DEADLINE)
        // A worker that was killed while its claim was parked must win no jobs.
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .shutdown_timeout(app.limits.grace.saturating_sub(TO_CLOSE).as_secs().max(1))
        .listen(listener)?
        .run();
    let handle = server.handle();
    let mut serving = tokio::spawn(server);
    let ended = tokio::select! {
        () = app.shutdown.wait() => {
            // Stops accepting, ends idle connections, waits for requests in progress.
            handle.stop(true).await;
            serving.await
        }
        ended = &mut serving => {
            app.shutdown.fail();
            ended
        }
    };
    let served = ended.map_err(io::Error::other).flatten();
    app.store.close().await.map_err(ServeError::Close)?;
    Ok(served?)
}

pub(crate) fn get<F, A>(path: &str, handler: F) -> impl HttpServiceFactory + 'static
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    only("GET, HEAD", web::resource(path).route(get_or_head().to(handler)))
}

pub(crate) fn post<F, A>(path: &str, handler: F) -> impl HttpServiceFactory + 'static
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    only("POST", web::resource(path).route(web::post().to(handler)))
}

pub(crate) fn get_and_post<F, A, G, B>(path: &str, get: F, post: G) -> impl HttpServiceFactory + 'static
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
    G: Handler<B>,
    B: FromRequest + 'static,
    G::Output: Responder + 'static,
{
    only("GET, HEAD, POST", web::resource(path).route(get_or_head().to(get)).route(web::post().to(post)))
}

fn get_or_head() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Any other method is a problem that names those there are.
fn only(allow: &'static str, resource: Resource) -> Resource {
    resource.default_service(web::to(move || async move { Err::<HttpResponse, _>(Problem::method_not_allowed(allow)) }))
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(Problem::new(Code::NoSuchRoute, "see the README for the addresses there are"))
}
