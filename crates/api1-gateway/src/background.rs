//! What a gateway does without being asked: ends overdue leases and jobs, writes what gates have changed to, deletes old
//! jobs, watches the disk and the store.
//!
//! Every task ends with the shutdown; one that ends before takes the process down, see [`tasks::supervise`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jobs_core::lease::SWEEP_INTERVAL;
use jobs_core::process::tasks;
use jobs_core::store::{Purged, StoreError};

use crate::app::App;
use crate::{alerts, redriver, watchdog};

/// Sweeps in a row before the next pause: with some hundreds of jobs each, what falls due at once is soon done, in small commits.
const SWEEPS_IN_A_ROW: usize = 20;
/// Longest rest between two steps of a purge that has more to do.
const PURGE_STEP: Duration = Duration::from_millis(50);
/// It rests so many times as long as the step before took, where that is shorter: with a pause of a fixed length it would fall behind
/// where more jobs come in than it deletes, and the store would grow without end.
const REST_PER_STEP: u32 = 3;
/// Between two looks for something to purge. Retention is in hours.
const PURGE_PAUSE: Duration = Duration::from_secs(5);
/// How often the disk is looked at, to refuse before anything is read and to tell of it. The store looks before each commit as
/// well: on a small disk all there is may be gone in this time.
const SPACE_INTERVAL: Duration = Duration::from_millis(250);
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Starts all of them.
pub(crate) fn start(app: &Arc<App>) {
    let shutdown = &app.shutdown;
    tasks::supervise("sweeper", shutdown, sweep(Arc::clone(app)));
    tasks::supervise("purger", shutdown, purge(Arc::clone(app)));
    tasks::supervise("space guard", shutdown, guard_space(Arc::clone(app)));
    tasks::supervise("alerter", shutdown, alerts::send(Arc::clone(app)));
    tasks::supervise("watchdog", shutdown, watchdog::watch(Arc::clone(app)));
    tasks::supervise("measure", shutdown, measure(Arc::clone(app)));
    tasks::supervise("redriver", shutdown, redriver::run(Arc::clone(app)));
    tasks::supervise("store watch", shutdown, watch_store(Arc::clone(app)));
}

/// Waits; false once the process drains.
pub(crate) async fn goes_on(app: &App, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = app.shutdown.wait() => false,
    }
}

async fn sweep(app: Arc<App>) {
    let mut cut_off = BTreeSet::new();
    while goes_on(&app, SWEEP_INTERVAL).await {
        app.dispatcher().look(app.clock.now());
        app.try_to_persist_gates().await;
        app.tell_of_cut_off(&mut cut_off);
        for _ in 0..SWEEPS_IN_A_ROW {
            match app.sweep().await {
                Ok(0) => break,
                Ok(count) => log::debug!(jobs = count; "ended overdue leases and jobs"),
                Err(error) => {
                    report("sweep", &error);
                    break;
                }
            }
        }
    }
}

async fn purge(app: Arc<App>) {
    let mut pause = PURGE_PAUSE;
    while goes_on(&app, pause).await {
        let begun = app.clock.now();
        pause = match app.store.purge(app.limits.retention, begun).await {
            Ok(purged) => pause_after(purged, app.clock.now().mono.since(begun.mono)),
            Err(error) => {
                report("purge", &error);
                PURGE_PAUSE
            }
        };
    }
}

/// How long the purger rests after a step that took so long. One that had room for nothing is not asked again at once.
fn pause_after(purged: Purged, took: Duration) -> Duration {
    match purged {
        Purged { more: false, .. } => PURGE_PAUSE,
        Purged { jobs: 0, more: true } => PURGE_STEP,
        Purged { more: true, .. } => (took * REST_PER_STEP).min(PURGE_STEP),
    }
}

async fn guard_space(app: Arc<App>) {
    let min_free = app.limits.min_free;
    loop {
        match app.store.free_bytes().await {
            Ok(free) => {
                let low = free.is_some_and(|free| free < min_free);
                if low != app.low_space.swap(low, Ordering::Relaxed) {
                    match low {
                        true => {
                            log::warn!(free_bytes = free, min_free; "too little disk space: no more jobs are accepted")
                        }
                        false => log::info!(free_bytes = free; "enough disk space again: jobs are accepted"),
                    }
                }
            }
            Err(error) => report("look at the disk", &error),
        }
        if !goes_on(&app, SPACE_INTERVAL).await {
            return;
        }
    }
}

async fn measure(app: Arc<App>) {
    let mut last = app.clock.now().mono;
    while goes_on(&app, RATE_INTERVAL).await {
        let now = app.clock.now().mono;
        app.drain_rates.tick(now.since(last));
        last = now;
        app.sample().await;
    }
}

async fn watch_store(app: Arc<App>) {
    tokio::select! {
        reason = app.store.broken() => {
            log::error!(reason = reason.as_str(); "the store has failed: what was being written may or may not be stored; ending");
            app.shutdown.fail();
        }
        () = app.shutdown.wait() => {}
    }
}

/// A background step that failed is tried again; a broken store is reported by its watch.
pub(crate) fn report(step: &str, error: &StoreError) {
    match error {
        StoreError::Closed | StoreError::Broken(_) => log::debug!(error:% = error; "could not {step}"),
        StoreError::Full(_) | StoreError::Busy(_) | StoreError::Unusable(_) => {
            log::warn!(error:% = error; "could not {step}; trying again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_goes_on_soon_while_there_is_more_and_not_in_a_loop_where_nothing_has_room() {
        let quick = Duration::from_millis(4);
        let after = |jobs, more, took| pause_after(Purged { jobs, more }, took);
        assert_eq!([after(500, true, quick), after(1, true, quick)], [3 * quick; 2]);
        assert_eq!([after(500, true, 100 * quick), after(0, true, quick)], [PURGE_STEP; 2]);
        assert_eq!([after(499, false, quick), after(0, false, quick)], [PURGE_PAUSE; 2]);
    }
}
