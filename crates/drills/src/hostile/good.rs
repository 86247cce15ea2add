//! Good clients in the midst of bad ones: each keeps a connection, posts at a gentle pace, and notes how long it waits for its 202.
//!
//! They have a thread of their own, so that what the attackers of the same process do to each other is not taken for the gateway's.
//! Nor is what the disk does: a file beside the store is synced all the time, and while that stalls, everybody waits for the disk. That
//! time, and no more, is taken off a wait.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use tokio::task::JoinSet;

use super::Size;
use crate::client::{Gateway, Http};
use crate::figure::{Figure, Goal};
use crate::ledger::{self, ClientLedger, Intent};
use crate::percentile::percentile;
use crate::trio::API2;

const CLIENTS: u64 = 4;

/// Between two posts of one client: 80 a second in all.
const PACE: Duration = Duration::from_millis(50);

/// What they wait while there is an attack, of what they waited before.
const WAIT_RATIO: f64 = 2.0;

/// How long one request is repeated that is not acknowledged.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// Between two syncs of the disk.
const SYNCS: Duration = Duration::from_millis(10);

/// What a sync writes: a page, as the store's commits do.
const PAGE: [u8; 4096] = [b'x'; 4096];

/// A sync that takes longer is a stall of the disk: beyond what it waits for a processor that others keep busy, as measured.
const STALL: Duration = Duration::from_millis(20);

/// The clients at work.
#[derive(Debug)]
pub(super) struct Good {
    stop: Arc<AtomicBool>,
    clients: JoinHandle<Served>,
    disk: JoinHandle<Vec<(Instant, Duration)>>,
}

/// What they got.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) client: ClientLedger,
    /// When each was sent, and how long it took to its 202.
    waits: Vec<(Instant, Duration)>,
    /// The same of what the disk was asked to sync.
    syncs: Vec<(Instant, Duration)>,
}

impl Served {
    /// What was waited from `attacked` to `over`, of what was waited from `began` to `attacked`.
    pub(super) fn figure(
        &self,
        name: &str,
        (began, attacked, over): (Instant, Instant, Instant),
        size: Size,
    ) -> Figure {
        let (alone, meanwhile) = (self.p99_ms(began, attacked), self.p99_ms(attacked, over));
        let stalls = || self.stalls().map(|(_, took)| took.as_secs_f64());
        let goal = if size.timed { Goal::AtMost(WAIT_RATIO) } else { Goal::None };
        Figure::new(name, meanwhile / alone, "", goal)
            .beside("alone ms", alone)
            .beside("attacked ms", meanwhile)
            .beside("stalls of the disk", stalls().count() as f64)
            .beside("their longest s", stalls().fold(0.0, f64::max))
    }

    /// p99 of those that were sent from the one moment to the other, in milliseconds, without what they waited for a stalled disk.
    pub(super) fn p99_ms(&self, from: Instant, until: Instant) -> f64 {
        let within = self.waits.iter().filter(|(at, _)| (from..until).contains(at));
        let of_gateway = |(at, took): &(Instant, Duration)| took.saturating_sub(self.stalled(*at, *at + *took));
        percentile(&mut within.map(|wait| of_gateway(wait).as_secs_f64() * 1_000.0).collect::<Vec<_>>(), 0.99)
    }

    /// For how long the disk stalled between the one moment and the other.
    fn stalled(&self, from: Instant, until: Instant) -> Duration {
        let overlap =
            |(began, took): &(Instant, Duration)| until.min(*began + *took).saturating_duration_since(from.max(*began));
        self.stalls().map(overlap).sum()
    }

    fn stalls(&self) -> impl Iterator<Item = &(Instant, Duration)> {
        self.syncs.iter().filter(|(_, took)| *took > STALL)
    }
}

impl Good {
    /// Begins to post to the destination [`API2`] of the gateway at `url`, whose store is in `folder`.
    ///
    /// # Errors
    /// When no file can be made in `folder`.
    pub(super) fn start(url: &str, folder: &Path, seed: u64) -> std::io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        let (url, stop) = (url.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let clients = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime of one thread needs nothing but a few files").block_on(all(&url, seed, &stopped))
        });
        let stopped = Arc::clone(&stop);
        let disk = std::thread::spawn(move || syncs(file, &stopped));
        Ok(Good { stop, clients, disk })
    }

    /// Posts no more, and waits until what was posted is acknowledged.
    ///
    /// # Panics
    /// When posting panicked.
    pub(super) async fn stop(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        let join = || (self.clients.join(), self.disk.join());
        let (served, syncs) = tokio::task::spawn_blocking(join).await.expect("waiting does not panic");
        Served { syncs: syncs.expect("syncing does not panic"), ..served.expect("posting does not panic") }
    }
}

/// Syncs `file` all the time; answers with when each sync began, and how long it took.
fn syncs(mut file: std::fs::File, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
    let mut syncs = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = clock::instant();
        file.write_all(&PAGE).and_then(|()| file.sync_data()).expect("a page can be written beside the store");
        syncs.push((began, began.elapsed()));
        std::thread::sleep(SYNCS);
    }
    syncs
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_wait_only_the_time_in_which_the_disk_stalled_is_taken_off() {
        let start = clock::instant();
        let at = |ms| start + Duration::from_millis(ms);
        let lasting = |from, ms| (at(from), Duration::from_millis(ms));
        let p99 = |waits: &[(Instant, Duration)], syncs: &[(Instant, Duration)]| {
            let served = Served { waits: waits.to_vec(), syncs: syncs.to_vec(), ..Served::default() };
            served.p99_ms(at(0), at(1_000))
        };
        assert_eq!(p99(&[lasting(10, 50)], &[lasting(0, 40)]), 20.0, "30 of its 50 ms");
        assert_eq!(p99(&[lasting(10, 50)], &[lasting(0, 30), lasting(40, 30)]), 10.0, "the first 20 and the last 20");
        assert_eq!(p99(&[lasting(10, 5_000)], &[lasting(100, 40)]), 4_960.0, "a stall excuses no more than itself");
        assert_eq!(p99(&[lasting(10, 50)], &[lasting(0, 20)]), 50.0, "that is no stall");
        assert_eq!(p99(&[lasting(10, 50), lasting(1_000, 90)], &[]), 50.0, "another was sent later");
        assert!(p99(&[], &[]).is_nan(), "which misses any goal");
    }
}
