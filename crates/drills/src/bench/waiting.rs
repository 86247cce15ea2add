//! What a backlog costs in memory: very many jobs wait for a destination that is down, with a worker at hand.

use std::net::SocketAddr;
use std::time::Duration;

use super::load::Connection;
use super::{Bench, BenchError, NOWHERE, load, say};
use crate::figure::{Figure, Goal};
use crate::trio::process::resident_bytes;

const GATEWAY_GOAL_MB: f64 = 200.0;
const WORKER_GOAL_MB: f64 = 60.0;

/// Jobs of one call while the backlog is made.
const BATCH: usize = 1_000;

/// The outage goes on for so long after the last job came in: probes, heartbeats and sweeps have met the backlog by then.
const SETTLED: Duration = Duration::from_secs(5);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let jobs = if bench.quick { 20_000 } else { 1_000_000 };
    say(&format!("memory with {jobs} jobs waiting"));
    let mut trio = bench.start(1, NOWHERE, &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let processes = [trio.gateway_process().id(), trio.workers()[0].id()];
    let mut connection = Connection::open(gateway).await.map_err(BenchError::io("connect to the gateway"))?;
    let batch = load::request("POST", gateway, "/api1/jobs", &load::batch(&load::payload(), "", BATCH));
    let mut most = [0.0_f64; 2];
    let mut sample = || {
        for (most, process) in most.iter_mut().zip(processes) {
            *most = resident_bytes(process).map_or(f64::NAN, |bytes| bytes as f64 / 1e6).max(*most);
        }
    };
    for _ in 0..jobs / BATCH {
        connection.exchange(&batch).await.map_err(BenchError::io("fill the store"))?;
        sample();
    }
    for _ in 0..10 {
        tokio::time::sleep(SETTLED / 10).await;
        sample();
    }
    let waiting = trio.gateway().stats().await?.waiting();
    let figure = |who: &str, measured, goal| {
        Figure::new(&format!("{who} memory with {jobs} jobs waiting, most"), measured, "MB", Goal::AtMost(goal))
            .beside("jobs waiting at the end", waiting as f64)
    };
    Ok(vec![figure("gateway", most[0], GATEWAY_GOAL_MB), figure("worker", most[1], WORKER_GOAL_MB)])
}
