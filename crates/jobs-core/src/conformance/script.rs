//! Random scripts for the differential test: what a fleet of workers, clients and operators, some of them confused, might ask of
//! a store. The same seed writes the same script, as long as the answers are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::rig::{destination, key, seconds};
use crate::callback::Callback;
use crate::charging::Evidence;
use crate::destination::{OnUnknown, OrderingOnDead, Policy};
use crate::gate::Kind;
use crate::job::{DestinationName, Epoch, Job, JobId, NewJob, Priority, Request, StateName, Tick, WorkerId};
use crate::lease::LeaseKey;
use crate::outcome::{Class, Outcome, Response};
use crate::redrive::{Mode, Plan};
use crate::store::{Claimed, Enqueued, Filter, GateRecord, Grant, Judge, Report, Retention, Settlement};
use crate::time::{Mono, Now, Timestamp};

const DESTINATIONS: [&str; 3] = ["a", "b", "c"];
const WORKERS: u64 = 3;
/// Leases that the confused may still name.
const MEMORY: usize = 60;

/// A gateway that sweeps seldom seems to have stalled, and no lease lapses.
const SWEEP_AFTER: Duration = Duration::from_millis(800);

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `sides - 1`.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }

    fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.below(below))
    }
}

/// One thing to ask of a store.
#[derive(Debug, Clone)]
pub enum Step {
    Enqueue(Vec<NewJob>),
    Claim(WorkerId, Vec<Grant>),
    Extend(WorkerId, Vec<LeaseKey>),
    Settle(WorkerId, Vec<Settlement>),
    Cancel(JobId, OrderingOnDead),
    Redrive(JobId, bool),
    /// Redrive several as one, by the first mass redrive there is.
    RedriveTogether(Vec<JobId>),
    Resolve(JobId),
    Sweep,
    Purge(Retention),
    PutGate(DestinationName, GateRecord),
    /// Close, and open again.
    Reopen,
    /// Compare all that can be read.
    Look,
}

/// A mass redrive of all dead jobs without a canary.
pub fn plan_for_all_dead() -> Plan {
    Plan {
        filter: Filter { state: Some(StateName::Dead), ..Filter::default() },
        mode: Mode::Run,
        canary: 0,
        per_second: None,
        stop_on_failure_ratio: 1.0,
        new_key: false,
    }
}

/// Writes a script, step by step.
#[derive(Debug)]
pub struct Script {
    dice: Dice,
    pub now: Now,
    ids: Vec<JobId>,
    leases: Vec<(LeaseKey, WorkerId)>,
    /// How often each destination has recovered.
    epochs: [u64; DESTINATIONS.len()],
    tick: u64,
    swept: Mono,
}

impl Script {
    pub fn new(seed: u64, now: Now) -> Self {
        Script {
            dice: Dice::new(seed),
            now,
            ids: Vec::new(),
            leases: Vec::new(),
            epochs: [0; 3],
            tick: 1,
            swept: now.mono,
        }
    }

    /// Lets some time pass and asks for something. `durable`: the store may be closed and opened again.
    pub fn next(&mut self, durable: bool) -> Step {
        self.pass();
        if self.now.mono.since(self.swept) > SWEEP_AFTER && self.dice.chance(90) {
            self.swept = self.now.mono;
            return Step::Sweep;
        }
        match self.dice.below(100) {
            0..25 => self.enqueue(),
            25..42 => self.claim(),
            42..74 => self.settle(),
            74..81 => self.extend(),
            81..87 => self.cancel(),
            87..90 => Step::Redrive(self.job(), self.dice.chance(30)),
            90..92 => Step::RedriveTogether((0..self.dice.below(6)).map(|_| self.job()).collect()),
            92..93 => Step::Resolve(self.job()),
            93..96 => self.purge(),
            96..97 => self.put_gate(),
            97..98 if durable => Step::Reopen,
            _ => Step::Look,
        }
    }

    /// The judge of this step: each store under comparison gets one of its own, and they answer alike.
    pub fn judge(&mut self) -> ScriptJudge {
        self.tick += 100;
        let on_dead = self.on_dead();
        ScriptJudge {
            seed: self.dice.roll(),
            tick: self.tick,
            epoch: self.epochs[0],
            on_dead,
            asked: AtomicU64::new(0),
        }
    }

    /// What an enqueue answered.
    pub fn note_accepted(&mut self, answers: &[Enqueued]) {
        self.ids.extend(answers.iter().filter_map(|answer| match answer {
            Enqueued::Accepted(job) => Some(job.id),
            Enqueued::Replayed { .. } | Enqueued::KeyReused { .. } => None,
        }));
    }

    /// What a claim of `worker` answered.
    pub fn note_claimed(&mut self, worker: WorkerId, claimed: &Claimed) {
        self.leases.extend(super::rig::keys(&claimed.leases).into_iter().map(|key| (key, worker)));
        let forgotten = self.leases.len().saturating_sub(MEMORY);
        self.leases.drain(..forgotten);
    }

