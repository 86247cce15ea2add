//! The crash drill: gateway and workers are killed with SIGKILL, at random moments, while everything is under way.
//!
//! A client posts jobs with ordering keys, delays and repetitions; API 2 fails in ways that change from round to round; the
//! gateway, a worker or both are killed, now and then in the middle of their start, and started again. After each round all jobs
//! have to end, and the four observers are compared: client's ledger, store, attempt log, API 2's ledger. The store's file is
//! audited as a kill left it. The moments are chosen by the seed; what the processes are doing then is not, so a run is not
//! repeated exactly by its seed.

mod report;

use std::time::Duration;

use jobs_core::process::clock;
use serde_json::{Value, json};

use crate::error::DrillError;
use crate::ledger::mixed;
use crate::mixed::Mixed;
use crate::report::Progress;
use crate::trio::build::Programs;
use crate::trio::{Plan, Trio};
use crate::verdict::{Claims, Tally};
use crate::wait;

pub use self::report::CrashReport;
use self::report::Struck;
pub(crate) use self::report::rule_of_three;

const WORKERS: usize = 2;

/// After so many kills the client pauses, and what it has is compared: a worker's jobs wait for their leases to lapse, which
/// takes longer than all else, so it is not done after each.
const KILLS_A_ROUND: u64 = 10;

/// Between a restart and the next kill: long enough that jobs are claimed, sent and reported, short beside a lease.
const UNHARMED: (u64, u64) = (50, 450);
/// A killed program stays away for so long.
const AWAY: (u64, u64) = (0, 150);
/// A start that is cut short ends within this: around the time that a start takes.
const CUT_SHORT: (u64, u64) = (5, 120);

/// Leases lapse after 5 s and retries are fast, so all jobs end well within it.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// Failures are retried soon, so that a round is short.
const SETTINGS: &str = "retry = { base = \"50ms\", max_delay = \"500ms\" }\nattempt_timeout = \"2s\"";

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub kills: u64,
    pub seed: u64,
}

/// What a kill meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Gateway,
    Worker(usize),
    /// The gateway and a worker in the same moment.
    Both(usize),
    /// The gateway, and once more while it starts again.
    StartingGateway,
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered; what goes wrong with the jobs is in the report instead.
pub async fn run(programs: &Programs, settings: Settings, progress: &mut Progress) -> Result<CrashReport, DrillError> {
    let plan = Plan {
        workers: WORKERS,
        up: true,
        health_checks: true,
        destination_settings: SETTINGS.to_owned(),
        ..Plan::default()
    };
    let began = clock::instant();
    let mut drill = Drill {
        trio: Trio::start(programs, plan).await?,
        draws: Draws::new(settings.seed),
        struck: Struck::default(),
        tally: Tally::default(),
    };
    let mut round = 0;
    while drill.struck.kills() < settings.kills {
        let kills = KILLS_A_ROUND.min(settings.kills - drill.struck.kills());
        drill.play_round(round, kills).await?;
        round += 1;
        let Drill { struck, tally, .. } = &drill;
        progress.say(&format!(
            "{:6.1} s  {} kills  {} accepted  {} delivered  {} lost  {} wrong",
            began.elapsed().as_secs_f64(),
            struck.kills(),
            tally.accepted,
            tally.delivered,
            tally.lost,
            tally.violations.len()
        ));
    }
    drill.trio.gateway_process().kill();
    drill.audit()?;
    let report = CrashReport::new(drill.struck, drill.tally, began.elapsed());
    if !report.passed {
        progress.say(&format!("store and logs stay in {}", drill.trio.keep_folder().display()));
    }
    Ok(report)
}

struct Drill {
    trio: Trio,
    draws: Draws,
    struck: Struck,
    tally: Tally,
}

