//! What a claim and its settle cost the store, with very many jobs waiting and with few.
//!
//! On the store itself, without HTTP, because that is where a backlog could cost something. The two sides take turns, and each
//! keeps its backlog: what is settled is stored anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api1_gateway::store::sqlite::SqliteStore;
use bytes::Bytes;
use jobs_core::conformance::rig::{Rig, TestJudge, WORKER, keys, plain_job};
use jobs_core::job::{JobId, NewJob};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::process::clock::{self, Clock};
use jobs_core::store::{JobStore, Judge, Report, Settlement, StoreError};

use super::{Bench, BenchError, load, median, say};
use crate::figure::{Figure, Goal};

/// Most that it may cost with many, of what it costs with few.
const GOAL: f64 = 1.25;

/// Jobs of one claim, as a busy worker makes them.
const CLAIMED: u32 = 64;
/// Jobs of one enqueue while the stores are filled.
const FILL: usize = 1_000;
const FEW: usize = 1_000;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (many, rounds) = if bench.quick { (50_000, 50) } else { (10_000_000, 1_000) };
    say(&format!("claim and settle with {many} jobs waiting, beside {FEW}"));
    let folder = tempfile::Builder::new().prefix("claim-").tempdir_in(bench.folder());
    let folder = folder.map_err(BenchError::io("make a folder for the benchmark"))?;
    let few = Stored::filled(&folder.path().join("few.db"), FEW).await?;
    let many_stored = Stored::filled(&folder.path().join("many.db"), many).await?;
    let (mut ratios, mut fews, mut manys) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let with_few = few.claim_and_settle().await?.as_secs_f64();
        let with_many = many_stored.claim_and_settle().await?.as_secs_f64();
        ratios.push(with_many / with_few);
        fews.push(with_few * 1e6 / f64::from(CLAIMED));
        manys.push(with_many * 1e6 / f64::from(CLAIMED));
    }
    let name = format!("claim and settle with {many} waiting, of {FEW}");
    let figure = Figure::new(&name, median(&mut ratios), "", Goal::AtMost(GOAL))
        .beside("microseconds a job, with many", median(&mut manys))
        .beside("microseconds a job, with few", median(&mut fews));
    Ok(vec![figure])
}

/// A store with a backlog.
struct Stored {
    store: SqliteStore,
    clock: Clock,
    judge: Arc<dyn Judge>,
}

impl Stored {
    async fn filled(path: &Path, jobs: usize) -> Result<Self, BenchError> {
        let clock = Clock::new();
        let store = SqliteStore::open(path, clock.now())?;
        let stored = Stored { store, clock, judge: Arc::new(TestJudge::default()) };
        let mut left = jobs;
        while left > 0 {
            let now = left.min(FILL);
            stored.add(now).await?;
            left -= now;
        }
        Ok(stored)
    }

    async fn add(&self, jobs: usize) -> Result<(), StoreError> {
        let now = self.clock.now();
        let body = Bytes::from(load::payload());
        let job = |_| NewJob {
            id: JobId(clock::new_job_uuid()),
            id_is_new: true,
            run_at: now.wall,
            ..plain_job(0, body.clone())
        };
        self.store.enqueue((0..jobs).map(job).collect(), now).await.map(drop)
    }

    /// How long a claim of [`CLAIMED`] jobs and their settling take.
    async fn claim_and_settle(&self) -> Result<Duration, StoreError> {
        let began = clock::instant();
        let claimed = self.store.claim(WORKER, vec![Rig::grant(CLAIMED, 0)], self.clock.now()).await?;
        assert_eq!(claimed.leases.len(), CLAIMED as usize, "all of the backlog is due");
        let settlement = |key| Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) };
        let settlements = keys(&claimed.leases).into_iter().map(settlement).collect();
        self.store.settle(WORKER, settlements, Arc::clone(&self.judge), self.clock.now()).await?;
        let took = began.elapsed();
        self.add(CLAIMED as usize).await?;
        Ok(took)
    }
}
