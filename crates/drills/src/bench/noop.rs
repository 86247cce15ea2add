//! `noop`: the gateway's HTTP server with nothing behind it. It reads the body, makes an id, and answers as an accept does.

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::http::header::{ContentType, LOCATION};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use jobs_core::process::clock;

use crate::trio::ports::ANY_PORT;

/// These two as in the gateway.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Serves until it is killed, on a free port that it prints.
///
/// # Errors
/// When it cannot listen.
pub fn serve() -> std::io::Result<ExitCode> {
    let app =
        || App::new().route("/readyz", web::get().to(HttpResponse::Ok)).route("/api1/process", web::post().to(accept));
    let listener = TcpListener::bind(ANY_PORT)?;
    eprintln!("noop listening listen={}", listener.local_addr()?);
    let server = HttpServer::new(app)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_DEADLINE)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .listen(listener)?;
    tokio::runtime::Runtime::new()?.block_on(server.run())?;
    Ok(ExitCode::SUCCESS)
}

async fn accept(_body: Bytes) -> HttpResponse {
    let id = clock::new_job_uuid();
    HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api1/jobs/{id}")))
        .content_type(ContentType::json())
        .body(format!(
            r#"{{"id":"{id}","state":"pending","destination":"api2","message":"Request received. Will process when API 2 recovers."}}"#
        ))
}
