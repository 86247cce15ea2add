//! A client that asks for everything at once: ordering keys, delays, repetitions under the same idempotency key.
//!
//! The load is closed: each of its posters waits for an acknowledgement before it goes on, so the order in which the jobs of an
//! ordering key were accepted is known. What is not acknowledged is repeated until it is.

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Gateway;
use crate::ledger::{self, ClientLedger, Intent, Posted};
use crate::trio::API2;

/// Posters with an ordering key of their own, and as many without any.
const KEYS: u64 = 6;

/// Between two requests of a poster.
const PACE: Duration = Duration::from_millis(60);

/// How long a request is repeated that is not acknowledged: a gateway that was killed is back long before.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// How long a job waits that is to wait.
const DELAY: Duration = Duration::from_millis(300);
const DELAY_HEADER: &str = "300ms";

/// What the client knows of its jobs.
#[derive(Debug, Clone, Default)]
pub struct MixedLedger {
    pub client: ClientLedger,
    /// The jobs of each ordering key, in the order in which they were acknowledged.
    pub in_order: Vec<Vec<JobId>>,
    /// Jobs that were asked to be sent no sooner than this.
    pub not_before: BTreeMap<JobId, Timestamp>,
    /// Requests that were given up, and why.
    pub given_up: Vec<String>,
}

/// The client at work.
#[derive(Debug)]
pub struct Mixed {
    stop: watch::Sender<bool>,
    posters: JoinSet<MixedLedger>,
}

impl Mixed {
    /// Begins to post. `seed` chooses what is asked of each job.
    pub fn start(gateway: &Gateway, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let run = clock::new_uuid().simple().to_string();
        let mut posters = JoinSet::new();
        for number in 0..2 * KEYS {
            let run = format!("{run}-{number}");
            let ordering_key = (number < KEYS).then(|| format!("key-{run}"));
            let poster = Poster { gateway: gateway.clone(), run, ordering_key, seed: seed.wrapping_add(number) };
            posters.spawn(poster.post_on(stopped.clone()));
        }
        Mixed { stop, posters }
    }

    /// Posts no more, and waits until what was posted is acknowledged.
    pub async fn stop(self) -> MixedLedger {
        self.stop.send_replace(true);
        let mut all = MixedLedger::default();
        for one in self.posters.join_all().await {
            all.client.merge(one.client);
            all.in_order.extend(one.in_order);
            all.not_before.extend(one.not_before);
            all.given_up.extend(one.given_up);
        }
        all
    }
}

struct Poster {
    gateway: Gateway,
    /// Names its requests.
    run: String,
    ordering_key: Option<String>,
    seed: u64,
}

impl Poster {
    async fn post_on(self, mut stopped: watch::Receiver<bool>) -> MixedLedger {
        let mut ledger = MixedLedger::default();
        let mut in_order = Vec::new();
        let mut number = 0;
        while !*stopped.borrow_and_update() {
            in_order.extend(self.post_one(number, &mut ledger).await);
            number += 1;
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                _ = stopped.changed() => {}
            }
        }
        if self.ordering_key.is_some() {
            ledger.in_order.push(in_order);
        }
        ledger
    }

    /// Posts a request: some with a delay, some twice at the same moment, some once more after their acknowledgement.
    async fn post_one(&self, number: u64, ledger: &mut MixedLedger) -> Option<JobId> {
        let intent = Intent::numbered(&self.run, number, self.seed);
        let draw = ledger::mixed(self.seed ^ 0x6d69_7865, number);
        let (delayed, twice, again) = (draw.is_multiple_of(5), draw.is_multiple_of(7), draw.is_multiple_of(3));
        let mut options = Vec::new();
        options.extend(self.ordering_key.as_deref().map(|key| ("job-ordering-key", key)));
        options.extend(delayed.then_some(("job-delay", DELAY_HEADER)));
        let began = clock::wall();
        let first = if twice {
            let (one, other) = tokio::join!(self.post(&intent, &options), self.post(&intent, &options));
            ledger.client.note(other);
            one
        } else {
            self.post(&intent, &options).await
        };
        let Some(id) = first.id else {
            ledger.given_up.push(first.last_failure.unwrap_or_default());
            return None;
        };
        ledger.client.note(first);
        if delayed {
            ledger.not_before.insert(id, began.plus(DELAY));
        }
        if again {
            ledger.client.note_repetition(self.post(&intent, &options).await);
        }
        Some(id)
    }

    async fn post(&self, intent: &Intent, options: &[(&str, &str)]) -> Posted {
        ledger::post_with(&self.gateway, API2, intent, options, POST_LIMIT).await
    }
}
