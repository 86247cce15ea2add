//! The gates of destinations, where they meet the disk and the log.
//!
//! A gate changes in the middle of a settle, on what a destination has answered, or by hand. The change is written before
//! anything is granted under it: until then the dispatcher grants its destination nothing. A write that failed is repeated by
//! the sweeper, so a change can be late but not lost.

use std::collections::{BTreeMap, BTreeSet};

use jobs_core::dispatch::{Change, DestinationView};
use jobs_core::gate::Transition;
use jobs_core::job::{DestinationName, StateName, WorkerId};
use jobs_core::store::StoreError;

use crate::app::App;

impl App {
    /// Makes every change of a gate durable that is not, then lets parked claims look.
    ///
    /// # Errors
    /// When the store could not write one of them: it and those behind it are tried again by the next call.
    pub(crate) async fn persist_gates(&self) -> Result<(), StoreError> {
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
            self.tell_of_change(change).await;
        }
        Ok(())
    }

    /// As [`App::persist_gates`], where nobody can be told of a failure.
    pub(crate) async fn try_to_persist_gates(&self) {
        if let Err(error) = self.persist_gates().await {
            log::warn!(error:% = error; "a gate's change could not be written, and nothing is granted under it; trying again");
        }
    }

    /// Tells which workers cannot reach a destination that others can. `told`: what was told before.
    pub(crate) fn tell_of_cut_off(&self, told: &mut BTreeSet<(DestinationName, WorkerId)>) {
        let views = self.dispatcher().views();
        let of = |view: &DestinationView| {
            let name = view.name.clone();
            view.cut_off.iter().map(move |worker| (name.clone(), *worker)).collect::<Vec<_>>()
        };
        let now: BTreeSet<_> = views.iter().flat_map(of).collect();
        for (destination, worker) in now.difference(told) {
            log::warn!(destination = destination.as_str(), worker:% = worker; "this worker cannot reach what others can: nothing is held for it");
        }
        for (destination, worker) in told.difference(&now) {
            log::info!(destination = destination.as_str(), worker:% = worker; "this worker is not cut off any more, or not known to be");
        }
        *told = now;
    }

    async fn tell_of_change(&self, change: &Change) {
        self.gate_changed(&change.destination);
        let destination = change.destination.as_str();
        let reason = change.record.open.as_ref().map(|(_, reason)| reason.as_str());
        match (change.transition, reason) {
            (Some(_), Some(reason)) => {
                self.alerts.gate_opened(&change.destination, reason);
                log::warn!(destination, reason; "destination held, only probes go out: {reason}")
            }
            (Some(Transition::Recovered | Transition::Opened), None) => {
                self.alerts.gate_closed(&change.destination);
                let waiting = self.waiting(&change.destination).await;
                log::info!(destination, waiting; "destination recovered: what the outage held is released");
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
