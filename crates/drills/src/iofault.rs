//! The fault drill: each write and each sync of the real gateway fails, one run after the other.
//!
//! strace makes the n-th `pwrite64`, `fdatasync` or `fsync` of a thread fail with EIO or ENOSPC, or kills the program as it makes it:
//! during the first start on a new file, and while jobs come in and a clean stop follows. What was acknowledged must be there
//! after a start without faults, and everything must end; after a failed sync the gateway must end with a failure rather than go
//! on, because nobody knows what is on the disk. How many calls there are is counted in a run without faults.

mod report;
mod strace;

use std::process::ExitStatus;
use std::time::Duration;

use jobs_core::process::clock;

use self::report::{Run, Stage};
use self::strace::{Call, Fault, Injection, Strace, Trace};
use crate::error::DrillError;
use crate::image;
use crate::ledger::{self, Intent, Posted, mixed};
use crate::mixed::MixedLedger;
use crate::report::Progress;
use crate::trio::build::Programs;
use crate::trio::process::stands_still;
use crate::trio::{API2, Plan, Trio};
use crate::verdict::{Claims, Tally};
use crate::wait;

pub use self::report::IoFaultReport;

/// Jobs that come in under each fault: enough that every kind of commit is made.
const JOBS: u64 = 6;

/// A gateway starts, settles and stops far within it; leases that a fault has left behind lapse after 5 s.
const LIMIT: Duration = Duration::from_secs(30);
/// Without room for it, an outcome waits at its worker: then nothing more happens until the start without faults.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Calls of each kind that are made to fail, in each stage and way.
    pub most: u64,
    pub seed: u64,
}