impl Drill {
    /// So many kills in one weather, then the end of all jobs and the comparison.
    async fn play_round(&mut self, round: u64, kills: u64) -> Result<(), DrillError> {
        let api2 = self.trio.api2().clone();
        api2.clear_ledger().await?;
        api2.set_weather(&weather(round, self.draws.seed)).await?;
        let client = Mixed::start(self.trio.gateway(), self.draws.seed.wrapping_add(round));
        let until = self.struck.kills() + kills;
        let mut audited = false;
        while self.struck.kills() < until {
            self.draws.pause(UNHARMED).await;
            let victim = self.draws.victim(until - self.struck.kills());
            self.kill(victim);
            if victim != Victim::StartingGateway && !audited && !matches!(victim, Victim::Worker(_)) {
                self.audit()?;
                audited = true;
            }
            self.draws.pause(AWAY).await;
            self.bring_back(victim).await?;
        }
        api2.set_weather(&json!({"mode": "up"})).await?;
        let ledger = client.stop().await;
        let gateway = self.trio.gateway();
        let drained =
            wait::until(DRAIN_LIMIT, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0));
        // What still waits is told by the comparison.
        drop(drained.await);
        self.tally.judge(&self.trio, &ledger, Claims::AreKept).await
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Gateway | Victim::StartingGateway => self.trio.gateway_process().kill(),
            Victim::Worker(number) => self.trio.workers()[number].kill(),
            Victim::Both(number) => {
                self.trio.gateway_process().kill();
                self.trio.workers()[number].kill();
            }
        }
        self.struck.note(victim);
    }

    async fn bring_back(&mut self, victim: Victim) -> Result<(), DrillError> {
        if victim == Victim::StartingGateway {
            let after = self.draws.within(CUT_SHORT);
            self.trio.cut_start_short(after).await?;
        }
        if !matches!(victim, Victim::Worker(_)) {
            let began = clock::instant();
            self.trio.restart_gateway().await?;
            self.struck.back_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        if let Victim::Worker(number) | Victim::Both(number) = victim {
            self.trio.restart_worker(number).await?;
        }
        Ok(())
    }

    /// Audits the file as the kill has left it.
    fn audit(&mut self) -> Result<(), DrillError> {
        let audited = self.trio.audit()?;
        self.struck.audits += 1;
        self.tally.violations.extend(audited.findings());
        Ok(())
    }
}

/// What is drawn from the seed, one after the other.
pub(crate) struct Draws {
    seed: u64,
    drawn: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Draws { seed, drawn: 0 }
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.drawn += 1;
        mixed(self.seed, self.drawn) % sides.max(1)
    }

    fn within(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    /// A drill chooses its moments by the clock: nothing is waited for here.
    pub(crate) async fn pause(&mut self, range: (u64, u64)) {
        tokio::time::sleep(self.within(range)).await;
    }

    /// `left`: kills to go, of which some victims take two.
    fn victim(&mut self, left: u64) -> Victim {
        let worker = self.below(WORKERS as u64) as usize;
        match self.below(100) {
            0..10 if left > 1 => Victim::StartingGateway,
            10..25 if left > 1 => Victim::Both(worker),
            0..60 => Victim::Gateway,
            _ => Victim::Worker(worker),
        }
    }
}

/// What API 2 does in a round: it fails now and then, in another way each time.
fn weather(round: u64, seed: u64) -> Value {
    match round % 6 {
        0 => json!({"mode": "error_rate", "rate": 0.2, "status": 503, "seed": seed}),
        1 => json!({"mode": "flapping", "up_ms": 500, "down_ms": 150}),
        2 => json!({"mode": "error_rate", "rate": 0.2, "status": 500, "seed": seed}),
        3 => json!({"mode": "latency", "ms": 20, "jitter_ms": 150, "seed": seed}),
        4 => by_turns(seed, &json!({"mode": "error_rate", "rate": 0.3, "status": 500})),
        _ => by_turns(seed, &json!({"mode": "reset"})),
    }
}

/// Slow answers and `other`, by turns, for as long as a round takes.
fn by_turns(seed: u64, other: &Value) -> Value {
    let slow = json!({"mode": "latency", "ms": 20, "jitter_ms": 100});
    let mut steps = Vec::new();
    for (spell, for_ms) in std::iter::repeat_n([(&slow, 400), (other, 100)], 20).flatten() {
        let mut step = spell.clone();
        step["for_ms"] = json!(for_ms);
        steps.push(step);
    }
    steps.push(slow);
    json!({"mode": "script", "steps": steps, "seed": seed})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_victim_is_met_and_no_more_kills_are_made_than_are_left() {
        let mut draws = Draws::new(1);
        let many: Vec<Victim> = (0..200).map(|_| draws.victim(9)).collect();
        for wanted in [Victim::Gateway, Victim::StartingGateway, Victim::Worker(0), Victim::Worker(1), Victim::Both(1)]
        {
            assert!(many.contains(&wanted), "{wanted:?}");
        }
        let last = (0..200).map(|_| draws.victim(1));
        assert!(last.into_iter().all(|victim| matches!(victim, Victim::Gateway | Victim::Worker(_))));
    }
}
