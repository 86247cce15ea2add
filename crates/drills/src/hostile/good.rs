//! Good clients in the midst of bad ones: each keeps a connection, posts at a gentle pace, and notes how long it waits for its 202.
//!
//! They have a thread of their own, so that what the attackers of the same process do to each other is not taken for the gateway's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use tokio::task::JoinSet;

use crate::client::{Gateway, Http};
use crate::ledger::{self, ClientLedger, Intent};
use crate::percentile::percentile;
use crate::trio::API2;

const CLIENTS: u64 = 4;

/// Between two posts of one client: 80 a second in all.
const PACE: Duration = Duration::from_millis(50);

/// How long one request is repeated that is not acknowledged.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// The clients at work.
#[derive(Debug)]
pub(super) struct Good {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Served>,
}

/// What they got.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) client: ClientLedger,
    /// When each was sent, and how long it took to its 202.
    waits: Vec<(Instant, Duration)>,
}

impl Served {
    /// p99 of those that were sent from the one moment to the other, in milliseconds.
    pub(super) fn p99_ms(&self, from: Instant, until: Instant) -> f64 {
        let within = self.waits.iter().filter(|(at, _)| (from..until).contains(at));
        percentile(&mut within.map(|(_, took)| took.as_secs_f64() * 1_000.0).collect::<Vec<_>>(), 0.99)
    }
}

impl Good {
    /// Begins to post to the destination [`API2`] of the gateway at `url`.
    pub(super) fn start(url: &str, seed: u64) -> Self {
        let (url, stop) = (url.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime of one thread needs nothing but a few files").block_on(all(&url, seed, &stopped))
        });
        Good { stop, thread }
    }

    /// Posts no more, and waits until what was posted is acknowledged.
    ///
    /// # Panics
    /// When posting panicked.
    pub(super) async fn stop(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        joined.expect("waiting does not panic").expect("posting does not panic")
    }
}

async fn all(url: &str, seed: u64, stop: &Arc<AtomicBool>) -> Served {
    let run = clock::new_uuid().simple().to_string();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let gateway = Gateway::new(url, &Http::new());
        clients.spawn(one(gateway, format!("{run}-{number}"), seed, Arc::clone(stop)));
    }
    let mut served = Served::default();
    for one in clients.join_all().await {
        served.client.merge(one.client);
        served.waits.extend(one.waits);
    }
    served
}

async fn one(gateway: Gateway, run: String, seed: u64, stop: Arc<AtomicBool>) -> Served {
    let mut served = Served::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let sent = clock::instant();
        let posted = ledger::post(&gateway, API2, &Intent::numbered(&run, number, seed), POST_LIMIT).await;
        served.waits.push((sent, sent.elapsed()));
        served.client.note(posted);
        number += 1;
        tokio::time::sleep(PACE).await;
    }
    served
}
