//! What the runs came to.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use serde::Serialize;

use super::strace::{Call, Fault, Injection};
use crate::figure::{Figure, Goal, Table, all_met};
use crate::report::MAX_SHOWN;
use crate::verdict::Tally;

const SIGKILL: i32 = 9;

/// When a fault is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From the first call of the first start on a new file.
    FirstStart,
    /// Once the gateway is ready: jobs, outcomes, and a clean stop.
    AtWork,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::FirstStart => "first start",
            Stage::AtWork => "at work",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub stage: Stage,
    pub call: Call,
    pub fault: Fault,
    /// Which of a thread's calls.
    pub number: u64,
    /// It came to that call.
    pub met: bool,
    /// It ended with a failure of its own accord, or was killed by the fault.
    pub stopped: bool,
    /// Acknowledged, under the fault or after it.
    pub accepted: u64,
    /// Of these, those that were not there.
    pub lost: u64,
    pub violations: Vec<String>,
}

impl Run {
    /// `ended`: how the gateway did, `None` where it would not stop. `injected`: strace's line of the call that failed.
    pub(super) fn new(
        stage: Stage,
        injection: Injection,
        ended: Option<ExitStatus>,
        injected: Option<&str>,
        tally: Tally,
    ) -> Self {
        let Injection { call, fault, number } = injection;
        let killed = ended.is_some_and(|status| status.signal() == Some(SIGKILL));
        let met = injected.is_some() || (fault == Fault::Kill && killed);
        let mut violations: Vec<String> = wrong_end(injection, ended, injected).into_iter().collect();
        violations.extend(tally.violations.iter().cloned());
        violations.extend((tally.given_up > 0).then(|| format!("{} requests were never acknowledged", tally.given_up)));
        let stopped = ended.is_some_and(|status| !status.success());
        Run { stage, call, fault, number, met, stopped, accepted: tally.accepted, lost: tally.lost, violations }
    }
}

/// What is wrong with how the gateway ended, if anything is.
fn wrong_end(injection: Injection, ended: Option<ExitStatus>, injected: Option<&str>) -> Option<String> {
    let Some(status) = ended else { return Some("it did not stop".to_owned()) };
    if injection.fault == Fault::Kill {
        return None;
    }
    if let Some(signal) = status.signal() {
        return Some(format!("it died of signal {signal}"));
    }
    // The log's index is made anew at each start; nothing durable is in it. SQLite makes light of a failed sync of the folder, by
    // fdatasync; the gateway syncs it once more, by fsync, and of that it must not.
    let is_of_store =
        |line: &str| line.contains("/jobs.db>") || line.contains("/jobs.db-wal>") || line.contains("/jobs.db-journal>");
    let matters = injected.is_some_and(|line| injection.call == Call::Fsync || is_of_store(line));
    let must_end = injection.call.is_sync() || injection.fault == Fault::Io;
    (matters && must_end && status.success()).then(|| "it went on as if nothing had been".to_owned())
}

/// How all of them went.
#[derive(Debug, Clone, Serialize)]
pub struct IoFaultReport {
    pub passed: bool,
    pub seconds: f64,
    pub figures: Vec<Figure>,
    pub runs: Vec<Run>,
}

impl IoFaultReport {
    pub(super) fn new(runs: Vec<Run>, took: Duration) -> Self {
        let sum = |count: &dyn Fn(&Run) -> u64| runs.iter().map(count).sum::<u64>() as f64;
        let met = |fault: Fault| sum(&|run| u64::from(run.met && run.fault == fault));
        let stopped = sum(&|run| u64::from(run.met && run.stopped));
        let figures = vec![
            Figure::new("false acknowledgements", sum(&|run| run.lost), "", Goal::AtMost(0.0))
                .beside("jobs acknowledged", sum(&|run| run.accepted)),
            Figure::new("anything else wrong", sum(&|run| run.violations.len() as u64), "", Goal::AtMost(0.0)),
            Figure::new("calls failed with EIO", met(Fault::Io), "", Goal::AtLeast(1.0)),
            Figure::new("calls failed with ENOSPC", met(Fault::NoSpace), "", Goal::AtLeast(1.0)),
            Figure::new("calls during which it was killed", met(Fault::Kill), "", Goal::AtLeast(1.0)),
            Figure::new("of these, ended with a failure", stopped, "", Goal::None),
            Figure::new("faults that were not met", sum(&|run| u64::from(!run.met)), "", Goal::None),
        ];
        IoFaultReport { passed: all_met(&figures), seconds: took.as_secs_f64(), figures, runs }
    }
}

