//! The clock-jump drill: the gateway's wall clock jumps, and neither loses a job nor starts a storm.
//!
//! A small library, compiled for the drill and loaded before the C library, stands between the gateway and the system's clock: it
//! adds an offset that the drill writes into a file. So all of the gateway sees the jump, as it would see the real one, and
//! the product needs no setting for it. First API 2 is down: however the clock jumps, it gets no more calls than in any outage.
//! Then it is up: no lease may lapse, no job may be sent twice, and jobs that come in are delivered at once.
//!
//! A clock that is set back lets what waits for its own time wait longer, by as much; it is delivered when the clock is right.

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::client::Gateway;
use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::image;
use crate::ledger::{self, Intent};
use crate::mixed::{Mixed, MixedLedger};
use crate::report::{MAX_SHOWN, ON_ITS_WAY, Progress};
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::verdict::{Claims, Tally};
use crate::wait;

/// Stands before the C library's `clock_gettime`: the wall clock, and seconds from the start of a file.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("DRILL_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) offset = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && offset) now->tv_sec += *offset;
    return failed;
}
"#;

/// Jobs that meet the outage.
const JOBS: u64 = 200;
/// How long the calls to an API that is down are counted after each jump.
const COUNTED: Duration = Duration::from_secs(3);
/// The most calls within any second to an API that is down: the goal of every outage.
const MOST_CALLS: u64 = 4;
/// How long a client posts before and after each jump: beyond a lease's term, so that one that lapses is seen.
const POSTING: Duration = Duration::from_secs(6);
const LIMIT: Duration = Duration::from_secs(60);

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub by: Duration,
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct ClockJumpReport {
    pub passed: bool,
    pub by_seconds: f64,
    pub tally: Tally,
    pub figures: Vec<Figure>,
}

/// Whether the clock can be made to jump here.
///
/// # Errors
/// Why not, in words.
pub fn check() -> Result<(), String> {
    if cfg!(target_os = "linux") && image::is_there("cc") {
        Ok(())
    } else {
        Err("this drill needs Linux and a C compiler".to_owned())
    }
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or the clock cannot be changed.
pub async fn run(
    programs: &Programs,
    settings: Settings,
    progress: &mut Progress,
) -> Result<ClockJumpReport, DrillError> {
    let folder = tempfile::tempdir().map_err(DrillError::io("make a folder for the clock"))?;
    let mut offset = Offset::make(folder.path())?;
    let plan = Plan {
        health_checks: false,
        destination_settings: "retry = { base = \"2s\", max_delay = \"10s\" }".to_owned(),
        gateway_variables: offset.variables(),
        ..Plan::default()
    };
    let mut trio = Trio::start(programs, plan).await?;
    let by = i64::try_from(settings.by.as_secs()).unwrap_or(i64::MAX / 4);
    let mut ledger = MixedLedger::default();
    let mut figures = Vec::new();

    progress.say("API 2 is down");
    let intents = (0..JOBS).map(|number| Intent::numbered(&run_name(), number, settings.seed)).collect();
    ledger.client.merge(ledger::post_all(trio.gateway(), API2, intents, LIMIT).await);
    held(trio.gateway()).await?;
    for (jump, name) in [(0, "no jump"), (by, "forth"), (-by, "back, and as far again")] {
        offset.set(jump)?;
        let worst = worst_second(&trio).await?;
        figures.push(Figure::new(
            &format!("calls in the worst second to an API that is down: {name}"),
            worst as f64,
            "",
            Goal::AtMost(MOST_CALLS as f64),
        ));
    }
    offset.set(0)?;

    progress.say("API 2 is up");
    trio.api2().set_weather(&json!({"mode": "latency", "ms": 20, "jitter_ms": 50})).await?;
    let lapsed_before = lapsed(trio.gateway()).await?;
    for (jump, name) in [(by, "forth"), (-by, "back, and as far again")] {
        let client = Mixed::start(trio.gateway(), settings.seed);
        tokio::time::sleep(POSTING / 2).await;
        offset.set(jump)?;
        let moment = clock::wall();
        tokio::time::sleep(POSTING).await;
        let posted = client.stop().await;
        let after = delivered_after(&trio, &posted, moment).await?;
        figures.push(Figure::new(&format!("delivered after the jump {name}"), after as f64, "", Goal::AtLeast(1.0)));
        merge(&mut ledger, posted);
        if jump > 0 {
            // Setting it right is a jump back, after which a job's delay of this hour would last another one.
            drained(trio.gateway()).await;
        }
        offset.set(0)?;
    }
    let gateway = trio.gateway().clone();
    drained(&gateway).await;
    let lapsed = lapsed(&gateway).await? - lapsed_before;
    // A delay is a span of the gateway's own wall clock: with the jumps it says nothing about ours.
    ledger.not_before.clear();
    let mut tally = Tally::default();
    tally.judge(&trio, &ledger, Claims::AreKept).await?;
    trio.gateway_process().kill();
    tally.violations.extend(trio.audit()?.findings());
    Ok(ClockJumpReport::new(settings.by, tally, lapsed, figures))
}

fn run_name() -> String {
    clock::new_uuid().simple().to_string()
}

/// Waits until no job waits. What still does is told by the comparison.
async fn drained(gateway: &Gateway) {
    drop(wait::until(LIMIT, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0)).await);
}

