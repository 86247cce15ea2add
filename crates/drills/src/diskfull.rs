//! The disk-full drill: jobs come in until the disk under the store is full, then there is room again.
//!
//! The store is on a disk of 16 MiB of its own ([`crate::image`]), part of which somebody else's file takes. While API 2 is down, jobs
//! are posted until nothing more is accepted; it comes back, and what is stored is worked off on the full disk; the other file
//! goes, and jobs are accepted again. Once with `--min-free`, which keeps room so that stored jobs can be settled, and once
//! without, where the disk is full to the last byte and outcomes may have to wait for room as well, at their workers.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use serde::Serialize;

use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::image::{self, Image};
use crate::ledger::{self, Intent};
use crate::mixed::MixedLedger;
use crate::report::{MAX_SHOWN, Progress};
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::verdict::{Claims, Tally};
use crate::wait;

const DISK_MIB: u64 = 16;
/// What somebody else's file takes of it.
const OTHERS: u64 = 5 * MIB;
const MIB: u64 = 1024 * 1024;

/// Payloads are of this size, so that few jobs fill the disk: to settle a job takes room, too.
const PAYLOAD: usize = 8 * 1024;
const POSTERS: u64 = 8;
/// Refusals in a row of each poster that show that the disk is full: over a second of them, so that a moment's is not enough.
const REFUSALS: u32 = 8;
const REFUSAL_PAUSE: Duration = Duration::from_millis(150);

/// Serving again within this: the goal.
const BACK_WITHIN: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct DiskFullReport {
    pub passed: bool,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// Plays it with and without room kept free.
///
/// # Errors
/// [`DrillError`] when the programs or the disk cannot be run.
pub async fn run(programs: &Programs, seed: u64, progress: &mut Progress) -> Result<DiskFullReport, DrillError> {
    let mut report = DiskFullReport { passed: true, figures: Vec::new(), violations: Vec::new() };
    for (min_free, name) in [("2MiB", "2 MiB kept free"), ("0", "nothing kept free")] {
        progress.say(&format!("a disk of {DISK_MIB} MiB, {name}"));
        let tally = fill(programs, seed, min_free, name, &mut report.figures).await?;
        report.violations.extend(tally.violations.iter().map(|violation| format!("{name}: {violation}")));
        report.passed &= tally.holds();
    }
    report.passed &= all_met(&report.figures);
    Ok(report)
}

async fn fill(
    programs: &Programs,
    seed: u64,
    min_free: &str,
    name: &str,
    figures: &mut Vec<Figure>,
) -> Result<Tally, DrillError> {
    let image = Image::make(DISK_MIB)?;
    let others = image.path().join("somebody-elses");
    take(&others, OTHERS).map_err(DrillError::io("take room on the disk"))?;
    let plan = Plan {
        health_checks: true,
        destination_settings: "retry = { base = \"50ms\", max_delay = \"500ms\" }".to_owned(),
        gateway_flags: vec!["--min-free".to_owned(), min_free.to_owned()],
        store_in: Some(image.path()),
        ..Plan::default()
    };
    let mut trio = Trio::start(programs, plan).await?;
    let (mut ledger, refused) = post_until_full(&trio, seed).await;
    let free = image::free_bytes(&image.path()).map_err(DrillError::io("look at the disk"))?;
    let waiting = trio.gateway().stats().await?.waiting();

    // On the full disk, what is stored is worked off.
    trio.api2().toggle().await?;
    let gateway = trio.gateway().clone();
    let ended = async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0);
    // Without room kept free nothing is promised here.
    let patience = if min_free == "0" { BACK_WITHIN } else { LIMIT };
    drop(wait::until(patience, ended).await);
    let settled = waiting.saturating_sub(gateway.stats().await?.waiting());

    std::fs::remove_file(&others).map_err(DrillError::io("make room on the disk"))?;
    let room_since = clock::instant();
    let back = accepted_again(&trio, seed, room_since, &mut ledger).await;
    for intent in refused.iter() {
        let posted = ledger::post(&gateway, API2, intent, LIMIT).await;
        ledger.given_up.extend(posted.id.is_none().then(|| posted.last_failure.clone().unwrap_or_default()));
        ledger.client.note(posted);
    }
    // What still waits is told by the comparison.
    drop(wait::until(LIMIT, ended).await);
    let mut tally = Tally::default();
    tally.judge(&trio, &ledger, Claims::AreKept).await?;
    trio.gateway_process().kill();
    tally.violations.extend(trio.audit()?.findings());

    let settled_goal = if min_free == "0" { Goal::None } else { Goal::AtLeast(1.0) };
    figures.extend([
        Figure::new(&format!("{name}: false acknowledgements"), tally.lost as f64, "", Goal::AtMost(0.0))
            .beside("jobs accepted", tally.accepted as f64)
            .beside("requests refused when it was full", refused.len() as f64)
            .beside("KiB free then", free as f64 / 1024.0),
        Figure::new(&format!("{name}: settled while it was full"), settled as f64 / waiting as f64, "", settled_goal)
            .beside("jobs that waited", waiting as f64),
        Figure::new(&format!("{name}: accepting again after"), back, "s", Goal::AtMost(BACK_WITHIN.as_secs_f64())),
    ]);
    Ok(tally)
}

/// Posts until the disk is full: what was acknowledged, and the requests that were not.
async fn post_until_full(trio: &Trio, seed: u64) -> (MixedLedger, Vec<Intent>) {
    let mut posters = tokio::task::JoinSet::new();
    let run = clock::new_uuid().simple().to_string();
    for poster in 0..POSTERS {
        let (gateway, run) = (trio.gateway().clone(), format!("{run}-{poster}"));
        posters.spawn(async move {
            let (mut ledger, mut refused, mut in_a_row) = (MixedLedger::default(), Vec::new(), 0);
            let mut number = 0;
            while in_a_row < REFUSALS {
                let intent = large(&run, number, seed);
                let posted = ledger::post(&gateway, API2, &intent, Duration::ZERO).await;
                number += 1;
                if posted.id.is_some() {
                    in_a_row = 0;
                    ledger.client.note(posted);
                } else {
                    in_a_row += 1;
                    refused.push(intent);
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                }
            }
            (ledger, refused)
        });
    }
    let (mut all, mut unaccepted) = (MixedLedger::default(), Vec::new());
    for (ledger, refused) in posters.join_all().await {
        all.client.merge(ledger.client);
        unaccepted.extend(refused);
    }
    (all, unaccepted)
}

/// Seconds until a job is accepted again.
async fn accepted_again(trio: &Trio, seed: u64, since: Instant, ledger: &mut MixedLedger) -> f64 {
    let intent = Intent::numbered(&format!("again-{}", clock::new_uuid().simple()), 0, seed);
    let posted = ledger::post(trio.gateway(), API2, &intent, LIMIT).await;
    let back = if posted.id.is_some() { since.elapsed().as_secs_f64() } else { f64::NAN };
    ledger.client.note(posted);
    back
}

fn large(run: &str, number: u64, seed: u64) -> Intent {
    let Intent { key, .. } = Intent::numbered(run, number, seed);
    let body = format!(r#"{{"number":{number},"filler":"{}"}}"#, "x".repeat(PAYLOAD));
    Intent { key, body }
}

/// A file that really takes the room of its size.
fn take(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for _ in 0..bytes / MIB {
        file.write_all(&vec![1; MIB as usize])?;
    }
    file.sync_all()
}

impl fmt::Display for DiskFullReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Table(&self.figures))?;
        for violation in self.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        write!(f, "{}", if self.passed { "It holds." } else { "It does not hold." })
    }
}
