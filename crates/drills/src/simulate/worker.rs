//! The worker on virtual time. What it decides is the real worker's own code ([`Held`]: what may be written, what is withdrawn,
//! how much to claim; [`Waiting`]: what is reported, and kept until it is taken); here is only the waiting in between. Unlike the
//! real one it makes one claim at a time, and begins every call at once.

mod attempt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::job::WorkerId;
use jobs_core::lease::{HEARTBEAT, LeaseKey};
use jobs_core::protocol::{ClaimRequest, ClaimResponse, ExtendRequest, SettleRequest, WireHealth, WireProbe};
use jobs_core::time::Mono;
use retry_worker::held::{Held, Lease};
use retry_worker::report::{Report, Waiting};
use uuid::Uuid;

use super::event::{Event, WorkerEvent};
use super::network::{Answer, CallId, Caller, Request};
use super::plan::{MS, SECOND, Us};
use super::world::World;

/// As in the real worker.
const CONNECT_TIMEOUT: Us = 10 * SECOND;
const WAIT_MS: u64 = 20_000;
const CLAIM_TIMEOUT: Us = 25 * SECOND;
const EXTEND_TIMEOUT: Us = 2 * SECOND;
const SETTLE_TIMEOUT: Us = 10 * SECOND;
const GATHER: Us = 2 * MS;
const WORTH_A_CLAIM: u32 = 4;
const BUSY: u32 = 32;
const AFTER_NOTHING: Us = 20 * MS;
const FIRST_BACKOFF: Us = 50 * MS;
const MAX_BACKOFF: Us = SECOND;
/// From the first byte sent to the destination, and back.
const WIRE: (Us, Us) = (100, 400);

/// One worker; a restarted one has a new id, and remembers nothing.
pub(super) struct Worker {
    id: WorkerId,
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) stalled_until: Us,
    concurrency: u32,
    held: Held,
    waiting: Waiting,
    claiming: Claiming,
    claim_failures: u32,
    /// The report under way, with when it was made.
    reporting: Option<(CallId, Us, Vec<Arc<Lease>>, SettleRequest)>,
    report_is_due: bool,
    report_failures: u32,
    renewing: Option<(CallId, Us, Vec<LeaseKey>)>,
    attempts: BTreeMap<u64, Attempt>,
    last_attempt: u64,
}

/// Where the claim loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claiming {
    /// Until there is room.
    Full,
    /// An event will go on with it.
    Soon,
    Asked(CallId, Us),
}

/// A call in progress.
struct Attempt {
    lease: Arc<Lease>,
    site: usize,
    body: String,
    deadline: Us,
    begun: Us,
}

impl Worker {
    pub(super) fn new(index: usize, concurrency: u32) -> Self {
        Worker {
            id: Self::id(index, 0),
            life: 0,
            up: false,
            stalled_until: 0,
            concurrency,
            held: Held::new(concurrency),
            waiting: Waiting::default(),
            claiming: Claiming::Soon,
            claim_failures: 0,
            reporting: None,
            report_is_due: false,
            report_failures: 0,
            renewing: None,
            attempts: BTreeMap::new(),
            last_attempt: 0,
        }
    }

    fn id(index: usize, life: u32) -> WorkerId {
        WorkerId(Uuid::from_u128(((index as u128 + 1) << 32) | u128::from(life)))
    }
}

