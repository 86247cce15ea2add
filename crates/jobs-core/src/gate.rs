//! Hold, probe, release: an outage is a fact about the destination, not about its jobs.
//!
//! One gate per destination, in the gateway's memory. *Closed*, it lets calls through within its two adaptive dials.
//! *Open*, it holds all jobs, unspent, and lets only probes through. One answer that the destination is alive begins the
//! *ramp*: the destination's epoch rises by one, which makes every job that failed because of the outage due at once
//! (no row is rewritten), and the dials start at their floors, so that what comes back is not knocked over again.
//! *Paused* is a flag over all three.
//!
//! A breaker and a concurrency limiter in one, because two mechanisms that do not know of each other block each other.
//! All of it is soft: losing it can neither lose nor strand a job. Only what [`GateRecord`] holds survives a restart.
//!
//! Sources: SMTP ETRN (RFC 1985) for release on recovery; AWS, "Exponential Backoff And Jitter"; Bronson et al., HotOS'21,
//! and Huang et al., OSDI'22, on metastable failures; Netflix concurrency-limits, Vector's adaptive request concurrency and
//! Envoy's slow start for the dials.

mod breaker;
mod cut_off;
mod dial;
mod dials;
mod exchange;
mod latency;
mod probe;
mod settings;
mod window;

use std::time::Duration;

use self::breaker::{Breaker, Fault, Seen};
use self::cut_off::CutOff;
use self::dials::{Dials, Sample};
pub use self::exchange::{Admission, Answer, GateStateName, Kind, Sent, Transition};
use self::probe::{Probe, Probes};
pub use self::settings::GateSettings;
use crate::job::{JobId, Tick, WorkerId};
use crate::outcome::{Class, Outcome};
use crate::retry::RetryPolicy;
use crate::store::GateRecord;
use crate::time::{Mono, Now, Timestamp};

/// The gate of one destination.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    state: State,
    paused: bool,
    epoch: u64,
    dials: Dials,
    breaker: Breaker,
    /// Leases of the present epoch, probes apart.
    in_flight: u32,
    /// The destination asked for quiet, and nothing has succeeded since.
    hold_until: Option<Mono>,
    /// Oks per second before the outage.
    goodput: Option<f64>,
    /// The latest failure, in words for people.
    failure: String,
    cut_off: CutOff,
}

#[derive(Debug)]
enum State {
    /// Ramp or closed: the dials tell.
    Passing,
    Open {
        since: Timestamp,
        fault: Fault,
        reason: String,
        probes: Probes,
    },
}

impl Gate {
    /// The gate of a destination nothing is known about.
    pub fn new(settings: GateSettings, now: Mono) -> Self {
        Gate {
            settings,
            state: State::Passing,
            paused: false,
            epoch: 0,
            dials: Dials::closed(settings, now),
            breaker: Breaker::default(),
            in_flight: 0,
            hold_until: None,
            goodput: None,
            cut_off: CutOff::default(),
            failure: String::new(),
        }
    }

    /// The gate as it was before a restart: open stays open, anything else starts in ramp.
    pub fn restore(settings: GateSettings, record: &GateRecord, now: Now) -> Self {
        let mut gate = Gate::new(settings, now.mono);
        gate.epoch = record.epoch;
        gate.paused = record.paused;
        gate.goodput = (record.goodput > 0.0).then_some(record.goodput);
        gate.dials = Dials::ramp(gate.goodput, settings, now.mono);
        // A clock that was set back meanwhile must not hold it for as long as that.
        let held_for = |until: Timestamp| until.since(now.wall).min(RetryPolicy::MAX_RETRY_AFTER);
        gate.hold_until = record.hold_until.map(|until| now.mono.plus(held_for(until)));
        if let Some((since, reason)) = &record.open {
            let fault = if record.misconfigured { Fault::Misconfigured(None) } else { Fault::Down };
            gate.state = State::Open { since: *since, fault, reason: reason.clone(), probes: Probes::new(now.mono) };
        }
        gate
    }

    /// What must survive a restart.
    pub fn record(&self, now: Now) -> GateRecord {
        let open = match &self.state {
            State::Open { since, reason, .. } => Some((*since, reason.clone())),
            State::Passing => None,
        };
        GateRecord {
            epoch: self.epoch,
            open,
            misconfigured: self.is_misconfigured(),
            hold_until: self.hold_until.map(|until| now.wall.plus(until.since(now.mono))),
            goodput: self.expected_goodput(),
            paused: self.paused,
        }
    }

    pub fn configure(&mut self, settings: GateSettings) {
        self.settings = settings;
        self.dials.configure(settings);
    }

    pub fn state(&self) -> GateStateName {
        match &self.state {
            _ if self.paused => GateStateName::Paused,
            State::Open { .. } => GateStateName::Open,
            State::Passing if self.dials.is_ramping() => GateStateName::Ramp,
            State::Passing => GateStateName::Closed,
        }
    }

