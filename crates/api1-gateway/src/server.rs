//! The HTTP server: all routes, how it starts, and how it drains.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, HttpServiceFactory, Server};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, guard, web};
use jobs_core::process::clock::Clock;
use jobs_core::process::shutdown::Shutdown;
use jobs_core::store::{JobStore, StoreError};

use crate::app::{App, Setup};
use crate::connection::{self, Connection};
use crate::jobstore::{claim::claim, extend::extend, settle::settle};
use crate::problem::{Code, Problem};
use crate::public::{
    audit, backup, cancel, destinations, events, forward, job_events, jobs, list, process, read, redrive, redrives,
    resolve, stats,
};
use crate::{background, health, metrics, openapi, pages};

/// Idle connections are closed after this. Longer than our worker's client and common load balancers keep one, so that
/// it is they who close it, between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection that is to be closed may still have been sent something: so long it is read, so that the last answer is not
/// lost with a reset.
const LINGER: Duration = Duration::from_secs(1);
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
        .service(get("/api1/jobs/{id}/events", job_events::job_events))
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
    let server = http_server(listener, &app)?;
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

/// What actix-web's own server would be, but for the deadlines of [`Connection`].
fn http_server(listener: TcpListener, app: &Arc<App>) -> io::Result<Server> {
    let data = web::Data::from(Arc::clone(app));
    let deadlines = app.limits.connection;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let grace = app.limits.grace.saturating_sub(TO_CLOSE).as_secs().max(1);
    let builder = builder.disable_signals().shutdown_timeout(grace);
    let builder = builder.listen("gateway", listener, move || {
        let handlers = actix_web::App::new().app_data(data.clone()).configure(routes);
        let handlers = handlers.wrap(from_fn(metrics::time_requests)).wrap_fn(connection::working);
        let stopping = stopping.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(deadlines.head)
            .client_disconnect_timeout(LINGER)
            // A worker that was killed while its claim was parked must win no jobs.
            .h1_allow_half_closed(false)
            .on_connect_ext(Connection::introduce)
            .h1(map_config(handlers.into_factory(), |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let connected = stream.peer_addr().and_then(|peer| Ok((Connection::new(stream, deadlines)?, Some(peer))));
            std::future::ready(connected.map_err(DispatchError::Io))
        })
        .and_then(http)
    })?;
    Ok(builder.run())
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