    fn pass(&mut self) {
        let time = match self.dice.below(200) {
            0..195 => self.dice.millis(700),
            195..199 => self.dice.millis(20_000),
            _ => self.dice.millis(200_000),
        };
        self.now = self.now.plus(time);
        if self.dice.chance(1) {
            let back = i64::try_from(self.dice.below(30_000)).unwrap_or_default();
            self.now.wall = Timestamp::from_millis(self.now.wall.as_millis() - back);
        }
    }

    fn destination(&mut self) -> (usize, DestinationName) {
        let index = self.dice.below(DESTINATIONS.len() as u64) as usize;
        (index, destination(DESTINATIONS[index]))
    }

    fn worker(&mut self) -> WorkerId {
        WorkerId(Uuid::from_u128(u128::from(1 + self.dice.below(WORKERS))))
    }

    fn on_dead(&mut self) -> OrderingOnDead {
        if self.dice.chance(50) { OrderingOnDead::Block } else { OrderingOnDead::Free }
    }

    /// A job that was accepted, mostly a late one, or one that never was.
    fn job(&mut self) -> JobId {
        if self.dice.chance(3) {
            return self.id();
        }
        let late = self.ids.len().saturating_sub(25);
        let from = if self.dice.chance(80) { &self.ids[late..] } else { &self.ids[..] };
        self.dice.pick(from).copied().unwrap_or(JobId(Uuid::nil()))
    }

    /// An id that nobody else has, and that ends in a job's number: its own, if it comes to that, or another's.
    fn id(&mut self) -> JobId {
        let roll = self.dice.roll();
        JobId(Uuid::from_u64_pair(roll, self.ids.len() as u64 + roll % 6))
    }

    fn enqueue(&mut self) -> Step {
        let count = if self.dice.chance(5) { 0 } else { 1 + self.dice.below(4) };
        Step::Enqueue((0..count).map(|_| self.new_job()).collect())
    }

    fn new_job(&mut self) -> NewJob {
        let idempotency = self.dice.chance(30).then(|| {
            let fingerprint = if self.dice.chance(15) { 2 } else { 1 };
            key(&format!("scope {}", self.dice.below(2)), &format!("key {}", self.dice.below(12)), fingerprint)
        });
        let body: Vec<u8> = (0..self.dice.below(40)).map(|_| self.dice.roll() as u8).collect();
        let run_at = self.now.wall.plus(if self.dice.chance(30) { self.dice.millis(30_000) } else { Duration::ZERO });
        NewJob {
            id: self.id(),
            id_is_new: self.dice.chance(50),
            destination: self.destination().1,
            request: Request {
                path: self.dice.chance(30).then(|| format!("/{}", self.dice.below(9))),
                headers: (0..self.dice.below(3)).map(|n| (format!("x-{n}"), self.dice.roll().to_string())).collect(),
                body: Bytes::from(body),
                ..Request::default()
            },
            idempotency,
            run_at,
            expires_after: self.dice.chance(15).then(|| self.dice.millis(60_000)),
            priority: Priority::new(self.dice.below(3) as u8).unwrap_or_default(),
            ordering_key: self.dice.chance(50).then(|| format!("order {}", self.dice.below(3))),
            max_attempts: self.dice.chance(20).then(|| 1 + self.dice.below(3) as u32),
            traceparent: self.dice.chance(10).then(|| "00-aa-bb-01".to_owned()),
            redriven_from: if self.dice.chance(5) { self.ids.first().copied() } else { None },
            callback: self.dice.chance(20).then(|| Callback {
                destination: self.destination().1,
                still_trying_after: self.dice.chance(50).then(|| self.dice.millis(60_000)),
            }),
        }
    }

    fn claim(&mut self) -> Step {
        let grants = (0..1 + self.dice.below(3)).map(|_| {
            let (index, destination) = self.destination();
            self.epochs[index] += u64::from(self.dice.chance(8));
            self.tick += 1;
            let on_health = self.dice.chance(50);
            let kind = if self.dice.chance(25) { Kind::Probe { on_health } } else { Kind::Regular };
            Grant {
                destination,
                max: self.dice.below(6) as u32,
                destination_epoch: self.epochs[index],
                released_below: self.epochs[index] + u64::from(on_health && kind != Kind::Regular),
                fresh: if self.dice.chance(60) { self.dice.below(4) as u32 } else { 0 },
                fresh_after: self.now.wall.minus(Duration::from_secs(5)),
                kind,
                ordering_on_dead: OrderingOnDead::Free,
                begun: Tick(self.tick),
                ok_begun: Tick(self.dice.below(self.tick)),
            }
        });
        let grants = grants.collect();
        Step::Claim(self.worker(), grants)
    }

    /// A lease that somebody had, or thinks to have had.
    fn lease(&mut self) -> LeaseKey {
        let late = self.leases.len().saturating_sub(12);
        let from = if self.dice.chance(85) { &self.leases[late..] } else { &self.leases[..] };
        let known = self.dice.pick(from).map(|(key, _)| *key);
        let invented = LeaseKey { job_id: self.job(), epoch: Epoch::new(1 + self.dice.below(3) as u32, 1) };
        match known {
            Some(key) if self.dice.chance(95) => key,
            Some(key) => LeaseKey { epoch: invented.epoch, ..key },
            None => invented,
        }
    }