async fn held(gateway: &Gateway) -> Result<(), DrillError> {
    let held = async || {
        let shown = gateway.destination(API2).await.ok()?;
        (shown.state == "open" && gateway.stats().await.ok()?.of("leased") == 0).then_some(())
    };
    wait::until(LIMIT, held).await.ok_or_else(|| DrillError::never("the hold", LIMIT))
}

/// Most calls that API 2 gets within any second of the next few.
async fn worst_second(trio: &Trio) -> Result<u64, DrillError> {
    trio.api2().clear_ledger().await?;
    tokio::time::sleep(ON_ITS_WAY + COUNTED).await;
    let seconds = trio.api2().ledger().await?.per_second;
    Ok(seconds.iter().map(|second| second.requests).max().unwrap_or_default())
}

async fn lapsed(gateway: &Gateway) -> Result<u64, DrillError> {
    Ok(gateway.stats().await?.duplicates.get("lease_lapsed").copied().unwrap_or_default())
}

/// How many of the jobs arrived after `moment`, which is one of the drill's own clock, as API 2's times are.
async fn delivered_after(trio: &Trio, posted: &MixedLedger, moment: Timestamp) -> Result<usize, DrillError> {
    let mut delivered = 0;
    for id in posted.client.acknowledged().values() {
        let received = trio.api2().received(*id).await?;
        delivered += usize::from(received.is_some_and(|it| it.requests.iter().any(|request| request.time > moment)));
    }
    Ok(delivered)
}

fn merge(all: &mut MixedLedger, other: MixedLedger) {
    all.client.merge(other.client);
    all.in_order.extend(other.in_order);
    all.given_up.extend(other.given_up);
}

/// The offset of the gateway's wall clock, and what puts it there.
struct Offset {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Offset {
    fn make(folder: &Path) -> Result<Self, DrillError> {
        let (source, library, path) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("offset"));
        std::fs::write(&source, SHIM).map_err(DrillError::io("write the clock's source"))?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let status = compile.status().map_err(DrillError::io("compile the clock"))?;
        if !status.success() {
            return Err(DrillError::Io { doing: "compile the clock", source: std::io::Error::other("cc failed") });
        }
        let file = File::create(&path).map_err(DrillError::io("make the clock's file"))?;
        let mut offset = Offset { library, path, file };
        offset.set(0)?;
        Ok(offset)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![variable("LD_PRELOAD", &self.library), variable("DRILL_CLOCK_OFFSET", &self.path)]
    }

    /// Seconds from the true time, from this moment on.
    fn set(&mut self, seconds: i64) -> Result<(), DrillError> {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&seconds.to_ne_bytes()));
        written.map_err(DrillError::io("let the clock jump"))
    }
}

impl ClockJumpReport {
    fn new(by: Duration, tally: Tally, lapsed: u64, mut figures: Vec<Figure>) -> Self {
        let count = |name: &str, value: u64| Figure::new(name, value as f64, "", Goal::AtMost(0.0));
        figures.extend([
            count("acknowledged jobs lost", tally.lost),
            count("jobs dead", tally.dead),
            count("leases lapsed", lapsed),
            count("delivered again", tally.duplicates.total()),
            count("anything else wrong", tally.violations.len() as u64),
        ]);
        ClockJumpReport { passed: all_met(&figures) && tally.holds(), by_seconds: by.as_secs_f64(), tally, figures }
    }
}

impl fmt::Display for ClockJumpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClockJumpReport { tally, .. } = self;
        writeln!(
            f,
            "jumps of {:.0} s: {} jobs accepted, {} delivered\n\n{}",
            self.by_seconds,
            tally.accepted,
            tally.delivered,
            Table(&self.figures)
        )?;
        for violation in tally.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        write!(f, "{}", if self.passed { "It holds." } else { "It does not hold." })
    }
}
