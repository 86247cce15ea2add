//! `POST /jobstore/v1/claim`: leases as soon as there is work, or none after the worker's patience. Health checks of held
//! destinations go along, and are an answer of their own where there is no work.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::destination::HealthCheck;
use jobs_core::job::{DestinationName, WorkerId};
use jobs_core::lease::{LEASE_TERM, LeaseKey};
use jobs_core::protocol::{ClaimRequest, MAX_CLAIM, MAX_WAIT_MS, WireProbe};
use jobs_core::time::Now;

use super::answer::{Answer, Rest};
use super::{Granted, MESSAGE};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};

/// Most attempts one worker may have in flight: far beyond what one process can do, and no overflow when added up.
const MAX_CONCURRENCY: u32 = 100_000;
/// How long a destination may take to say that it is healthy: one that takes longer is not ready for work either.
const HEALTH_TIMEOUT_MS: u64 = 2_000;
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
    let found = match look(&app, &asked, app.clock.now()).await? {
        found if found.is_some() || asked.wait_ms == 0 => found,
        _nothing => park(&app, &asked).await?,
    };
    Ok(response(&app, asked.worker, found.unwrap_or_default()))
}

/// What a claim is answered with.
#[derive(Default)]
struct Found {
    granted: Option<Granted>,
    checks: Vec<(DestinationName, HealthCheck)>,
}

/// What there is for a worker at `now`, if anything.
async fn look(app: &Arc<App>, asked: &ClaimRequest, now: Now) -> Result<Option<Found>, Problem> {
    let granted = app.claim(asked.worker, asked.concurrency, asked.max, now).await?;
    let checks = app.dispatcher().health_checks(now);
    Ok((granted.is_some() || !checks.is_empty()).then_some(Found { granted, checks }))
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
async fn park(app: &Arc<App>, asked: &ClaimRequest) -> Result<Option<Found>, Problem> {
    let _parked = Parked::new(app);
    let mut patience = pin!(tokio::time::sleep(Duration::from_millis(asked.wait_ms.min(MAX_WAIT_MS))));
    let mut draining = pin!(app.shutdown.wait());
    let (mut in_vain, mut looked) = (0_u32, app.clock.now().mono);
    loop {
        // Made before looking: it hears of work that arrives from now on, also before it is polled.
        let woken = app.work.notified();
        let now = app.clock.now();
        if let Some(found) = look(app, asked, now).await? {
            return Ok(Some(found));
        }
        // From the moment of that look: what falls due between it and this one must not be slept over.
        let look_again = app.dispatcher().wake_in(now);
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

fn response(app: &Arc<App>, worker: WorkerId, found: Found) -> HttpResponse {
    let now = app.clock.now().mono;
    let granted = found.granted.unwrap_or_else(|| Granted::new(Arc::clone(app), worker, Vec::new(), now));
    let new = granted.left().iter().map(|lease| LeaseKey { job_id: lease.job.id, epoch: lease.epoch }).collect();
    let release = app.dispatcher().releases(worker, &new);
    let probe = |(destination, check): (DestinationName, HealthCheck)| WireProbe {
        destination,
        method: check.method,
        url: check.url,
        expect: check.expect,
        timeout_ms: HEALTH_TIMEOUT_MS,
    };
    let rest = Rest { probes: found.checks.into_iter().map(probe).collect(), release };
    let left = LEASE_TERM.saturating_sub(now.since(granted.since));
    Answer::new(granted, app.catalog(), left).into_response(&rest)
}
