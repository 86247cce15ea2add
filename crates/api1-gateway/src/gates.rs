//! The gates of destinations, where they meet the disk and the log.
//!
//! A gate changes in the middle of a settle, on what a destination has answered, or by hand. The change is written before
//! anything is granted under it: until then the dispatcher grants its destination nothing. A write that failed is repeated by
//! the sweeper, so a change can be late but not lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use jobs_core::dispatch::Change;
use jobs_core::gate::Transition;
use jobs_core::job::{DestinationName, StateName};
use jobs_core::store::StoreError;

use crate::app::App;

impl App {
    /// Makes every change of a gate durable that is not, then lets parked claims look.
    ///
    /// # Errors
    /// When the store could not write one of them: it and those behind it are tried again by the next call.
    pub(crate) async fn persist_gates(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.dispatcher().changes().is_empty() {
            return Ok(());
        }
        let _in_order = self.gate_writes.lock().await;
        // Another call may have written them meanwhile.
        let changes = self.dispatcher().changes();
        for change in &changes {
            self.store.put_gate(change.destination.clone(), change.record.clone()).await?;
            self.dispatcher().persisted(change);
            self.work.notify_waiters();
            self.tell_of_change(change);
        }
        Ok(())
    }

    /// As [`App::persist_gates`], where nobody can be told of a failure.
    pub(crate) async fn try_to_persist_gates(self: &Arc<Self>) {
        if let Err(error) = self.persist_gates().await {
            log::warn!(error:% = error; "a gate's change could not be written, and nothing is granted under it; trying again");
        }
    }

    fn tell_of_change(self: &Arc<Self>, change: &Change) {
        let destination = change.destination.as_str();
        let reason = change.record.open.as_ref().map(|(_, reason)| reason.as_str());
        match (change.transition, reason) {
            (Some(_), Some(reason)) => {
                log::warn!(destination, reason; "destination held, only probes go out: {reason}")
            }
            (Some(Transition::Recovered | Transition::Opened), None) => {
                // Nobody waits for it: counting waits for its turn among other questions, and a report for no log line.
                tokio::spawn(tell_of_recovery(Arc::clone(self), change.destination.clone()));
            }
            // By hand: told where it was asked for.
            (None, _) => {}
        }
    }

    /// Jobs of `destination` that wait, as far as that can be told.
    async fn waiting(&self, destination: &DestinationName) -> Option<u64> {
        let counts: BTreeMap<_, _> = self.store.stats().await.ok()?.destinations;
        counts.get(destination)?.get(&StateName::Pending).copied()
    }
}

async fn tell_of_recovery(app: Arc<App>, destination: DestinationName) {
    let waiting = app.waiting(&destination).await;
    log::info!(destination = destination.as_str(), waiting; "destination recovered: what the outage held is released");
}
