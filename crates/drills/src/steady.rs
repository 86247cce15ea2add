//! A client that posts so many jobs a second, whatever becomes of them, and keeps its ledger.
//!
//! The load is open: the next request leaves on time although earlier ones have not been answered, as from many callers who do not
//! know of each other. Beyond [`MAX_UNDER_WAY`] requests it is late rather than without bounds.

use std::sync::Arc;
use std::time::Duration;

use jobs_core::process::clock;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Gateway;
use crate::ledger::{self, ClientLedger, Intent};

/// Requests under way at a time.
const MAX_UNDER_WAY: usize = 64;

/// How long one request is repeated that is not acknowledged.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// The client at work. Dropping it stops it; what it had under way may then be acknowledged to nobody.
#[derive(Debug)]
pub struct Steady {
    per_second: watch::Sender<f64>,
    posting: JoinHandle<ClientLedger>,
}

impl Steady {
    /// Begins to post to `destination`. `per_second` above 0.
    pub fn start(gateway: &Gateway, destination: &str, per_second: f64, seed: u64) -> Self {
        let (rate, read) = watch::channel(per_second);
        let posting = tokio::spawn(post_on(gateway.clone(), destination.to_owned(), read, seed));
        Steady { per_second: rate, posting }
    }

    /// From now on so many a second.
    pub fn change(&self, per_second: f64) {
        self.per_second.send_replace(per_second);
    }

    /// Posts no more, and waits until what it posted is acknowledged.
    ///
    /// # Panics
    /// When posting panicked.
    pub async fn stop(self) -> ClientLedger {
        drop(self.per_second);
        self.posting.await.expect("posting does not panic")
    }
}

async fn post_on(
    gateway: Gateway,
    destination: String,
    mut per_second: watch::Receiver<f64>,
    seed: u64,
) -> ClientLedger {
    let run = clock::new_uuid().simple().to_string();
    let room = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let mut under_way = JoinSet::new();
    let mut client = ClientLedger::default();
    let mut number = 0;
    let mut next = clock::instant();
    loop {
        let rate = *per_second.borrow_and_update();
        tokio::select! {
            changed = per_second.changed() => match changed {
                Ok(()) => { next = clock::instant(); continue }
                Err(_) => break,
            },
            () = tokio::time::sleep(next.saturating_duration_since(clock::instant())) => {}
        }
        next += Duration::from_secs_f64(1.0 / rate);
        let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
        let (gateway, destination, intent) =
            (gateway.clone(), destination.clone(), Intent::numbered(&run, number, seed));
        under_way.spawn(async move {
            let posted = ledger::post(&gateway, &destination, &intent, POST_LIMIT).await;
            drop(permit);
            posted
        });
        number += 1;
        while let Some(posted) = under_way.try_join_next() {
            client.note(posted.expect("posting does not panic"));
        }
    }
    for posted in under_way.join_all().await {
        client.note(posted);
    }
    client
}