    /// A heartbeat that lists most of what its worker holds, and a little of what it does not.
    fn extend(&mut self) -> Step {
        let worker = self.worker();
        let mut holding = Vec::new();
        for (key, holder) in &self.leases {
            if self.dice.chance(if *holder == worker { 70 } else { 3 }) {
                holding.push(*key);
            }
        }
        holding.push(self.lease());
        Step::Extend(worker, holding)
    }

    fn settle(&mut self) -> Step {
        let settlements = (0..1 + self.dice.below(5)).map(|_| Settlement { key: self.lease(), report: self.report() });
        let settlements = settlements.collect();
        Step::Settle(self.worker(), settlements)
    }

    fn report(&mut self) -> Report {
        if self.dice.chance(20) {
            return Report::Released;
        }
        let class = match self.dice.below(100) {
            0..30 => Class::Ok,
            30..40 => Class::JobFail,
            40..50 => Class::Suspect,
            50..60 => Class::Overload,
            60..80 => Class::Down,
            _ => Class::Error,
        };
        Report::Attempted(Outcome {
            class,
            status: self.dice.chance(70).then(|| 200 + self.dice.below(400) as u16),
            latency: Duration::from_micros(self.dice.below(9_000_000)),
            retry_after: self.dice.chance(10).then(|| self.dice.millis(20_000)),
            error: self.dice.chance(50).then(|| format!("error {}", self.dice.below(5))),
            unknown: class == Class::Down && self.dice.chance(50),
            response: self.dice.chance(50).then(|| Response {
                content_type: self.dice.chance(50).then(|| "text/plain".to_owned()),
                body: self.answer(),
                truncated: self.dice.chance(20),
            }),
        })
    }

    /// Text or not, longer than an excerpt or not.
    fn answer(&mut self) -> Bytes {
        match self.dice.below(4) {
            0 => Bytes::from(self.dice.roll().to_le_bytes().to_vec()),
            1 => Bytes::from("x".repeat(Response::MAX_EXCERPT + self.dice.below(2) as usize)),
            _ => Bytes::from(format!("answer {}", self.dice.below(1_000))),
        }
    }

    fn cancel(&mut self) -> Step {
        let id = if self.dice.chance(60) { self.lease().job_id } else { self.job() };
        Step::Cancel(id, self.on_dead())
    }

    fn purge(&mut self) -> Step {
        let keys = self.dice.millis(60_000);
        Step::Purge(Retention { succeeded: self.dice.millis(30_000), dead: self.dice.millis(60_000), keys })
    }

    fn put_gate(&mut self) -> Step {
        let open = self.dice.chance(50).then(|| (self.now.wall, format!("reason {}", self.dice.below(9))));
        let (index, destination) = self.destination();
        let gate = GateRecord {
            epoch: self.epochs[index],
            misconfigured: open.is_some() && self.dice.chance(50),
            open,
            hold_until: self.dice.chance(30).then_some(self.now.wall),
            goodput: self.dice.below(1_000) as f64 / 3.0,
            paused: self.dice.chance(30),
        };
        Step::PutGate(destination, gate)
    }
}

/// Judges by dice: the n-th answer of two judges of the same step is the same, so that a store that asks too often, too
/// seldom or in another order is found out.
#[derive(Debug)]
pub struct ScriptJudge {
    seed: u64,
    tick: u64,
    epoch: u64,
    on_dead: OrderingOnDead,
    asked: AtomicU64,
}

impl Clone for ScriptJudge {
    fn clone(&self) -> Self {
        let asked = AtomicU64::new(self.asked.load(Ordering::SeqCst));
        ScriptJudge { seed: self.seed, tick: self.tick, epoch: self.epoch, on_dead: self.on_dead, asked }
    }
}

impl Judge for ScriptJudge {
    fn weigh(&self, job: &Job, _: Epoch, _: &Outcome, _: WorkerId, _: Now) -> (Arc<Policy>, Evidence) {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut dice = Dice::new(self.seed.wrapping_add(asked));
        let mut earlier = || if dice.chance(50) { Tick::NEVER } else { Tick(dice.below(self.tick)) };
        let (other_ok, ok_begun, worker_ok) = (earlier(), earlier(), earlier());
        let evidence = Evidence {
            now: Tick(self.tick + asked),
            destination_epoch: self.epoch,
            other_ok,
            ok_begun,
            worker_ok,
            others_fail: dice.chance(50),
            misconfigured: dice.chance(10),
            is_probe: dice.chance(20),
            is_paced: dice.chance(20),
        };
        (self.policy(&job.destination), evidence)
    }

    fn policy(&self, destination: &DestinationName) -> Arc<Policy> {
        let usual = Policy { ordering_on_dead: self.on_dead, max_attempts: 3, ..Policy::default() };
        Arc::new(match destination.as_str() {
            "a" => usual,
            "b" => Policy { idempotency_window: Some(seconds(30)), max_lost: Some(2), ..usual },
            _ => Policy { on_unknown: OnUnknown::DeadLetter, ..usual },
        })
    }
}
