//! Memory: what stays resident while very many jobs are accepted, delivered and purged, and what is written to the disk for them.
//!
//! Flat means that finished jobs cost nothing: the most of the last quarter is compared with the second, because in the first
//! one caches and the allocator still grow to their working size.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::drain::Counter;
use super::{Bench, BenchError, load, median, say, usage};
use crate::figure::{Figure, Goal};
use crate::trio::Trio;
use crate::trio::process::resident_bytes;
use crate::wait;

const GATEWAY_GOAL_MB: f64 = 150.0;
const WORKER_GOAL_MB: f64 = 60.0;
/// Of a job that is accepted, claimed, settled and purged under load.
const WRITTEN_GOAL_KIB: f64 = 4.0;
/// What the allocator may keep or give back between two quarters, in percent.
const GROWTH_GOAL_PERCENT: f64 = 10.0;

/// Jobs that are not purged are those of at most so long, if the purge keeps pace: they are kept for a second, and it looks every five.
const PURGE_GOAL_SECONDS: f64 = 10.0;

/// Accepted and not yet delivered, at most: memory is to be that of finished jobs, not of a backlog.
const BACKLOG: u64 = 10_000;

/// How often memory is read and the backlog looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// A delivery takes a fraction of a millisecond; without one for so long, something is stuck.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What the last jobs need to be settled and purged.
const PURGE_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let jobs: u64 = if bench.quick { 30_000 } else { 1_000_000 };
    say(&format!("memory over {jobs} jobs"));
    let (_sink, sink) = bench.reference("sink").await?;
    let mut trio = bench.start(1, &format!("http://{sink}/"), &["--retain-succeeded", "1s"]).await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let permits = Arc::new(Semaphore::new(0));
    let mut counter = Counter::open(sink).await?;
    let mut memory = Memory { processes: [trio.gateway_process().id(), trio.workers()[0].id()], samples: Vec::new() };
    let written_before = usage::written_bytes(memory.processes[0]);
    let loading = load::as_permitted(gateway, &post, &permits);
    let (done, watched) = tokio::join!(loading, watch(jobs, &permits, &mut counter, &mut memory, &trio));
    watched?;
    let done = done.map_err(BenchError::io("put load on the gateway"))?;
    let left = not_purged(&trio).await?;
    all_purged(&trio, jobs).await?;
    let written = usage::written_bytes(memory.processes[0]).zip(written_before);
    let written = written.map_or(f64::NAN, |(after, before)| (after - before) as f64 / jobs as f64 / 1024.0);
    let per_second = done.per_second();
    let [gateway, worker] = [0, 1].map(|process| memory.of(process));
    // A short run is over before everything has grown to its working size, and before the first purge.
    let long = |goal| if bench.quick { Goal::None } else { goal };
    let (growth_goal, purge_goal) = (long(Goal::AtMost(GROWTH_GOAL_PERCENT)), long(Goal::AtMost(PURGE_GOAL_SECONDS)));
    Ok(vec![
        Figure::new(
            &format!("gateway memory over {jobs} jobs, most"),
            gateway.most_mb,
            "MB",
            Goal::AtMost(GATEWAY_GOAL_MB),
        )
        .beside("accepted and delivered /s", per_second)
        .beside("client's share of the processors", done.client_share()),
        Figure::new("gateway memory, last quarter over second", gateway.growth_percent, "%", growth_goal),
        Figure::new("worker memory, most", worker.most_mb, "MB", Goal::AtMost(WORKER_GOAL_MB)),
        Figure::new("written per job's whole life", written, "KiB", Goal::AtMost(WRITTEN_GOAL_KIB)),
        Figure::new("jobs not purged when the load ended", left / per_second, "s of load", purge_goal),
    ])
}

/// Lets the load go on while the backlog is small, and reads memory, until all jobs were delivered.
async fn watch(
    jobs: u64,
    permits: &Semaphore,
    counter: &mut Counter,
    memory: &mut Memory,
    trio: &Trio,
) -> Result<(), BenchError> {
    let _end_of_load = CloseOnDrop(permits);
    let (mut permitted, mut delivered, mut since) = (0_u64, 0, jobs_core::process::clock::instant());
    while delivered < jobs {
        let allowed = (delivered + BACKLOG).min(jobs).saturating_sub(permitted);
        permits.add_permits(usize::try_from(allowed).unwrap_or(0));
        permitted += allowed;
        tokio::time::sleep(INTERVAL).await;
        memory.sample();
        let seen = counter.seen().await?.requests;
        if seen > delivered {
            (delivered, since) = (seen, jobs_core::process::clock::instant());
        } else if since.elapsed() > STANDSTILL {
            let folder = trio.folder().display().to_string();
            return Err(BenchError::Stuck { what: "a delivery", limit: STANDSTILL, folder });
        }
    }
    Ok(())
}

/// Ends the load however the watching ends.
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Semaphore);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn not_purged(trio: &Trio) -> Result<f64, BenchError> {
    let stats = trio.gateway().stats().await?;
    Ok(stats.accepted.saturating_sub(stats.purged) as f64)
}

/// Waits until the finished jobs are gone, so that what is written for that is counted too.
async fn all_purged(trio: &Trio, jobs: u64) -> Result<(), BenchError> {
    let purged = async || trio.gateway().stats().await.ok().filter(|stats| stats.purged >= jobs);
    let stuck =
        || BenchError::Stuck { what: "purging", limit: PURGE_LIMIT, folder: trio.folder().display().to_string() };
    wait::until(PURGE_LIMIT, purged).await.map(drop).ok_or_else(stuck)
}

/// Memory of gateway and worker over time, in bytes.
struct Memory {
    processes: [u32; 2],
    samples: Vec<[u64; 2]>,
}

struct Summary {
    most_mb: f64,
    growth_percent: f64,
}

impl Memory {
    fn sample(&mut self) {
        // What has ended has no memory, and the standstill is noticed elsewhere.
        self.samples.push(self.processes.map(|process| resident_bytes(process).unwrap_or_default()));
    }

    fn of(&self, process: usize) -> Summary {
        let megabytes: Vec<f64> = self.samples.iter().map(|sample| sample[process] as f64 / 1e6).collect();
        let quarter = megabytes.len() / 4;
        let typical = |part: &[f64]| median(&mut part.to_vec());
        let (second, last) = (typical(&megabytes[quarter..2 * quarter]), typical(&megabytes[3 * quarter..]));
        Summary {
            most_mb: megabytes.iter().copied().fold(f64::NAN, f64::max),
            growth_percent: (last / second - 1.0) * 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_last_quarter_over_the_second() {
        let megabytes = [10, 20, 100, 100, 105, 110, 120, 120];
        let samples = megabytes.map(|mb| [mb * 1_000_000, 7_000_000]).to_vec();
        let memory = Memory { processes: [0; 2], samples };
        assert!((memory.of(0).growth_percent - 20.0).abs() < 1e-9);
        assert_eq!(memory.of(0).most_mb, 120.0);
        assert_eq!((memory.of(1).most_mb, memory.of(1).growth_percent), (7.0, 0.0));
    }
}
