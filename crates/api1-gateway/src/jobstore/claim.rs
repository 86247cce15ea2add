//! `POST /jobstore/v1/claim`: leases as soon as there is work, or none after the worker's patience.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::lease::LEASE_TERM;
use jobs_core::protocol::{ClaimRequest, ClaimResponse, MAX_CLAIM, MAX_WAIT_MS};
use jobs_core::store::Lease;

use super::{Granted, MESSAGE, lease};
use crate::app::{App, Catalog};
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};

/// Most payload bytes in one answer; the first job always fits. What goes beyond is released and claimed again.
const MAX_PAYLOADS: usize = 8 * 1024 * 1024;
/// Most attempts one worker may have in flight: far beyond what one process can do, and no overflow when added up.
const MAX_CONCURRENCY: u32 = 100_000;
/// A parked claim that was woken in vain this often in a row pauses before it looks again: under a stream of new jobs
/// that are not for it (their destination is held) it would otherwise look once for each of them.
const RUSH: u32 = 3;
/// Wake-ups further apart than this are no stream.
const IN_A_ROW: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn claim(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    app.keys.worker(bearer(&request))?;
    let asked: ClaimRequest = body::message(&body::read(&request, payload, MESSAGE).await?)?;
    check(&asked)?;
    app.check_not_draining()?;
    let granted = match app.claim(asked.worker, asked.concurrency, asked.max).await? {
        Some(granted) => Some(granted),
        None if asked.wait_ms == 0 => None,
        None => park(&app, &asked).await?,
    };
    let answer = granted.map_or_else(ClaimResponse::default, |granted| response(&app, granted));
    Ok(HttpResponse::Ok().json(answer))
}

fn check(asked: &ClaimRequest) -> Result<(), Problem> {
    let within = |name, value: u32, most: u32| {
        let problem = || Problem::with(Code::BadMessage, name, format_args!("{value} is not from 1 to {most}"));
        if (1..=most).contains(&value) { Ok(()) } else { Err(problem()) }
    };
    within("max", asked.max, MAX_CLAIM)?;
    within("concurrency", asked.concurrency, MAX_CONCURRENCY)
}

/// Waits for work. Dropped when the worker hangs up, and then wins none.
async fn park(app: &Arc<App>, asked: &ClaimRequest) -> Result<Option<Granted>, Problem> {
    let _parked = Parked::new(app);
    let mut patience = pin!(tokio::time::sleep(Duration::from_millis(asked.wait_ms.min(MAX_WAIT_MS))));
    let mut draining = pin!(app.shutdown.wait());
    let (mut in_vain, mut looked) = (0_u32, app.clock.now().mono);
    loop {
        // Made before looking: it hears of work that arrives from now on, also before it is polled.
        let woken = app.work.notified();
        if let Some(granted) = app.claim(asked.worker, asked.concurrency, asked.max).await? {
            return Ok(Some(granted));
        }
        let look_again = app.dispatcher().wake_in(app.clock.now());
        let due = async {
            match look_again {
                Some(later) => tokio::time::sleep(later).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = woken => {}
            () = due => {}
            () = &mut patience => return Ok(None),
            () = &mut draining => return Ok(None),
        }
        let now = app.clock.now().mono;
        in_vain = if now.since(looked) < IN_A_ROW { in_vain + 1 } else { 0 };
        looked = now;
        if in_vain > RUSH {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Counts a parked claim for as long as it lives.
struct Parked<'a>(&'a App);

impl<'a> Parked<'a> {
    fn new(app: &'a App) -> Self {
        app.parked.fetch_add(1, Ordering::Relaxed);
        Parked(app)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The leases as they travel. One of a destination that was removed in this very moment is given back.
fn response(app: &App, granted: Granted) -> ClaimResponse {
    let left = LEASE_TERM.saturating_sub(app.clock.now().mono.since(granted.since));
    let catalog: Arc<Catalog> = app.catalog();
    let mut payloads = 0;
    let leases = granted.take_while(|lease: &Lease| {
        let first = payloads == 0;
        payloads += lease.request.body.len().max(1);
        catalog.find(lease.job.destination.as_str()).is_ok() && (first || payloads <= MAX_PAYLOADS)
    });
    let wire = |lease: Lease| {
        let listed = catalog.find(lease.job.destination.as_str()).ok()?;
        Some(lease::wire(lease, &listed.settings, left))
    };
    ClaimResponse { leases: leases.into_iter().filter_map(wire).collect(), ..ClaimResponse::default() }
}
