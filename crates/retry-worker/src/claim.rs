//! Asks the gateway for work whenever there is room for it, and begins every lease in a task of its own.
//!
//! A claim waits at the gateway until work exists, so that a new job is begun within milliseconds and an idle worker costs nothing.
//! While much is done a second one is under way beside it, or the worker would run dry in the milliseconds that each takes. Beyond some
//! milliseconds a slow call holds up nothing but its own slot.

use std::sync::Arc;
use std::time::Duration;

use jobs_core::lease::LeaseKey;
use jobs_core::protocol::{ClaimRequest, ClaimResponse, MAX_CLAIM, WireLease};
use jobs_core::time::Mono;

use crate::gateway::{Claimed, GatewayError, backoff};
use crate::held::Asked;
use crate::{Worker, attempt, probe};

/// How long a claim waits for work: long, because each one costs the gateway an answer; below the minute after which
/// things between us and the gateway drop a silent connection.
const WAIT_MS: u64 = 20_000;

/// Claims under way at a time, at most.
pub(crate) const CLAIMS: usize = 2;

/// With fewer than this share of its slots free a busy worker gathers a little before it claims, and makes no second claim beside
/// another, so that hundreds of calls do not become hundreds of claims of one.
const WORTH_A_CLAIM: u32 = 4;
const GATHER: Duration = Duration::from_millis(2);

/// Between two claims that brought nothing: a gateway that does not wait must not be asked in a tight loop.
const AFTER_NOTHING: Duration = Duration::from_millis(20);

/// Claims until the shutdown is triggered, one claim at a time; to be run [`CLAIMS`] times. A claim that is still waiting then is
/// dropped with its connection, by which the gateway knows not to grant it anything.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut failures = 0;
    while !worker.shutdown.is_triggered() {
        let claim = async {
            let asked = room(&worker).await;
            let known = worker.held.keys();
            let request =
                ClaimRequest { worker: worker.id, concurrency: worker.concurrency, max: asked.count, wait_ms: WAIT_MS };
            (worker.gateway.claim(&request).await, known, asked)
        };
        let pause = tokio::select! {
            biased; // an answer that is there is taken, so that its leases are released rather than left to lapse
            (claimed, known, asked) = claim => match take_in(&worker, claimed, &known, asked).await {
                Ok(leases) => {
                    failures = 0;
                    (leases == 0).then_some(AFTER_NOTHING)
                }
                Err(error) => {
                    failures += 1;
                    if error.is_final() {
                        log::error!("the gateway takes no claims: {error}");
                    }
                    Some(backoff(failures))
                }
            },
            () = worker.shutdown.wait() => break,
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = worker.shutdown.wait() => break,
            }
        }
    }
}

/// Begins the leases of an answer as they arrive; answers with how many there were. `known`: the leases held when the claim was sent.
async fn take_in(
    worker: &Arc<Worker>,
    claimed: Result<Claimed<'_>, GatewayError>,
    known: &[LeaseKey],
    mut asked: Asked<'_>,
) -> Result<usize, GatewayError> {
    let mut claimed = claimed?;
    let mut leases = 0;
    while let Some(part) = claimed.next().await? {
        leases += part.leases.len();
        begin(worker, part, known, claimed.answered(), &mut asked);
    }
    Ok(leases)
}

/// Room for the leases to ask for; waits until it is worth asking.
async fn room(worker: &Worker) -> Asked<'_> {
    let held = &worker.held;
    let much = worker.concurrency.div_ceil(WORTH_A_CLAIM).min(MAX_CLAIM);
    loop {
        if let Some(asked) = held.ask(much, MAX_CLAIM) {
            return asked;
        }
        if held.is_asking() || held.room() == 0 {
            held.freed().await;
            continue;
        }
        tokio::time::sleep(GATHER).await;
        if !held.is_asking()
            && let Some(asked) = held.ask(1, MAX_CLAIM)
        {
            return asked;
        }
    }
}

fn begin(worker: &Arc<Worker>, part: ClaimResponse, known: &[LeaseKey], answered: Mono, asked: &mut Asked<'_>) {
    // Only those: what has come since, here or by another claim, may be the probe of a destination whose others are to be released.
    worker.held.withdraw_from(&part.release, known);
    let leases = worker.held.begin(&part.leases, answered);
    asked.filled(leases.len());
    for (lease, granted) in leases.into_iter().zip::<Vec<WireLease>>(part.leases) {
        tokio::spawn(attempt::run(worker.clone(), lease, granted));
    }
    for check in part.probes {
        probe::spawn(worker, check);
    }
}
