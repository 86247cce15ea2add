//! Looks every second whether due work is handed out, and raises an alarm where it is not: in the log, in the metrics, and where
//! destinations are shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobs_core::dispatch::DestinationView;
use jobs_core::gate::GateStateName;
use jobs_core::job::DestinationName;
use jobs_core::store::StoreError;
use jobs_core::watchdog::{Sighting, Watch};

use crate::app::App;
use crate::background::{goes_on, report};

const INTERVAL: Duration = Duration::from_secs(1);

/// What it has found.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    /// Destinations whose due work has not been handed out for longer than the bound, and for how long.
    stalled: Mutex<BTreeMap<DestinationName, Duration>>,
}

impl Watchdog {
    /// For how long due work of a destination has not been handed out; `None`: all is well.
    pub(crate) fn stalled(&self, name: &DestinationName) -> Option<Duration> {
        self.lock().get(name).copied()
    }

    /// Takes note of what was found; answers whether that is news.
    fn note(&self, name: &DestinationName, stalled: Option<Duration>) -> bool {
        let before = match stalled {
            Some(time) => self.lock().insert(name.clone(), time),
            None => self.lock().remove(name),
        };
        before.is_some() != stalled.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, Duration>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches until the process drains.
pub(crate) async fn watch(app: Arc<App>) {
    let mut watches = BTreeMap::new();
    while goes_on(&app, INTERVAL.min(app.limits.stalled_after)).await {
        if let Err(error) = look(&app, &mut watches).await {
            report("look for work that is not handed out", &error);
        }
    }
}

async fn look(app: &App, watches: &mut BTreeMap<DestinationName, Watch>) -> Result<(), StoreError> {
    let views: Vec<DestinationView> = app.dispatcher().views();
    for DestinationView { name, state, removed, .. } in views {
        let seen = Sighting {
            held: removed || matches!(state, GateStateName::Open | GateStateName::Paused),
            oldest_due: app.store.oldest_due(&name).await?,
            workers: app.dispatcher().workers(app.clock.now()),
            claimed: app.metrics.leases(&name),
        };
        let watch = watches.entry(name.clone()).or_default();
        let stalled = watch.look(seen, app.clock.now()).filter(|time| *time >= app.limits.stalled_after);
        if app.watchdog.note(&name, stalled) {
            let (destination, workers) = (name.as_str(), seen.workers);
            match stalled {
                Some(_) => {
                    log::error!(destination, workers; "work is due and nobody gets it, although there are workers")
                }
                None => log::info!(destination; "work is handed out again, or there is none"),
            }
        }
    }
    Ok(())
}