fn backoff(failures: u32) -> Us {
    (FIRST_BACKOFF << failures.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}

fn mono(now: Us) -> Mono {
    Mono::from_duration(Duration::from_micros(now))
}

impl World {
    pub(super) fn start_worker(&mut self, index: usize) {
        let (life, concurrency) = (self.workers[index].life + 1, self.workers[index].concurrency);
        self.workers[index] = Worker { life, up: true, id: Worker::id(index, life), ..Worker::new(index, concurrency) };
        self.worker_later(index, 0, WorkerEvent::Claim { gathered: false });
        self.worker_later(index, 0, WorkerEvent::Heartbeat);
    }

    /// What it has written is on its way; all else is gone. The gateway notices broken connections, mostly.
    pub(super) fn crash_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.up = false;
        worker.life += 1;
        if let Claiming::Asked(call, _) = worker.claiming
            && self.dice.chance(70)
        {
            let delay = self.delay();
            self.gateway_later(delay, super::event::GatewayEvent::HungUp(call));
        }
    }

    fn worker_later(&mut self, index: usize, delay: Us, what: WorkerEvent) {
        let life = self.workers[index].life;
        self.after(delay, Event::Worker { worker: index, life, what });
    }

    fn caller(&self, index: usize) -> Caller {
        Caller::Worker { worker: index, life: self.workers[index].life }
    }

    pub(super) fn worker_does(&mut self, index: usize, what: WorkerEvent) {
        let stalled = self.workers[index].stalled_until;
        if stalled > self.now {
            return self.worker_later(index, stalled - self.now, what);
        }
        match what {
            WorkerEvent::Claim { gathered } => self.claim(index, gathered),
            WorkerEvent::Report => self.report(index),
            WorkerEvent::Heartbeat => self.heartbeat(index),
            WorkerEvent::Connect(attempt) => self.connect(index, attempt),
            WorkerEvent::Over(attempt, heard) => self.attempt_over(index, attempt, heard),
            WorkerEvent::Checked { destination, healthy } => {
                self.workers[index].waiting.add(Report::Health(WireHealth { destination, healthy }));
                self.report_soon(index);
            }
        }
    }

    pub(super) fn worker_hears(&mut self, index: usize, call: CallId, answer: Option<Answer>) {
        let stalled = self.workers[index].stalled_until;
        if stalled > self.now {
            let to = self.caller(index);
            return self.at(stalled, Event::Answer { call, to, answer });
        }
        let worker = &mut self.workers[index];
        if matches!(worker.claiming, Claiming::Asked(asked, _) if asked == call) {
            self.claimed(index, answer);
        } else if worker.reporting.as_ref().is_some_and(|reporting| reporting.0 == call) {
            self.reported(index, answer);
        } else if let Some((_, sent, keys)) = worker.renewing.take_if(|renewing| renewing.0 == call)
            && let Some(Answer::Extended(extended)) = answer
        {
            worker.held.extended(&keys, &extended, mono(sent));
            worker.held.withdraw_from(&extended.release, &keys);
        }
    }

    fn claim(&mut self, index: usize, gathered: bool) {
        let worker = &mut self.workers[index];
        let room = worker.held.room();
        if room == 0 {
            worker.claiming = Claiming::Full;
        } else if !gathered && room.saturating_mul(WORTH_A_CLAIM) < worker.concurrency {
            self.worker_later(index, GATHER, WorkerEvent::Claim { gathered: true });
        } else {
            let max = room.min(jobs_core::protocol::MAX_CLAIM);
            let request = ClaimRequest { worker: worker.id, concurrency: worker.concurrency, max, wait_ms: WAIT_MS };
            let from = self.caller(index);
            let call = self.send(from, Request::Claim(request));
            self.workers[index].claiming = Claiming::Asked(call, self.now);
        }
    }

    fn claimed(&mut self, index: usize, answer: Option<Answer>) {
        let worker = &mut self.workers[index];
        worker.claiming = Claiming::Soon;
        let pause = if let Some(Answer::Claimed(claimed)) = answer {
            worker.claim_failures = 0;
            let empty = claimed.leases.is_empty();
            self.begin(index, claimed);
            if empty { AFTER_NOTHING } else { 0 }
        } else {
            worker.claim_failures += 1;
            backoff(worker.claim_failures)
        };
        self.worker_later(index, pause, WorkerEvent::Claim { gathered: false });
    }

    fn begin(&mut self, index: usize, claimed: ClaimResponse) {
        let answered = mono(self.now);
        let held = &self.workers[index].held;
        held.withdraw_from(&claimed.release, &held.keys());
        let leases = held.begin(&claimed.leases, answered);
        for (lease, granted) in leases.into_iter().zip(claimed.leases) {
            self.begin_attempt(index, lease, granted);
        }
        for check in claimed.probes {
            self.check_health(index, &check);
        }
    }

    fn check_health(&mut self, index: usize, check: &WireProbe) {
        let Some(site) = self.names.get(&check.destination).copied() else { return };
        let reached = !self.cut_off.contains(&(index, site));
        let healthy = reached && !self.sites[site].is_down(self.now);
        let destination = check.destination.clone();
        let delay = 2 * self.dice.between(WIRE);
        self.worker_later(index, delay, WorkerEvent::Checked { destination, healthy });
    }

    fn slot_free(&mut self, index: usize) {
        self.workers[index].held.ended();
        self.go_on_claiming(index);
    }

    fn go_on_claiming(&mut self, index: usize) {
        if self.workers[index].claiming == Claiming::Full {
            self.workers[index].claiming = Claiming::Soon;
            self.worker_later(index, 0, WorkerEvent::Claim { gathered: false });
        }
    }

    fn report_soon(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.reporting.is_none() && !std::mem::replace(&mut worker.report_is_due, true) {
            let gather = if worker.held.in_flight() >= BUSY { GATHER } else { 0 };
            self.worker_later(index, gather, WorkerEvent::Report);
        }
    }

    fn report(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.report_is_due = false;
        if worker.waiting.is_empty() || worker.reporting.is_some() {
            return;
        }
        let (leases, request) = worker.waiting.batch(worker.id);
        let from = self.caller(index);
        let call = self.send(from, Request::Settle(request.clone()));
        self.workers[index].reporting = Some((call, self.now, leases, request));
    }

    fn reported(&mut self, index: usize, answer: Option<Answer>) {
        let worker = &mut self.workers[index];
        let Some((_, _, leases, request)) = worker.reporting.take() else { return };
        let pause = if let Some(Answer::Settled(settled)) = answer {
            debug_assert_eq!(settled.results.len(), leases.len());
            worker.report_failures = 0;
            worker.waiting.taken();
            worker.held.settled(leases.iter().map(|lease| &lease.key));
            0
        } else {
            worker.report_failures += 1;
            worker.waiting.put_back(leases, request.outcomes);
            backoff(worker.report_failures)
        };
        if !worker.waiting.is_empty() && !std::mem::replace(&mut worker.report_is_due, true) {
            self.worker_later(index, pause, WorkerEvent::Report);
        }
        self.go_on_claiming(index);
    }

    fn heartbeat(&mut self, index: usize) {
        self.worker_later(index, HEARTBEAT.as_micros() as Us, WorkerEvent::Heartbeat);
        self.give_up_waiting(index);
        let worker = &mut self.workers[index];
        if worker.renewing.is_some() {
            return;
        }
        let mut holding = worker.held.keys();
        // The real one lists them in any order; the run must be the same every time.
        holding.sort_unstable();
        let request = ExtendRequest { worker: worker.id, holding: holding.clone() };
        let from = self.caller(index);
        let call = self.send(from, Request::Extend(request));
        self.workers[index].renewing = Some((call, self.now, holding));
    }

    /// Calls that have taken longer than their timeout, as when the gateway stands still.
    fn give_up_waiting(&mut self, index: usize) {
        let (now, worker) = (self.now, &mut self.workers[index]);
        worker.renewing.take_if(|(_, since, _)| now - *since >= EXTEND_TIMEOUT);
        if worker.reporting.as_ref().is_some_and(|(_, since, ..)| now - since >= SETTLE_TIMEOUT) {
            self.reported(index, None);
        }
        if matches!(self.workers[index].claiming, Claiming::Asked(_, since) if now - since >= CLAIM_TIMEOUT) {
            self.claimed(index, None);
        }
    }
}