impl fmt::Display for IoFaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} faults in {:.0} s\n\n{}", self.runs.len(), self.seconds, Table(&self.figures))?;
        let each = self.runs.iter().flat_map(|run| run.violations.iter().map(move |violation| (run, violation)));
        for (run, violation) in each.take(MAX_SHOWN) {
            let (stage, fault, call) = (run.stage.name(), run.fault.name(), run.call.name());
            writeln!(f, "  ! {stage}, {fault} at {call} number {}: {violation}", run.number)?;
        }
        write!(
            f,
            "{}",
            if self.passed { "No acknowledgement was false, and nothing is stuck." } else { "It does not hold." }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 fdatasync(3</x/jobs.db-wal>) = -1 EIO (Input/output error) (INJECTED)";

    fn run(call: Call, fault: Fault, raw_status: i32, injected: Option<&str>) -> Run {
        let injection = Injection { call, fault, number: 1 };
        Run::new(Stage::AtWork, injection, Some(ExitStatus::from_raw(raw_status)), injected, Tally::default())
    }

    #[test]
    fn a_gateway_that_goes_on_after_a_failed_sync_is_wrong_and_one_that_ends_is_right() {
        assert_eq!(run(Call::Fdatasync, Fault::NoSpace, 0, Some(LINE)).violations.len(), 1);
        assert!(run(Call::Fdatasync, Fault::NoSpace, 1 << 8, Some(LINE)).violations.is_empty());
        assert!(run(Call::Fdatasync, Fault::Io, 0, None).violations.is_empty(), "the fault was never met");
    }

    #[test]
    fn a_write_for_which_there_is_no_room_may_be_survived_and_one_that_fails_may_not() {
        let line = "7 pwrite64(3</x/jobs.db-wal>, \"\", 24, 0) = -1 EIO (Input/output error) (INJECTED)";
        assert!(run(Call::Pwrite64, Fault::NoSpace, 0, Some(line)).violations.is_empty());
        assert_eq!(run(Call::Pwrite64, Fault::Io, 0, Some(line)).violations.len(), 1);
        let index = line.replace("-wal", "-shm");
        assert!(run(Call::Pwrite64, Fault::Io, 0, Some(&index)).violations.is_empty());
    }

    #[test]
    fn a_failed_sync_of_the_folder_matters_where_it_is_the_gateways_own() {
        let sqlites = "7 fdatasync(3</x>) = -1 EIO (Input/output error) (INJECTED)";
        assert!(run(Call::Fdatasync, Fault::Io, 0, Some(sqlites)).violations.is_empty());
        let own = "7 fsync(3</x>) = -1 EIO (Input/output error) (INJECTED)";
        assert_eq!(run(Call::Fsync, Fault::Io, 0, Some(own)).violations.len(), 1);
    }

    #[test]
    fn a_kill_is_met_when_it_killed_and_a_crash_of_its_own_is_wrong() {
        assert!(run(Call::Fsync, Fault::Kill, SIGKILL, None).met);
        assert!(!run(Call::Fsync, Fault::Kill, 0, None).met);
        assert_eq!(run(Call::Fsync, Fault::Io, 6, Some(LINE)).violations, ["it died of signal 6"]);
    }
}