    /// Since when it is open, and why.
    pub fn reason(&self) -> Option<(Timestamp, &str)> {
        match &self.state {
            State::Open { since, reason, .. } => Some((*since, reason)),
            State::Passing => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Held because of its configuration: no answer says anything about a job.
    pub fn is_misconfigured(&self) -> bool {
        matches!(self.state, State::Open { fault: Fault::Misconfigured(_), .. })
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn limit(&self) -> u32 {
        self.dials.limit()
    }

    /// Starts per second; `None` if unlimited.
    pub fn rate(&self) -> Option<f64> {
        self.dials.rate()
    }

    /// Oks per second of late.
    pub fn goodput(&self) -> f64 {
        self.dials.goodput()
    }

    /// Oks per second before the latest outage, or of late if there was none: what a drain can be expected to reach.
    pub fn expected_goodput(&self) -> f64 {
        self.goodput.unwrap_or_else(|| self.dials.goodput())
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Holds it by hand, or ends that: an open gate is open still, any other starts in ramp.
    pub fn pause(&mut self, paused: bool, now: Mono) {
        if self.paused && !paused {
            self.restart(now);
        }
        self.paused = paused;
    }

    /// It is in use again, after a time in which nothing was learnt: an open gate is open still, any other ramps.
    pub fn restart(&mut self, now: Mono) {
        if !self.is_open() {
            self.start_ramp(now);
        }
    }

    /// Of `wanted` jobs, how many may be granted now, reserved until they are granted or given back.
    pub fn admit(&mut self, wanted: u32, now: Mono) -> Option<Admission> {
        if self.paused || wanted == 0 {
            return None;
        }
        match &self.state {
            State::Passing => {
                let count = self.dials.take(wanted, self.in_flight, now);
                self.in_flight += count;
                (count > 0).then_some(Admission { count, released_below: self.epoch, kind: Kind::Regular })
            }
            State::Open { .. } => self.probe(now),
        }
    }

    /// Whether a probe may be made now. Reserves nothing: the caller sees to it that one is on its way at a time until it is
    /// [granted](Gate::granted) or [given back](Gate::give_back).
    pub fn probe(&self, now: Mono) -> Option<Admission> {
        match &self.state {
            State::Open { probes, .. } if !self.paused => {
                let on_health = probes.may(self.hold_until, now)? == Probe::Healthy;
                let released_below = self.epoch + u64::from(on_health);
                Some(Admission { count: 1, released_below, kind: Kind::Probe { on_health } })
            }
            State::Open { .. } | State::Passing => None,
        }
    }

    /// Of what was reserved in `epoch`, `count` (>= 1) were not granted: there were too few jobs, or the claim ended before them.
    pub fn give_back(&mut self, admission: Admission, epoch: u64, count: u32) {
        if epoch != self.epoch {
            return;
        }
        if admission.kind == Kind::Regular {
            self.in_flight = self.in_flight.saturating_sub(count);
            self.dials.give_back(count, count < admission.count);
        }
    }

    /// A claim of the present epoch found fewer jobs of `kind` than it might have: no more are due.
    pub fn nothing_is_due(&mut self, kind: Kind) {
        match kind {
            Kind::Regular => self.dials.nothing_is_due(),
            // No job waits for the destination's recovery: the next check says again whether it is healthy.
            Kind::Probe { on_health: true } => self.checked(false),
            Kind::Probe { on_health: false } => {}
        }
    }

    /// Whether what the destination refuses need not wait for long: it takes other calls, and how many is known and kept to.
    pub fn paces(&self, now: Mono) -> bool {
        !self.is_open() && self.dials.have_found() && self.breaker.is_alive(now)
    }

    /// A lease that was found after a restart: it counts as one of the present epoch, granted at `begun`.
    pub fn adopt(&mut self, begun: Tick, now: Mono) -> Sent {
        self.in_flight += 1;
        Sent { begun, at: now, epoch: self.epoch, in_flight: self.in_flight, kind: Kind::Regular }
    }

    /// `job` was granted under `admission`, which was given in `epoch`.
    pub fn granted(&mut self, job: JobId, admission: Admission, begun: Tick, epoch: u64, now: Mono) -> Sent {
        let sent = Sent { begun, at: now, epoch, in_flight: self.in_flight, kind: admission.kind };
        if let (Kind::Probe { on_health }, State::Open { probes, .. }) = (admission.kind, &mut self.state) {
            probes.sent(job, if on_health { Probe::Healthy } else { Probe::Due }, now);
        }
        sent
    }

    /// A lease ended: settled, released or lapsed.
    pub fn ended(&mut self, job: JobId, sent: Sent, now: Mono) {
        if sent.epoch != self.epoch {
            return;
        }
        match (sent.kind, &mut self.state) {
            (Kind::Regular, _) => self.in_flight = self.in_flight.saturating_sub(1),
            (Kind::Probe { .. }, State::Open { probes, .. }) => {
                probes.failed(job, now);
            }
            (Kind::Probe { .. }, State::Passing) => {}
        }
    }

    /// What a health check found.
    pub fn checked(&mut self, healthy: bool) {
        if let State::Open { probes, .. } = &mut self.state {
            probes.checked(healthy);
        }
    }

    /// Judges an answer; the transition it brought about, if any.
    pub fn answered(&mut self, answer: &Answer<'_>, now: Now) -> Option<Transition> {
        let class = answer.outcome.class;
        if answer.sent.epoch == self.epoch {
            self.note_retry_after(answer.outcome, now.mono);
        }
        let is_alive = match class {
            Class::Ok => true,
            Class::JobFail | Class::Suspect => !self.is_misconfigured(),
            Class::Overload | Class::Down | Class::Error => false,
        };
        if self.is_open() {
            // What was sent before the outage was noticed says nothing about now.
            let is_probe = matches!(answer.sent.kind, Kind::Probe { .. }) && answer.sent.epoch == self.epoch;
            if is_alive && (is_probe || class == Class::Ok) {
                self.recover(now.mono);
                return Some(Transition::Recovered);
            }
            return None;
        }
        if answer.sent.epoch != self.epoch || self.is_one_workers(answer, now.mono) {
            return None;
        }
        if answer.charged {
            self.breaker.note_charged(answer.job, answer.worker, now.mono);
            return None;
        }
        let Sent { in_flight, at, .. } = answer.sent;
        let sample = Sample { class, latency: answer.outcome.latency, in_flight, at };
        self.dials.answered(sample, now.mono);
        let seen = Seen {
            job: answer.job,
            worker: answer.worker,
            class,
            status: answer.outcome.status,
            latency: answer.outcome.latency,
            begun: answer.sent.begun,
            at: answer.at,
        };
        let fault = self.breaker.note(seen, self.dials.at_floors(), now.mono);
        if class != Class::Ok {
            self.failure = answer.outcome.in_words().unwrap_or_else(|| class.as_str().to_owned());
        }
        self.open(fault?, now);
        Some(Transition::Opened)
    }

    /// Judges what time alone has changed: a destination that refused whatever it was sent, and has been sent nothing since.
    pub fn look(&mut self, now: Now) -> Option<Transition> {
        if self.is_open() {
            return None;
        }
        let fault = self.breaker.look(now.mono)?;
        self.open(fault, now);
        Some(Transition::Opened)
    }

    /// Whether an answer is the trouble of its worker, which has lost its way to a destination that others reach.
    fn is_one_workers(&mut self, answer: &Answer<'_>, now: Mono) -> bool {
        if answer.outcome.class != Class::Down {
            self.cut_off.got_through(answer.worker, now);
            return false;
        }
        let is_cut_off = self.breaker.is_cut_off(answer.worker, now);
        if is_cut_off {
            self.cut_off.failed(answer.worker, now);
        }
        is_cut_off
    }

    /// The workers that cannot reach the destination, while others can.
    pub fn cut_off(&self) -> Vec<WorkerId> {
        self.cut_off.workers()
    }

    /// How long until time alone lets something through; zero if it may be asked now, `None` if only an answer does.
    pub fn wait(&self, now: Mono) -> Option<Duration> {
        match &self.state {
            State::Passing => (!self.is_full()).then(|| self.dials.wait(now)),
            State::Open { probes, .. } => probes.wait(self.hold_until, now),
        }
    }

    /// Whether its leases use up all that may be in flight.
    fn is_full(&self) -> bool {
        self.in_flight >= self.dials.limit()
    }

    fn open(&mut self, fault: Fault, now: Now) {
        self.goodput = Some(self.dials.goodput()).filter(|goodput| *goodput > 0.0).or(self.goodput);
        let what = &self.failure;
        let reason = match fault {
            Fault::Down => format!("down: {what}"),
            Fault::Misconfigured(_) => format!("misconfigured: every job gets the same refusal ({what})"),
        };
        self.state = State::Open { since: now.wall, fault, reason, probes: Probes::new(now.mono) };
        self.breaker = Breaker::default();
    }

    fn recover(&mut self, now: Mono) {
        self.epoch += 1;
        self.state = State::Passing;
        self.in_flight = 0;
        self.hold_until = None;
        self.start_ramp(now);
    }

    fn start_ramp(&mut self, now: Mono) {
        self.dials = Dials::ramp(self.goodput, self.settings, now);
        self.breaker = Breaker::default();
    }

    /// `Retry-After` holds the whole destination only while no ok has come since.
    fn note_retry_after(&mut self, outcome: &Outcome, now: Mono) {
        if outcome.class == Class::Ok {
            self.hold_until = None;
        } else if let Some(after) = outcome.retry_after {
            let until = now.plus(after.min(RetryPolicy::MAX_RETRY_AFTER));
            self.hold_until = Some(self.hold_until.map_or(until, |held| held.max(until)));
        }
    }
}

#[cfg(test)]
mod tests;
