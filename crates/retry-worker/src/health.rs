//! The worker's own listener: is the process alive, can it work, what has it done. It serves machines only, and takes no work.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;

use crate::{Worker, metrics};

/// Ready is who has reached a gateway this recently: five heartbeats, as long as a lease lasts.
const RECENTLY: Duration = Duration::from_secs(5);

/// A probe a second needs no more.
const THREADS: usize = 1;

/// Starts serving `/livez`, `/readyz` and `/metrics`; poll the server to keep it going.
pub(crate) fn serve(listener: TcpListener, worker: Arc<Worker>) -> io::Result<Server> {
    let worker = web::Data::from(worker);
    let app = move || {
        App::new()
            .app_data(worker.clone())
            .route("/livez", web::get().to(livez))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
            .default_service(web::to(nothing_here))
    };
    // Signals are the process's business.
    Ok(HttpServer::new(app).tcp_nodelay(true).workers(THREADS).disable_signals().listen(listener)?.run())
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().body("alive")
}

async fn readyz(worker: web::Data<Worker>) -> HttpResponse {
    match worker.why_not_ready() {
        None => HttpResponse::Ok().body("ready"),
        Some(why) => problem(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why),
    }
}

async fn metrics(worker: web::Data<Worker>) -> HttpResponse {
    let text = worker.metrics.text(worker.held.in_flight(), worker.held.len());
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text)
}

async fn nothing_here() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "not_found", "a worker answers /livez, /readyz and /metrics")
}

fn problem(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    let title = status.canonical_reason().unwrap_or_default();
    let body =
        json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code});
    HttpResponse::build(status).content_type("application/problem+json").body(body.to_string())
}

impl Worker {
    fn why_not_ready(&self) -> Option<&'static str> {
        let recently = |reached| self.clock.now().mono.since(reached) <= RECENTLY;
        if self.shutdown.is_triggered() {
            Some("draining")
        } else if !self.gateway.reached().is_some_and(recently) {
            Some("no gateway has answered for five seconds")
        } else {
            None
        }
    }
}
