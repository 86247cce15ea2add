//! The worker on virtual time. What it decides is the real worker's own code ([`Held`]: what may be written, what is withdrawn,
//! how much to claim; [`Waiting`]: what is reported, and kept until it is taken); here is only the waiting in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::job::WorkerId;
use jobs_core::lease::{HEARTBEAT, LeaseKey};
use jobs_core::outcome::Class;
use jobs_core::protocol::{
    ClaimRequest, ClaimResponse, ExtendRequest, SettleRequest, WireClass, WireHealth, WireLease, WireOutcome, WireProbe,
};
use jobs_core::time::Mono;
use retry_worker::held::{Held, Lease};
use retry_worker::report::{Report, Waiting};
use uuid::Uuid;

use super::bug::Bug;
use super::destination::{Connection, Reply};
use super::network::{Answer, CallId, Caller, Request};
use super::plan::{MS, SECOND, Us};
use super::world::{Event, Heard, Sent, WorkerEvent, World};

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
            self.gateway_later(delay, super::world::GatewayEvent::HungUp(call));
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

    fn begin_attempt(&mut self, index: usize, lease: Arc<Lease>, granted: WireLease) {
        let Some(site) = self.names.get(&granted.destination).copied() else { return };
        let deadline = self.now + granted.request.timeout_ms * MS;
        let body = granted.payload.unwrap_or_default();
        let delay = self.dice.between(self.plan.sites[site].dial);
        let worker = &mut self.workers[index];
        worker.last_attempt += 1;
        let number = worker.last_attempt;
        worker.attempts.insert(number, Attempt { lease, site, body, deadline, begun: self.now });
        if self.now + delay < deadline {
            self.worker_later(index, delay, WorkerEvent::Connect(number));
        } else {
            self.worker_later(index, deadline - self.now, WorkerEvent::Over(number, Heard::TimedOut));
        }
    }

    /// The moment of truth: the connection takes the request, or not.
    fn connect(&mut self, index: usize, number: u64) {
        let worker = &self.workers[index];
        let Some(attempt) = worker.attempts.get(&number) else { return };
        if attempt.lease.is_withdrawn() && self.plan.bug != Some(Bug::SendsWithdrawn) {
            return self.withdrawn(index, number);
        }
        let (site, deadline, begun) = (attempt.site, attempt.deadline, attempt.begun);
        self.sites[site].called(self.now);
        let cut = self.cut_off.contains(&(index, site));
        match if cut { Connection::Nothing } else { self.sites[site].connect(self.now) } {
            Connection::Refused => self.attempt_over(index, number, Heard::Refused),
            Connection::Nothing => {
                let at = deadline.min(begun + CONNECT_TIMEOUT);
                self.worker_later(index, at.saturating_sub(self.now), WorkerEvent::Over(number, Heard::TimedOut));
            }
            Connection::Taken => self.write(index, number),
        }
    }

    fn write(&mut self, index: usize, number: u64) {
        let attempt = &self.workers[index].attempts[&number];
        let may_be_sent = attempt.lease.begin_send(mono(self.now));
        if may_be_sent || self.plan.bug == Some(Bug::SendsWithdrawn) {
            let sent = || Sent {
                key: attempt.lease.key,
                site: attempt.site,
                body: attempt.body.clone(),
                deadline: attempt.deadline,
            };
            let life = self.workers[index].life;
            let again = (self.plan.bug == Some(Bug::SendsTwice)).then(sent);
            let event = Event::Arrives { worker: index, life, attempt: number, sent: sent() };
            let delay = self.dice.between(WIRE);
            self.after(delay, event);
            if let Some(sent) = again.filter(|_| self.dice.chance(3)) {
                self.after(2 * delay, Event::Arrives { worker: index, life: 0, attempt: number, sent });
            }
        }
        if !may_be_sent {
            self.withdrawn(index, number);
        }
    }

    /// A request reaches its destination; its answer may reach nobody.
    pub(super) fn arrives(&mut self, worker: usize, life: u32, attempt: u64, sent: &Sent) {
        let (temper, nth) = self.watch.arrives(sent.key, sent.site, &sent.body, &self.plan.posts);
        let reply = self.sites[sent.site].receive(temper, nth, self.now, &mut self.dice);
        let after = match reply {
            Reply::Status { after, status, .. } => {
                if status == 200 {
                    self.watch.answered_ok(sent.key, self.now);
                    self.after(after, Event::Served(sent.site));
                }
                after
            }
            Reply::Reset { after } => after,
            Reply::Silence => Us::MAX / 2,
        };
        let back = self.now.saturating_add(after).saturating_add(self.dice.between(WIRE));
        let (at, heard) =
            if back <= sent.deadline { (back, Heard::Answered(reply)) } else { (sent.deadline, Heard::TimedOut) };
        self.at(at, Event::Worker { worker, life, what: WorkerEvent::Over(attempt, heard) });
    }

    fn withdrawn(&mut self, index: usize, number: u64) {
        let Some(attempt) = self.workers[index].attempts.remove(&number) else { return };
        if attempt.lease.is_lost() {
            // It is another's by now: there is nothing to tell.
            self.workers[index].held.settled([&attempt.lease.key]);
            self.slot_free(index);
        } else {
            let outcome = outcome(&attempt, WireClass::Release, 0);
            self.ended(index, attempt, outcome);
        }
    }

    fn attempt_over(&mut self, index: usize, number: u64, heard: Heard) {
        let worker = &mut self.workers[index];
        if worker.attempts.get(&number).is_some_and(|attempt| attempt.lease.is_withdrawn()) {
            return self.withdrawn(index, number);
        }
        let Some(attempt) = worker.attempts.remove(&number) else { return };
        let sent_at = attempt.lease.sent_at();
        let latency = mono(self.now).since(sent_at.unwrap_or(mono(attempt.begun)));
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let no_answer = |error: &str| WireOutcome {
            unknown: sent_at.is_some(),
            error: Some(error.to_owned()),
            ..outcome(&attempt, WireClass::Attempted(Class::Down), latency)
        };
        let outcome = match heard {
            Heard::Refused => no_answer("cannot connect: connection refused"),
            Heard::TimedOut if self.plan.bug == Some(Bug::SucceedsUnheard) && sent_at.is_some() => {
                outcome(&attempt, WireClass::Attempted(Class::Ok), latency)
            }
            Heard::TimedOut if sent_at.is_some() => no_answer("no answer in time"),
            Heard::TimedOut => no_answer("cannot connect in time"),
            Heard::Answered(Reply::Reset { .. } | Reply::Silence) => no_answer("connection reset"),
            Heard::Answered(Reply::Status { status, retry_after, .. }) => WireOutcome {
                status: Some(status),
                retry_after_ms: retry_after.map(|after| after / MS),
                ..outcome(&attempt, WireClass::Attempted(Class::of_status(status, retry_after.is_some())), latency)
            },
        };
        self.ended(index, attempt, outcome);
    }

    fn ended(&mut self, index: usize, attempt: Attempt, outcome: WireOutcome) {
        self.workers[index].waiting.add(Report::Ended { lease: attempt.lease, outcome });
        self.slot_free(index);
        self.report_soon(index);
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

fn outcome(attempt: &Attempt, class: WireClass, latency_us: Us) -> WireOutcome {
    WireOutcome {
        job_id: attempt.lease.key.job_id,
        epoch: attempt.lease.key.epoch,
        class,
        status: None,
        latency_ms: latency_us as f64 / 1_000.0,
        retry_after_ms: None,
        error: None,
        unknown: false,
        response: None,
    }
}
