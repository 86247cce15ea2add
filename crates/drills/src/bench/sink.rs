//! A destination that does nothing, fast, and counts: for deliveries through Holdfast and direct ones alike.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};
use jobs_core::process::clock;
use serde::{Deserialize, Serialize};

use crate::trio::ports::ANY_PORT;

/// Who reads the counts keeps one connection, and is silent on it for as long as a part of the bench takes.
const KEEP_ALIVE: Duration = Duration::from_secs(600);

/// What arrived since the last clearing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) requests: u64,
    /// Microseconds on the sink's own clock.
    pub(super) first_us: u64,
    pub(super) last_us: u64,
}

impl Seen {
    /// Requests per second from the first to the last.
    pub(super) fn per_second(self) -> f64 {
        self.requests as f64 * 1_000_000.0 / self.last_us.saturating_sub(self.first_us).max(1) as f64
    }
}

struct Counter {
    began: Instant,
    requests: AtomicU64,
    first_us: AtomicU64,
    last_us: AtomicU64,
}

impl Counter {
    fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.first_us.fetch_min(now, Ordering::Relaxed);
        self.last_us.fetch_max(now, Ordering::Relaxed);
    }

    fn seen(&self) -> Seen {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Seen { requests: read(&self.requests), first_us: read(&self.first_us), last_us: read(&self.last_us) }
    }

    fn clear(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.first_us.store(u64::MAX, Ordering::Relaxed);
        self.last_us.store(0, Ordering::Relaxed);
    }
}

/// Serves until it is killed, on a free port that it prints.
///
/// # Errors
/// When it cannot listen.
pub fn serve() -> std::io::Result<ExitCode> {
    let counter = Counter {
        began: clock::instant(),
        requests: AtomicU64::new(0),
        first_us: AtomicU64::new(u64::MAX),
        last_us: AtomicU64::new(0),
    };
    let counter = Data::new(counter);
    let app = move || {
        App::new()
            .app_data(Data::clone(&counter))
            .route("/readyz", web::get().to(HttpResponse::Ok))
            .route("/seen", web::get().to(async |counter: Data<Counter>| HttpResponse::Ok().json(counter.seen())))
            .route(
                "/seen",
                web::delete().to(async |counter: Data<Counter>| {
                    counter.clear();
                    HttpResponse::Ok().finish()
                }),
            )
            .default_service(web::to(async |counter: Data<Counter>, _body: Bytes| {
                counter.note();
                HttpResponse::Ok().body("API 2 processed payload")
            }))
    };
    let listener = TcpListener::bind(ANY_PORT)?;
    eprintln!("sink listening listen={}", listener.local_addr()?);
    // A connection's first request may come as late as any other.
    let server = HttpServer::new(app).keep_alive(KEEP_ALIVE).client_request_timeout(Duration::ZERO).tcp_nodelay(true);
    let server = server.listen(listener)?;
    tokio::runtime::Runtime::new()?.block_on(server.run())?;
    Ok(ExitCode::SUCCESS)
}
