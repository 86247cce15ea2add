//! Tells the gateway every second that this worker lives, and which leases it still holds; hears which it does not.
//!
//! Listed is everything held, whether its call has begun, is under way, or has ended and waits to be reported. Only what is
//! listed is renewed, so a lease whose grant never arrived here lapses, as it must.

use std::sync::Arc;

use jobs_core::lease::HEARTBEAT;
use jobs_core::protocol::ExtendRequest;
use tokio::time::MissedTickBehavior;

use crate::Worker;

/// Renews until it is aborted, which happens when nothing is held any more.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = ExtendRequest { worker: worker.id, holding: worker.held.keys() };
        let sent = worker.clock.now().mono;
        match worker.gateway.extend(&request).await {
            Ok(answer) => {
                let lost = worker.held.extended(&request.holding, &answer, sent);
                worker.held.withdraw_from(&answer.release, &request.holding);
                worker.metrics.lost(lost);
                if lost > 0 {
                    log::warn!(leases = lost; "leases lost: what has not been sent of them is not, what was is still reported");
                }
            }
            Err(error) if error.is_final() => log::error!("the gateway takes no heartbeats: {error}"),
            // The gateway's client logs when an outage begins and ends.
            Err(error) => log::debug!("heartbeat failed: {error}"),
        }
    }
}
