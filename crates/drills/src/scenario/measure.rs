//! Reads the observers after a scenario: what the gateway and the destination know of each job, as figures.

use std::time::Duration;

use jobs_core::time::Timestamp;
use serde::Serialize;

use super::play::Opened;
use crate::client::{Api2, Gateway, JobView, ReceivedView};
use crate::error::DrillError;
use crate::invariants::{self, Findings};
use crate::ledger::ClientLedger;
use crate::outage::observe::{self, Testimony};
use crate::percentile::percentile;
use crate::report::{ON_ITS_WAY, millis};
use crate::worst_second::worst_second;

/// What the drill saw while it played.
pub(super) struct Seen<'a> {
    pub(super) client: &'a ClientLedger,
    /// When the trouble began, and when all was well again.
    pub(super) began: Timestamp,
    pub(super) back: Timestamp,
    pub(super) opened: &'a [Opened],
    pub(super) refused_share: f64,
}

/// A scenario as one of its destinations saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub accepted: u64,
    pub delivered: u64,
    pub dead: u64,
    pub lost: u64,
    pub duplicates: u64,
    /// Attempts that were counted against jobs, of those that were claimed when the trouble was under way.
    pub charged: u64,
    /// Of those that were claimed before, or when reports of better times were on their way still: others of their time got
    /// through, so that each may look like its job's own failure.
    pub charged_at_onset: u64,
    /// How often its gate opened.
    pub trips: u64,
    pub reason: Option<String>,
    /// Attempts in the worst second, whenever it began, while the gate was open, if it opened one time.
    pub calls_while_held: Option<u64>,
    /// From the end of the trouble to the first 2xx by the destination's clock.
    pub noticed_ms: Option<u64>,
    /// To the last first 2xx of a job that was accepted before.
    pub drained_ms: Option<u64>,
    /// Jobs that were accepted in the first half of the trouble and delivered after it.
    pub held_up: u64,
    /// 503 answers after the trouble, as a share of all calls then.
    pub refused_share: f64,
    /// Of all jobs: from accepted to delivered.
    pub p99_ms: f64,
    pub violations: Vec<String>,
}

/// # Errors
/// [`DrillError`] when an observer cannot be asked.
pub(super) async fn measure(
    gateway: &Gateway,
    api: &Api2,
    name: &str,
    seen: &Seen<'_>,
) -> Result<Measured, DrillError> {
    let testimony = observe::ask(gateway, api, seen.client).await?;
    let Findings { accepted, delivered, dead, lost, duplicates, violations, .. } =
        invariants::compare(&observe::compile(&testimony, seen.client, None));
    let view = gateway.destination(name).await?;
    let jobs = || testimony.values().filter_map(|(job, _)| job.as_ref());
    let attempts = || jobs().flat_map(|job| &job.attempt_log);
    let under_way = seen.began.plus(ON_ITS_WAY);
    let charged = |in_trouble: bool| {
        let of_then = attempts().filter(|attempt| (attempt.started_at >= under_way) == in_trouble);
        of_then.filter(|attempt| attempt.charged).count() as u64
    };
    let first_ok = api.ledger().await?.since_weather.first_ok_after();
    Ok(Measured {
        accepted,
        delivered,
        dead,
        lost,
        duplicates,
        charged: charged(true),
        charged_at_onset: charged(false),
        // What is open now has not recovered yet.
        trips: view.epoch + u64::from(view.state == "open"),
        reason: seen.opened.last().map(|opened| opened.reason.clone()),
        calls_while_held: worst_second_while_held(attempts().map(|attempt| attempt.started_at), seen),
        noticed_ms: first_ok.map(millis),
        drained_ms: drained(&testimony, seen.back).map(millis),
        held_up: held_up(&testimony, seen),
        refused_share: seen.refused_share,
        p99_ms: percentile(&mut deliveries(&testimony).collect::<Vec<_>>(), 0.99),
        violations: violations.iter().map(ToString::to_string).collect(),
    })
}

/// Most attempts that were claimed within any second of the only outage. Of several, nobody noted when each ended.
fn worst_second_while_held(claims: impl Iterator<Item = Timestamp>, seen: &Seen<'_>) -> Option<u64> {
    let [opened] = seen.opened else { return None };
    let from = opened.since.plus(ON_ITS_WAY);
    Some(worst_second(claims.filter(|at| (from..seen.back).contains(at))))
}

/// The first 2xx of a job; the time is that of the request.
fn first_ok(received: &ReceivedView) -> Option<Timestamp> {
    received.requests.iter().find(|request| request.status.is_some_and(|status| status / 100 == 2)).map(|ok| ok.time)
}

fn delivered(testimony: &Testimony) -> impl Iterator<Item = (&JobView, Timestamp)> {
    testimony.values().filter_map(|(job, received)| Some((job.as_ref()?, first_ok(received.as_ref()?)?)))
}

fn drained(testimony: &Testimony, back: Timestamp) -> Option<Duration> {
    let backlog = delivered(testimony).filter(|(job, _)| job.created_at < back);
    backlog.map(|(_, at)| at.since(back)).max()
}

fn held_up(testimony: &Testimony, seen: &Seen<'_>) -> u64 {
    let half = seen.began.plus(seen.back.since(seen.began) / 2);
    delivered(testimony).filter(|(job, at)| (seen.began..half).contains(&job.created_at) && *at > seen.back).count()
        as u64
}

/// From accepted to delivered, in milliseconds.
fn deliveries(testimony: &Testimony) -> impl Iterator<Item = f64> {
    delivered(testimony).map(|(job, at)| at.since(job.created_at).as_secs_f64() * 1_000.0)
}
