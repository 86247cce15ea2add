//! Partitions: the worker cut from the gateway, or from the destination, both ways and one way; worker and gateway that stand still
//! for longer than a lease.
//!
//! Real programs on machines of their own ([`networks`]), and a client that posts all the time. Each is healed after a while; then
//! nothing may be lost or done twice without a record that explains it, and work must go on within seconds. [`catalogue`] lists
//! them, [`play`] plays one.

mod catalogue;
mod networks;
mod play;
mod stage;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};

pub use self::networks::{Unable, enter_network};
pub use self::play::PartitionReport;
use crate::error::DrillError;
use crate::report::Progress;
use crate::trio::build::Programs;

/// How large it is played.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How long each lasts: longer than a lease of 5 s.
    lasts: Duration,
    /// How often each is played.
    times: u8,
    /// At a time.
    at_once: usize,
    /// When work must go on, and when the backlog must be gone.
    noticed: Duration,
    drained: Duration,
}

impl Size {
    /// For every commit, on a machine that does other things.
    pub const QUICK: Size = Size {
        lasts: Duration::from_secs(8),
        times: 1,
        at_once: 9,
        noticed: Duration::from_secs(15),
        drained: Duration::from_secs(60),
    };
    /// For figures.
    pub const LONG: Size = Size {
        lasts: Duration::from_secs(30),
        times: 3,
        at_once: 9,
        noticed: Duration::from_secs(5),
        drained: Duration::from_secs(20),
    };
}

/// How all of them went.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionsReport {
    pub passed: bool,
    /// How long each lasted.
    pub lasted_ms: u64,
    pub partitions: Vec<PartitionReport>,
}

/// Plays all of them. The process must be in a network of its own, as after [`enter_network`].
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub async fn run(
    programs: &Programs,
    size: Size,
    seed: u64,
    progress: &mut Progress,
) -> Result<PartitionsReport, DrillError> {
    networks::route()?;
    let mut left = (0..size.times).flat_map(|_| catalogue::ALL.iter()).zip(0..);
    let mut partitions: Vec<PartitionReport> = Vec::new();
    // All on the calling thread, which holds the leash of the programs.
    let all = LocalSet::new();
    let played = all.run_until(async {
        let mut playing = JoinSet::new();
        loop {
            while playing.len() < size.at_once
                && let Some((partition, number)) = left.next()
            {
                let programs = programs.clone();
                progress.say(&format!("{}: {}", partition.name, partition.what));
                playing.spawn_local(async move { play::play(&programs, partition, number, size, seed).await });
            }
            match playing.join_next().await {
                Some(played) => partitions.push(played.expect("playing does not panic")?),
                None => return Ok::<_, DrillError>(()),
            }
        }
    });
    played.await?;
    let place = |report: &PartitionReport| catalogue::ALL.iter().position(|it| it.name == report.name);
    partitions.sort_by_key(place);
    let passed = partitions.iter().all(|report| report.passed);
    Ok(PartitionsReport { passed, lasted_ms: crate::report::millis(size.lasts), partitions })
}

impl fmt::Display for PartitionsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<21} {:>8} {:>9} {:>10} {:>6} {:>8} {:>5} {:>9} {:>9}",
            "partition", "accepted", "delivered", "duplicates", "lapsed", "charged", "late", "noticed", "drained"
        )?;
        for report in &self.partitions {
            let ms = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
            let PartitionReport { name, accepted, delivered, duplicates, lapsed, charged, late_successes, .. } = report;
            write!(f, "{name:<21} {accepted:>8} {delivered:>9} {duplicates:>10} {lapsed:>6} {charged:>8}")?;
            writeln!(f, " {late_successes:>5} {:>9} {:>9}", ms(report.noticed_ms), ms(report.drained_ms))?;
            for miss in &report.misses {
                writeln!(f, "  ! {miss}")?;
            }
        }
        writeln!(
            f,
            "\nEach lasted {} ms. lapsed: leases. charged: attempts counted against jobs. late: successes taken when the lease had\n\
             lapsed and nothing was granted. noticed, drained: from healed to the next success, and to the last.\n",
            self.lasted_ms
        )?;
        write!(f, "{}", if self.passed { "All bounds were kept." } else { "NOT ALL BOUNDS WERE KEPT." })
    }
}