/// Whether faults can be injected here.
///
/// # Errors
/// Why not, in words.
pub fn check() -> Result<(), String> {
    if !cfg!(target_os = "linux") || !image::is_there("strace") {
        return Err("this drill needs Linux and strace".to_owned());
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if !matches!(scope.trim(), "" | "0") && !rustix::process::geteuid().is_root() {
        return Err("this drill needs root, or kernel.yama.ptrace_scope = 0, to trace the gateway".to_owned());
    }
    Ok(())
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs or strace cannot be run; what goes wrong with the jobs is in the report instead.
pub async fn run(
    programs: &Programs,
    settings: Settings,
    progress: &mut Progress,
) -> Result<IoFaultReport, DrillError> {
    let began = clock::instant();
    let plan = Plan {
        up: true,
        health_checks: true,
        destination_settings: "retry = { base = \"50ms\", max_delay = \"500ms\" }".to_owned(),
        ..Plan::default()
    };
    let mut drill = Drill { trio: Trio::start(programs, plan).await?, seed: settings.seed, runs: Vec::new() };
    for stage in [Stage::FirstStart, Stage::AtWork] {
        let counted = drill.play(stage, None).await?;
        for call in Call::ALL {
            let calls = counted.most(call);
            progress.say(&format!(
                "{}: {calls} times {}, {} of them fail in 3 ways",
                stage.name(),
                call.name(),
                calls.min(settings.most)
            ));
            for fault in Fault::ALL {
                for number in spread(calls, settings.most, settings.seed) {
                    drill.play(stage, Some(Injection { call, fault, number })).await?;
                }
            }
        }
    }
    let report = IoFaultReport::new(drill.runs, began.elapsed());
    if !report.passed {
        progress.say(&format!("store and logs stay in {}", drill.trio.keep_folder().display()));
    }
    Ok(report)
}

/// At most `most` of the numbers 1 to `calls`: the first, and the others spread over the rest, where the seed says.
fn spread(calls: u64, most: u64, seed: u64) -> Vec<u64> {
    if calls <= most {
        return (1..=calls).collect();
    }
    let part = |number: u64| 2 + number * (calls - 1) / (most - 1).max(1);
    let within = |number: u64| part(number) + mixed(seed, number) % (part(number + 1) - part(number)).max(1);
    std::iter::once(1).chain((0..most - 1).map(within)).collect()
}

struct Drill {
    trio: Trio,
    seed: u64,
    runs: Vec<Run>,
}

impl Drill {
    /// One run: a new store, a gateway with the fault, and what is left of it after a start without.
    async fn play(&mut self, stage: Stage, injection: Option<Injection>) -> Result<Trace, DrillError> {
        self.begin_anew().await?;
        let strace = self.start_traced(stage, injection).await?;
        let mut ledger = MixedLedger::default();
        let intents = self.post(&mut ledger).await;
        let ended = self.stop().await;
        let trace = strace.finish()?;
        let tally = self.recover(ledger, &intents).await?;
        if let Some(injection) = injection {
            self.runs.push(Run::new(stage, injection, ended, trace.injected().as_deref(), tally));
        }
        Ok(trace)
    }

    async fn begin_anew(&mut self) -> Result<(), DrillError> {
        self.trio.gateway_process().kill();
        for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
            let mut file = self.trio.store().into_os_string();
            file.push(suffix);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(DrillError::Io { doing: "remove the last run's store", source: error });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(self.trio.api2().clear_ledger().await?)
    }

    /// Starts the gateway under strace: from its first call on, or once it is ready.
    async fn start_traced(&mut self, stage: Stage, injection: Option<Injection>) -> Result<Strace, DrillError> {
        let output = self.trio.folder().join("strace");
        match stage {
            Stage::FirstStart => {
                self.trio.begin_gateway(true)?;
                let id = self.trio.gateway_process().id();
                let stands = wait::until(LIMIT, async || stands_still(id).then_some(())).await;
                stands.ok_or_else(|| DrillError::never("the gateway's standing still before it begins", LIMIT))?;
                let strace = Strace::attach(id, injection, output).await?;
                self.trio.gateway_process().resume();
                // It may not get so far: then it has ended, which the run goes on from.
                drop(self.trio.gateway_ready().await);
                Ok(strace)
            }
            Stage::AtWork => {
                self.trio.restart_gateway().await?;
                Strace::attach(self.trio.gateway_process().id(), injection, output).await
            }
        }
    }

    /// Posts the run's jobs, each once, some at the same moment; what was acknowledged is in `ledger`.
    async fn post(&self, ledger: &mut MixedLedger) -> Vec<Intent> {
        let run = clock::new_uuid().simple().to_string();
        let intents: Vec<Intent> = (0..JOBS).map(|number| Intent::numbered(&run, number, self.seed)).collect();
        for pair in intents.chunks(2) {
            let (one, other) = tokio::join!(self.post_once(&pair[0]), self.post_once(&pair[1]));
            for posted in [one, other].into_iter().filter(|posted| posted.id.is_some()) {
                ledger.client.note(posted);
            }
        }
        intents
    }

    async fn post_once(&self, intent: &Intent) -> Posted {
        ledger::post(self.trio.gateway(), API2, intent, Duration::ZERO).await
    }

    /// Lets the gateway settle what it can, and stops it. `None`: it would not stop.
    async fn stop(&mut self) -> Option<ExitStatus> {
        let gateway = self.trio.gateway().clone();
        let process = self.trio.gateway_process();
        let settled = wait::until(SETTLE_LIMIT, async || match process.ended() {
            Some(_) => Some(()),
            None => gateway.stats().await.ok().filter(|stats| stats.waiting() == 0).map(drop),
        });
        // Whatever still waits is delivered after the start without faults.
        let _in_time: Option<()> = settled.await;
        process.terminate();
        let ended = process.exited(LIMIT).await.ok();
        process.kill();
        ended
    }

    /// Starts without faults: everything that was asked for must be there or be taken now, and must end.
    async fn recover(&mut self, mut ledger: MixedLedger, intents: &[Intent]) -> Result<Tally, DrillError> {
        let mut tally = Tally::default();
        if let Err(error) = self.trio.restart_gateway().await {
            tally.violations.push(format!("it does not start again: {error}"));
            return Ok(tally);
        }
        let gateway = self.trio.gateway().clone();
        for intent in intents {
            let known = ledger.client.acknowledged().contains_key(&intent.key);
            let posted = ledger::post(&gateway, API2, intent, LIMIT).await;
            if posted.id.is_none() {
                ledger.given_up.push(posted.last_failure.clone().unwrap_or_default());
            } else if known {
                ledger.client.note_repetition(posted);
            } else {
                ledger.client.note(posted);
            }
        }
        // What still waits then is told by the comparison.
        drop(wait::until(LIMIT, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0)).await);
        tally.judge(&self.trio, &ledger, Claims::AreKept).await?;
        self.trio.gateway_process().kill();
        tally.violations.extend(self.trio.audit()?.findings());
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_all_where_they_are_few_and_else_spread_over_all() {
        assert_eq!(spread(3, 4, 1), [1, 2, 3]);
        assert!(spread(0, 4, 1).is_empty());
        assert_eq!(spread(9, 1, 1), [1]);
        for seed in 0..50 {
            let numbers = spread(100, 5, seed);
            assert!(numbers.len() == 5 && numbers[0] == 1 && numbers.is_sorted(), "{numbers:?}");
            assert!(numbers[4] > 75 && numbers[4] <= 100, "{numbers:?}");
        }
    }
}
