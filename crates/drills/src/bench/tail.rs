//! The slowest accepts, while everything goes on that makes an accept wait: checkpoints, retention and a backup.
//!
//! Half of what the whole system can do comes in, is delivered and is purged a second later, and a backup is made of the store
//! meanwhile. The same load goes to noop beside the same deliveries of nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jobs_core::process::clock;
use reqwest::Method;

use super::disk::Disk;
use super::{Bench, BenchError, load, paced, percentile, say, steady};
use crate::chart::{Chart, Panel, Series};
use crate::figure::{Figure, Goal};
use crate::trio::Trio;

/// What one accept of a thousand may take: so many of noop's, and so many syncs.
const NOOPS: f64 = 5.0;
const SYNCS: f64 = 20.0;
/// The log is never larger.
const GOAL_LOG_MIB: f64 = 64.0;
const SHARE: f64 = 0.999;

/// How often the log's size is read.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) async fn measure(bench: &Bench, disk: &mut Disk) -> Result<(Vec<Figure>, Chart), BenchError> {
    let (finding, span) = if bench.quick { (1, 4) } else { (8, 60) };
    let (finding, span) = (Duration::from_secs(finding), Duration::from_secs(span));
    say(&format!("accept for {span:?} at half load, with checkpoints, retention and a backup"));
    let (_noop, noop) = bench.reference("noop").await?;
    let (_sink, sink) = bench.reference("sink").await?;
    let backups = bench.folder().join("backups");
    std::fs::create_dir_all(&backups).map_err(BenchError::io("make a folder for backups"))?;
    let flags = ["--retain-succeeded", "1s", "--backup-dir", &backups.display().to_string()].map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let trio = bench.start(1, &format!("http://{sink}/"), &flags).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let half = steady::rate(&trio, sink, finding).await? / 2.0;
    let request = |address| load::request("POST", address, "/api1/process", &load::payload());
    let failed = || BenchError::io("put load on a server");
    let noops = paced::load(noop, &request(noop), half, span / 4).await.map_err(failed())?;
    disk.sync()?;

    let post = request(gateway);
    let loading = paced::load(gateway, &post, half, span);
    let log = trio.folder().join("jobs.db-wal");
    let (accepts, sizes, backup_ms) = tokio::join!(loading, watch(&log, span), back_up(&trio, span / 3));
    let accepts = accepts.map_err(failed())?;
    let backup_ms = backup_ms?;
    std::fs::remove_dir_all(&backups).map_err(BenchError::io("remove the backups"))?;

    let p = |all: &[(f64, f64)], share| percentile(&mut all.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(), share);
    let (noop_ms, sync_ms) = (p(&noops, SHARE), disk.sync_p50_ms().0);
    let bound = NOOPS * noop_ms + SYNCS * sync_ms;
    let most = sizes.iter().map(|(_, mib)| *mib).fold(f64::NAN, f64::max);
    let figures = vec![
        Figure::new("accept p99.9 while all goes on, of its bound", p(&accepts, SHARE) / bound, "", Goal::AtMost(1.0))
            .beside("posted to accepted, p99.9, ms", p(&accepts, SHARE))
            .beside("posted to accepted, p50, ms", p(&accepts, 0.5))
            .beside("noop, p99.9, ms", noop_ms)
            .beside("the bound, 5 noop and 20 fdatasync, ms", bound)
            .beside("accepted and delivered /s", accepts.len() as f64 / span.as_secs_f64())
            .beside("the backup took, ms", backup_ms),
        Figure::new("largest log meanwhile", most, "MiB", Goal::AtMost(GOAL_LOG_MIB)),
    ];
    Ok((figures, chart(&accepts, &sizes, half, span)))
}

/// Makes a backup after `pause`; answers with the milliseconds it took.
async fn back_up(trio: &Trio, pause: Duration) -> Result<f64, BenchError> {
    tokio::time::sleep(pause).await;
    let began = clock::instant();
    trio.gateway().call(Method::POST, "/api1/backup").await?.json::<serde_json::Value>()?;
    Ok(began.elapsed().as_secs_f64() * 1_000.0)
}

/// The log's size in MiB, over time. SQLite keeps the file's largest size, which is the one that counts for the disk.
async fn watch(log: &Path, span: Duration) -> Vec<(f64, f64)> {
    let began = clock::instant();
    let mut sizes = Vec::new();
    while began.elapsed() < span {
        let size = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        sizes.push((began.elapsed().as_secs_f64(), size as f64 / f64::from(1 << 20)));
        tokio::time::sleep(INTERVAL).await;
    }
    sizes
}

fn chart(accepts: &[(f64, f64)], sizes: &[(f64, f64)], rate: f64, span: Duration) -> Chart {
    const BINS_PER_SECOND: f64 = 5.0;
    let bins = (span.as_secs_f64() * BINS_PER_SECOND) as usize;
    let mut slowest = vec![0.0_f64; bins];
    for (at, ms) in accepts {
        if let Some(bin) = slowest.get_mut((at * BINS_PER_SECOND) as usize) {
            *bin = bin.max(*ms);
        }
    }
    let slowest = slowest.into_iter().enumerate().map(|(bin, ms)| (bin as f64 / BINS_PER_SECOND, ms)).collect();
    let panel = |title: &str, name: &str, points| Panel {
        title: title.to_owned(),
        series: vec![Series { name: name.to_owned(), model: false, points }],
    };
    Chart {
        title: "Accepting while everything goes on".to_owned(),
        about: format!(
            "{rate:.0} jobs a second come, are delivered and purged; a backup is made after a third of the time"
        ),
        seconds: (0.0, span.as_secs_f64()),
        shaded: None,
        panels: vec![
            panel("Milliseconds from posted to accepted", "slowest of each 0.2 s", slowest),
            panel("MiB of the log", "file size", sizes.to_vec()),
        ],
    }
}
