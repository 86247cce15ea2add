//! One attempt on virtual time: connecting, the moment in which the request is written or not, and what is heard of it.

use std::sync::Arc;

use jobs_core::outcome::Class;
use jobs_core::protocol::{WireClass, WireLease, WireOutcome};
use retry_worker::held::Lease;
use retry_worker::report::Report;

use super::{Attempt, CONNECT_TIMEOUT, WIRE, mono};
use crate::simulate::bug::Bug;
use crate::simulate::destination::{Connection, Reply};
use crate::simulate::event::{Event, Heard, Sent, WorkerEvent};
use crate::simulate::plan::{MS, Us};
use crate::simulate::world::World;

impl World {
    pub(super) fn begin_attempt(&mut self, index: usize, lease: Arc<Lease>, granted: WireLease) {
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
    pub(super) fn connect(&mut self, index: usize, number: u64) {
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
    pub(crate) fn arrives(&mut self, worker: usize, life: u32, attempt: u64, sent: &Sent) {
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

    pub(super) fn attempt_over(&mut self, index: usize, number: u64, heard: Heard) {
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
            Heard::TimedOut if self.plan.bug == Some(Bug::CallsSentUnsent) && sent_at.is_some() => {
                outcome(&attempt, WireClass::Release, 0)
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
